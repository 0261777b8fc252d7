use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::domain::{ClusterId, Incarnation};
use crate::wire::{SESSION_MAGIC, VERSION};

const CLUSTER: ClusterId = ClusterId([1; 16]);

fn system_key() -> SystemKey {
    SystemKey::new(&[7; 64])
}

fn client_key() -> ClientKey {
    ClientKey::new(&[5; 32])
}

fn process(rank: u8) -> Process {
    Process {
        rank: Rank::new(rank).unwrap(),
        incarnation: Incarnation(10 + u32::from(rank)),
        processes: 3,
    }
}

fn acceptor() -> Acceptor {
    Acceptor {
        process: process(2),
        cluster: CLUSTER,
        keys: vec![
            SessionKey::peer(&system_key()),
            SessionKey::client(&client_key()),
        ],
    }
}

fn peer_connector() -> (Connector, [u8; HELLO_BYTES]) {
    let key = SessionKey::peer(&system_key());
    Connector::new(Some(process(1)), CLUSTER, key, Rank::new(2))
}

fn run(
    (connector, hello): (Connector, [u8; HELLO_BYTES]),
    acceptor: &Acceptor,
) -> (
    Result<Established, SessionError>,
    Result<Unproven, SessionError>,
) {
    let (answer, accepting) = acceptor.hello(&hello, [3; 32]);
    let connecting = connector.hello(&answer, [4; 32]);
    match (connecting, accepting) {
        (Ok((connecting, first)), Ok(accepting)) => match accepting.exchange(&first) {
            Ok((unproven, second)) => (connecting.exchange(&second), Ok(unproven)),
            Err(error) => (Err(SessionError::NotAuthentic), Err(error)),
        },
        (Ok(_), Err(theirs)) => (Err(SessionError::NotAuthentic), Err(theirs)),
        (Err(ours), Ok(_)) => (Err(ours), Err(SessionError::NotAuthentic)),
        (Err(ours), Err(theirs)) => (Err(ours), Err(theirs)),
    }
}

/// Both ends of a session between processes 1 and 2, always with the same keys.
pub(in crate::wire) fn established() -> (Established, Unproven) {
    let (connector, listener) = run(peer_connector(), &acceptor());
    (connector.unwrap(), listener.unwrap())
}

#[test]
fn golden_hello() {
    let (_, hello) = peer_connector();
    let golden = "8a414444730d0a1a 0001 01 01 03 000000 01010101010101010101010101010101 \
                  0000000b 00000000 b118611092d85bf4";
    assert_eq!(hex::encode(hello), golden.replace(' ', ""));
    let decoded = Hello::from_bytes(&hello).unwrap();
    assert_eq!(decoded.sender, Some(process(1)));
    assert_eq!(decoded.to_bytes(), hello);
    assert!(
        !SESSION_MAGIC.starts_with(b"a"),
        "never the beginning of a classic message"
    );
}

/// A client's session can never pass as a peer's, even if the keys were the same.
#[test]
fn golden_keys() {
    let peer = "3733c4129b1fa02f7855e54bd7883778967fd1eabb5f9dd9f8fbc524f0d04109";
    assert_eq!(hex::encode(SessionKey::peer(&system_key()).psk), peer);
    let client = "bc9dbf45e77af0ec155883b0960d0160c79130c8d7062f6af84478da174ed2f0";
    assert_eq!(hex::encode(SessionKey::client(&client_key()).psk), client);
}

/// The whole exchange with fixed ephemeral secrets: what is on the wire may only change together
/// with the version. The bytes were computed from the specification of Noise by other code.
#[test]
fn golden_exchange() {
    let (connector, hello) = peer_connector();
    let (answer, accepting) = acceptor().hello(&hello, [3; 32]);
    let (connecting, first) = connector.hello(&answer, [4; 32]).unwrap();
    let (_, second) = accepting.unwrap().exchange(&first).unwrap();
    let mut session = connecting.exchange(&second).unwrap();
    let frame = session.sealer.seal(&[Bytes::from_static(b"atdd")]).unwrap();
    assert_eq!(
        hex::encode(first),
        "ac01b2209e86354fb853237b5de0f4fab13c7fcbf433a61c019369617fecf10b\
         81e7bb5350df8251c1fee3a09ace0b5e"
    );
    assert_eq!(
        hex::encode(second),
        "5dfedd3b6bd47f6fa28ee15d969d5bb0ea53774d488bdaf9df1c6e0124b3ef22\
         a065bf18b89ab3bcefb43956e9433fa4"
    );
    assert_eq!(
        hex::encode(frame),
        "0014b201529c4de39f0a812fe3344b4c96bf670cb9f9"
    );
}

