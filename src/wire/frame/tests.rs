use proptest::prelude::*;

use super::*;
use crate::wire::session::tests::established;

fn pieces(lengths: &[usize]) -> Vec<Bytes> {
    let fill =
        |(at, &length): (usize, &usize)| Bytes::from(vec![u8::try_from(at % 251).unwrap(); length]);
    lengths.iter().enumerate().map(fill).collect()
}

fn open_all(opener: &mut Opener, sealed: &[u8]) -> Result<Vec<u8>, FrameError> {
    let mut sealed = BytesMut::from(sealed);
    let mut plaintext = BytesMut::new();
    while opener.open(&mut sealed, &mut plaintext)? {}
    Ok(plaintext.to_vec())
}

#[test]
fn a_batch_is_as_few_frames_as_hold_it() {
    let (mut connector, mut listener) = established();
    for (lengths, frames) in [
        (&[][..], 0),
        (&[0, 1], 1),
        (&[100, 4096, 100, 4096], 1),
        (&[FRAME_PAYLOAD_MAX], 1),
        (&[1, FRAME_PAYLOAD_MAX], 2),
        (&[80, 1 << 20, 80], 17),
    ] {
        let pieces = pieces(lengths);
        let total: usize = lengths.iter().sum();
        let sealed = connector.sealer.seal(&pieces).unwrap().to_vec();
        assert_eq!(sealed.len(), total + frames * FRAME_OVERHEAD);
        assert_eq!(open_all(&mut listener.opener, &sealed), Ok(pieces.concat()));
        connector.sealer.rest();
    }
}

#[test]
fn a_changed_bit_is_never_opened() {
    let (mut connector, mut listener) = established();
    let sealed = connector.sealer.seal(&pieces(&[40])).unwrap().to_vec();
    for bit in 0..8 * sealed.len() {
        // Nothing is opened, so that one opener will do.
        let mut changed = sealed.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let result = open_all(&mut listener.opener, &changed);
        // A greater length waits for bytes that never come.
        assert!(result.as_ref().map_or(true, Vec::is_empty), "bit {bit}");
        assert!(
            bit < 16 || result == Err(FrameError::NotAuthentic),
            "bit {bit}"
        );
    }
}

#[test]
fn frames_are_opened_once_in_their_order_and_direction() {
    let (mut connector, mut listener) = established();
    let first = connector.sealer.seal(&pieces(&[10])).unwrap().to_vec();
    let second = connector.sealer.seal(&pieces(&[20])).unwrap().to_vec();
    let refused = Err(FrameError::NotAuthentic);
    assert_eq!(
        open_all(&mut connector.opener, &first),
        refused,
        "reflected"
    );
    assert_eq!(open_all(&mut listener.opener, &second), refused, "left out");
    assert!(open_all(&mut listener.opener, &first).is_ok());
    assert_eq!(open_all(&mut listener.opener, &first), refused, "repeated");
    assert!(open_all(&mut listener.opener, &second).is_ok());
}

#[test]
fn a_direction_is_used_up_in_the_end() {
    let (mut connector, mut listener) = established();
    connector.sealer.frames = FRAMES_MAX - 1;
    listener.opener.frames = FRAMES_MAX - 1;
    let last = connector.sealer.seal(&pieces(&[10])).unwrap().to_vec();
    assert!(open_all(&mut listener.opener, &last).is_ok());
    assert_eq!(
        connector.sealer.seal(&pieces(&[10])),
        Err(FrameError::UsedUp)
    );
    assert_eq!(
        open_all(&mut listener.opener, &last),
        Err(FrameError::UsedUp)
    );
}

#[test]
fn a_frame_without_content_is_refused() {
    let (_, mut listener) = established();
    let empty = [&[0, 16][..], &[0; 16]].concat();
    assert_eq!(
        open_all(&mut listener.opener, &empty),
        Err(FrameError::Empty)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn frames_survive_any_chunks(
        lengths in prop::collection::vec(prop_oneof![0usize..300, 60_000usize..140_000], 0..5),
        chunk in 1usize..50_000,
    ) {
        let (mut connector, mut listener) = established();
        let pieces = pieces(&lengths);
        let sealed = connector.sealer.seal(&pieces).unwrap();
        let (mut received, mut plaintext) = (BytesMut::new(), BytesMut::new());
        for part in sealed.chunks(chunk) {
            received.extend_from_slice(part);
            while listener.opener.open(&mut received, &mut plaintext).unwrap() {}
        }
        prop_assert!(received.is_empty());
        prop_assert_eq!(plaintext, pieces.concat());
    }

    #[test]
    fn no_bytes_make_the_opener_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (_, mut listener) = established();
        prop_assert!(open_all(&mut listener.opener, &bytes).map_or(true, |opened| opened.is_empty()));
    }
}