#[test]
fn both_ends_know_each_other() {
    let (mut connector, mut listener) = established();
    assert_eq!(connector.listener, process(2));
    assert_eq!(listener.connector.sender, Some(process(1)));
    assert_eq!(listener.connector.role, Role::Peer);
    for (sealer, opener) in [
        (&mut connector.sealer, &mut listener.opener),
        (&mut listener.sealer, &mut connector.opener),
    ] {
        let mut sealed = BytesMut::from(sealer.seal(&[Bytes::from_static(b"hello")]).unwrap());
        let mut plaintext = BytesMut::new();
        assert_eq!(opener.open(&mut sealed, &mut plaintext), Ok(true));
        assert_eq!(plaintext, b"hello"[..]);
    }

    let key = SessionKey::client(&client_key());
    let (client, listener) = run(Connector::new(None, CLUSTER, key, None), &acceptor());
    assert_eq!(client.unwrap().listener, process(2));
    let hello = listener.unwrap().connector;
    assert_eq!((hello.role, hello.sender), (Role::Client, None));
}

/// What each end finds in the other's hello, if the session does not come to be for that.
fn refusals(
    connector: (Connector, [u8; HELLO_BYTES]),
    acceptor: &Acceptor,
) -> (Option<HelloError>, Option<HelloError>) {
    let (connector, listener) = run(connector, acceptor);
    let hello = |error| match error {
        SessionError::Hello(error) => Some(error),
        _ => None,
    };
    (hello(connector.unwrap_err()), hello(listener.unwrap_err()))
}

#[test]
fn what_differs_is_said_at_both_ends() {
    let refusals = |connector| refusals(connector, &acceptor());
    let peer = |process, cluster| {
        let key = SessionKey::peer(&system_key());
        Connector::new(Some(process), cluster, key, Rank::new(2))
    };
    let other = ClusterId([9; 16]);
    let cluster = |theirs, ours| Some(HelloError::Cluster { theirs, ours });
    let both = (cluster(CLUSTER, other), cluster(other, CLUSTER));
    assert_eq!(refusals(peer(process(1), other)), both);

    let five = Process {
        processes: 5,
        ..process(1)
    };
    let processes = |theirs, ours| Some(HelloError::Processes { theirs, ours });
    assert_eq!(
        refusals(peer(five, CLUSTER)),
        (processes(3, 5), processes(5, 3))
    );

    let rank = process(2).rank;
    let own = || Some(HelloError::OwnRank { rank });
    assert_eq!(refusals(peer(process(2), CLUSTER)), (own(), own()));

    let expected = Rank::new(3).unwrap();
    let key = SessionKey::peer(&system_key());
    let third = Connector::new(Some(process(1)), CLUSTER, key, Some(expected));
    let theirs = rank;
    let unexpected = HelloError::OtherRank { theirs, expected };
    assert_eq!(refusals(third), (Some(unexpected), None));
}

#[test]
fn another_key_or_role_is_refused() {
    let refusals = |connector| refusals(connector, &acceptor());
    let key = |role| Some(HelloError::Key { role });
    let other = SessionKey::peer(&SystemKey::new(&[8; 64]));
    let peer = Connector::new(Some(process(1)), CLUSTER, other, Rank::new(2));
    assert_eq!(refusals(peer), (key(Role::Peer), key(Role::Peer)));
    let other = SessionKey::client(&ClientKey::new(&[8; 32]));
    let client = Connector::new(None, CLUSTER, other, None);
    assert_eq!(refusals(client), (key(Role::Client), key(Role::Client)));

    // A client that calls itself a process, and a process that does not.
    let role = || (None, Some(HelloError::Role));
    let client = SessionKey::client(&client_key());
    assert_eq!(
        refusals(Connector::new(Some(process(1)), CLUSTER, client, None)),
        role()
    );
    let peer = SessionKey::peer(&system_key());
    assert_eq!(refusals(Connector::new(None, CLUSTER, peer, None)), role());
}

#[test]
fn hellos_that_no_process_sends_are_refused() {
    let (_, good) = peer_connector();
    let with = |at: usize, byte: u8| {
        let mut hello = good;
        hello[at] = byte;
        Hello::from_bytes(&hello).unwrap_err()
    };
    assert_eq!(with(7, 0), HelloError::NoSession);
    assert_eq!(with(9, 2), HelloError::Version { theirs: 2 });
    // role, rank above the processes, no rank, rank 255, and each of the zeroes
    for (at, byte) in [
        (10, 3),
        (11, 4),
        (11, 0),
        (11, 255),
        (13, 1),
        (15, 1),
        (36, 1),
        (39, 1),
    ] {
        assert_eq!(with(at, byte), HelloError::Malformed, "byte {at}");
    }
}

#[test]
fn a_key_identifier_is_not_enough() {
    let mut key = SessionKey::peer(&system_key());
    key.psk[0] ^= 1;
    let connector = Connector::new(Some(process(1)), CLUSTER, key, Rank::new(2));
    let (_, listener) = run(connector, &acceptor());
    assert!(matches!(listener, Err(SessionError::NotAuthentic)));
}

#[test]
fn either_of_two_live_keys_will_do() {
    let mut rotating = acceptor();
    let new = SystemKey::new(&[8; 64]);
    rotating.keys.insert(0, SessionKey::peer(&new));
    let (old, _) = run(peer_connector(), &rotating);
    assert!(old.is_ok());
    let key = SessionKey::peer(&new);
    let (new, _) = run(
        Connector::new(Some(process(1)), CLUSTER, key, None),
        &rotating,
    );
    assert!(new.is_ok());
}

/// A changed bit anywhere in the four messages: no session comes to be in which the listener
/// opens the first frame.
#[test]
fn a_changed_bit_anywhere_ends_the_exchange() {
    for message in 0..4 {
        for bit in (0..8 * HELLO_BYTES).step_by(23) {
            let change = |bytes: &mut [u8; 48], which| {
                if which == message {
                    bytes[bit / 8] ^= 1 << (bit % 8);
                }
            };
            let attempt = || -> Option<bool> {
                let (connector, mut hello) = peer_connector();
                change(&mut hello, 0);
                let (mut answer, accepting) = acceptor().hello(&hello, [3; 32]);
                change(&mut answer, 1);
                let (connecting, mut first) = connector.hello(&answer, [4; 32]).ok()?;
                change(&mut first, 2);
                let (mut listener, mut second) = accepting.ok()?.exchange(&first).ok()?;
                change(&mut second, 3);
                let mut connector = connecting.exchange(&second).ok()?;
                let sealed = connector.sealer.seal(&[Bytes::from_static(b"x")]).ok()?;
                let mut sealed = BytesMut::from(sealed);
                listener.opener.open(&mut sealed, &mut BytesMut::new()).ok()
            };
            assert_eq!(attempt(), None, "message {message}, bit {bit}");
        }
    }
}

/// Whoever recorded a whole session and repeats the connector's part gets an answer to the
/// exchange, but its frames open nothing.
#[test]
fn a_replayed_session_opens_nothing() {
    let (connector, hello) = peer_connector();
    let (answer, accepting) = acceptor().hello(&hello, [3; 32]);
    let (connecting, first) = connector.hello(&answer, [4; 32]).unwrap();
    let (_, second) = accepting.unwrap().exchange(&first).unwrap();
    let mut session = connecting.exchange(&second).unwrap();
    let frame = session
        .sealer
        .seal(&[Bytes::from_static(b"x")])
        .unwrap()
        .to_vec();

    let (_, accepting) = acceptor().hello(&hello, [33; 32]);
    let (mut replayed, other) = accepting.unwrap().exchange(&first).unwrap();
    assert_ne!(other, second);
    let mut frame = BytesMut::from(&frame[..]);
    assert!(
        replayed
            .opener
            .open(&mut frame, &mut BytesMut::new())
            .is_err()
    );
}

/// A listener that sends the connector's own bytes back is refused at the hello.
#[test]
fn reflected_bytes_are_refused() {
    let (connector, hello) = peer_connector();
    let error = connector.hello(&hello, [4; 32]).unwrap_err();
    assert!(matches!(
        error,
        SessionError::Hello(HelloError::OwnRank { .. })
    ));
}

#[test]
fn an_ephemeral_secret_is_given_out_once() {
    let mut once = Ephemeral(Some([1; 32]));
    let mut out = [0; 32];
    assert!(once.try_fill_bytes(&mut out).is_ok());
    assert!(once.try_fill_bytes(&mut out).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn what_is_taken_for_a_hello_is_what_would_be_sent(
        mut bytes in prop::array::uniform32(any::<u8>()),
        zeroes in any::<bool>(),
    ) {
        if zeroes {
            bytes[..2].copy_from_slice(&VERSION.to_be_bytes());
            bytes[2] %= 3;
            bytes[5..8].fill(0);
        }
        let mut hello = [0; HELLO_BYTES];
        hello[..8].copy_from_slice(&SESSION_MAGIC);
        hello[8..40].copy_from_slice(&bytes);
        if zeroes {
            hello[36..].fill(0);
        }
        if let Ok(decoded) = Hello::from_bytes(&hello) {
            prop_assert_eq!(decoded.to_bytes(), hello);
        }
    }
}
