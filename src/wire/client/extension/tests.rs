mod golden;

use proptest::prelude::*;

use super::*;
use crate::wire::auth::{ClientKey, Tagger};
use crate::wire::client::request::{
    ClientRequest, Decoded, Glance, bytes_missing, decode_request, glance,
};
use crate::wire::client::response::{
    ClientResponse, RESPONSE_HEAD_BYTES, ResponseError, decode_answer, decode_response, seal_pieces,
};
use crate::wire::client::tags::SessionTagger;

fn plain() -> ClientKey {
    ClientKey::new(&[5; 32])
}

/// The bytes `a0` to `af`.
fn session() -> ConnectionSession {
    ConnectionSession(std::array::from_fn(|at| 0xa0 + u8::try_from(at).unwrap()))
}

fn of_requests() -> SessionTagger {
    session().of_requests(&plain())
}

fn of_responses() -> SessionTagger {
    session().of_responses(&plain())
}

fn request(number: u64, sector: u64, command: ClientCommand) -> ClientRequest {
    ClientRequest {
        number,
        sector,
        command,
    }
}

fn encoded(request: &ClientRequest, key: &dyn Tagger) -> Vec<u8> {
    let mut out = BytesMut::new();
    request.encode(key, &mut out);
    out.to_vec()
}

/// A message of these fields with its tag.
fn tagged(fields: &[u8], key: &dyn Tagger) -> Vec<u8> {
    [fields, &key.tag(&[fields])].concat()
}

fn decode_all(key: &dyn Tagger, bytes: &[u8]) -> Vec<Decoded> {
    let mut stream = BytesMut::from(bytes);
    std::iter::from_fn(|| decode_request(key, &mut stream)).collect()
}

fn attach(kind: AttachKind, take_over: bool, continues: Option<u64>) -> ClientCommand {
    let attach = Attach {
        owner: OwnerId([0x11; 16]),
        kind,
        take_over,
        continues: continues.map(Generation),
    };
    let session = session();
    ClientCommand::Attach { attach, session }
}

fn answer(generation: u64, process: u8, holder: &str) -> AttachAnswer {
    AttachAnswer {
        generation: Generation(generation),
        sectors: 256,
        data_sectors_max: DATA_SECTORS_MAX,
        discard_sectors_max: DISCARD_SECTORS_MAX,
        heartbeat_ms: 500,
        process: Rank::new(process).unwrap(),
        holder: holder.into(),
    }
}

#[test]
fn what_was_read_is_one_response_of_as_many_pieces_as_there_are() {
    let pieces = [vec![7; SECTOR_SIZE], vec![8; 2 * SECTOR_SIZE]].map(Bytes::from);
    let (head, tag) = seal_pieces(2, ClientKind::ReadRange, &pieces, &of_responses());
    let bytes = [&head[..], &pieces.concat(), &tag].concat();
    let decode = |sectors| {
        let mut stream = BytesMut::from(&bytes[..]);
        decode_answer(&of_responses(), &mut stream, |number| {
            assert_eq!(number, 2);
            sectors
        })
    };
    let response = decode(Some(3)).unwrap().unwrap();
    assert_eq!((response.number, response.status), (2, ClientStatus::Ok));
    assert_eq!(response.content, pieces.concat());
    assert_eq!(decode(Some(2)), Err(ResponseError::WrongTag));
    assert_eq!(decode(Some(4)), Ok(None));
    for none in [None, Some(0), Some(DATA_SECTORS_MAX + 1)] {
        assert_eq!(decode(none), Err(ResponseError::Malformed));
    }

    // The golden bytes of one sector.
    let (head, tag) = seal_pieces(2, ClientKind::ReadRange, &pieces[..1], &of_responses());
    assert_eq!(hex::encode(head), "61746464000000c10000000000000002");
    let golden = "86dfb57a160292488658b814d182e42500000000000000000000000000000000";
    assert_eq!(hex::encode(tag), golden);
    assert_eq!(head.len(), RESPONSE_HEAD_BYTES);
}

#[test]
fn a_tag_of_another_session_or_direction_or_of_none_is_wrong() {
    let read = request(2, 8, ClientCommand::ReadRange { count: 3 });
    let other = ConnectionSession([1; 16]).of_requests(&plain());
    for wrong in [&plain() as &dyn Tagger, &other, &of_responses()] {
        let wrong_tag = Decoded::WrongTag {
            number: 2,
            kind: ClientKind::ReadRange,
        };
        assert_eq!(
            decode_all(&of_requests(), &encoded(&read, wrong)),
            [wrong_tag]
        );
    }
}

/// An attach whose byte at this place of the whole message is another.
fn changed(at: usize, byte: u8) -> Vec<Decoded> {
    let good = request(1, 0, attach(AttachKind::Shared, false, None));
    let mut fields = encoded(&good, &plain());
    fields.truncate(fields.len() - TAG_BYTES);
    fields[at] = byte;
    decode_all(&plain(), &tagged(&fields, &plain()))
}

#[test]
fn an_attach_of_fields_that_make_none_is_malformed() {
    let malformed = Decoded::Malformed {
        number: 1,
        kind: ClientKind::Attach,
    };
    for (at, byte) in [
        (40, 4),
        (41, 4),
        (41, 0x80),
        (42, 1),
        (47, 1),
        (56, 1),
        (87, 1),
    ] {
        assert_eq!(
            changed(at, byte),
            std::slice::from_ref(&malformed),
            "offset {at}"
        );
    }
    // A generation that is none only if it is to be continued.
    assert_eq!(changed(48, 0xff), changed(24, 0x11));
    assert_eq!(
        changed(41, 2),
        [Decoded::Request(request(
            1,
            0,
            attach(AttachKind::Shared, false, Some(0)),
        ))]
    );
}

#[test]
fn a_count_that_none_may_have_is_found_before_anything_is_kept_for_it() {
    let range = |code: u8, count: u32, zero: u32| {
        let mut fields = b"atdd\0\0\0".to_vec();
        fields.push(code);
        fields.extend(9u64.to_be_bytes());
        fields.extend(8u64.to_be_bytes());
        fields.extend(count.to_be_bytes());
        fields.extend(zero.to_be_bytes());
        fields
    };
    let after = request(10, 1, ClientCommand::Read);
    for (code, kind, count, zero) in [
        (0x81, ClientKind::ReadRange, 0, 0),
        (0x81, ClientKind::ReadRange, DATA_SECTORS_MAX + 1, 0),
        (0x81, ClientKind::ReadRange, u32::MAX, 0),
        (0x81, ClientKind::ReadRange, 1, 1),
        (0x83, ClientKind::Discard, 0, 0),
        (0x83, ClientKind::Discard, DISCARD_SECTORS_MAX + 1, 0),
    ] {
        let mut bytes = tagged(&range(code, count, zero), &plain());
        bytes.extend(encoded(&after, &plain()));
        let malformed = Decoded::Malformed { number: 9, kind };
        let expected = [malformed, Decoded::Request(after.clone())];
        assert_eq!(decode_all(&plain(), &bytes), expected, "{kind:?} {count}");
    }
    for count in [0, DATA_SECTORS_MAX + 1, u32::MAX] {
        // Eight bytes are thrown away, and what follows them is searched.
        let mut bytes = range(0x82, count, 0);
        bytes.extend(encoded(&after, &plain()));
        let unmeasured = Decoded::Unmeasured { number: 9 };
        let expected = [unmeasured, Decoded::Request(after.clone())];
        assert_eq!(decode_all(&plain(), &bytes), expected);
        assert_eq!(bytes_missing(&bytes), 0);
    }
    let most = range(0x82, DATA_SECTORS_MAX, 0);
    assert_eq!(bytes_missing(&most), 256 * SECTOR_SIZE + TAG_BYTES);
    assert_eq!(decode_all(&plain(), &most), []);
}

/// A driver of another key hears that, but bytes that only begin as an ATTACH are no message.
#[test]
fn what_names_a_sector_and_must_not_is_of_no_known_type() {
    for code in [0x80, 0x84, 0x85, 0x86] {
        let mut bytes = b"atdd\0\0\0".to_vec();
        bytes.push(code);
        let after = request(1, 1, ClientCommand::Read);
        bytes.extend(encoded(&after, &plain()));
        assert_eq!(decode_all(&plain(), &bytes), [Decoded::Request(after)]);
    }
    let attach = request(3, 0, attach(AttachKind::Shared, false, None));
    let wrong_tag = Decoded::WrongTag {
        number: 3,
        kind: ClientKind::Attach,
    };
    let other = ClientKey::new(&[6; 32]);
    assert_eq!(decode_all(&plain(), &encoded(&attach, &other)), [wrong_tag]);
}

/// Nobody has to be given a mebibyte before anything of his was authenticated.
#[test]
fn a_glance_knows_all_requests_but_the_long_one() {
    let attach = encoded(
        &request(3, 0, attach(AttachKind::Shared, false, None)),
        &plain(),
    );
    assert_eq!(glance(&plain(), &attach), Glance::Request);
    assert_eq!(glance(&plain(), &attach[..135]), Glance::Incomplete);
    let write = request(3, 8, ClientCommand::WriteRange(vec![7; SECTOR_SIZE].into()));
    let write = encoded(&write, &plain());
    for length in [8, 24, 31, 32, 100, write.len()] {
        assert_eq!(glance(&plain(), &write[..length]), Glance::Garbage(8));
    }
}

#[test]
fn answers_that_are_none_are_refused() {
    let good = answer(7, 3, "10.0.0.9:1").encode();
    assert!(AttachAnswer::decode(&good).is_some());
    assert_eq!(AttachAnswer::decode(&good[1..]), None);
    for (at, byte) in [(0, 0xff), (28, 0), (29, 1), (48, 0xff), (95, 1)] {
        let mut bad = good.to_vec();
        bad[at] = byte;
        assert_eq!(AttachAnswer::decode(&bad), None, "offset {at}");
    }
    let longest = answer(7, 3, &"x".repeat(CLIENT_NAME_BYTES_MAX));
    assert_eq!(AttachAnswer::decode(&longest.encode()), Some(longest));
}

fn any_command() -> impl Strategy<Value = (u64, ClientCommand)> {
    let kind = prop_oneof![
        Just(AttachKind::Exclusive { join: None }),
        any::<[u8; 32]>().prop_map(|join| AttachKind::Exclusive {
            join: Some(JoinKey(join))
        }),
        Just(AttachKind::Shared),
        Just(AttachKind::ReadOnly),
    ];
    let attach = (any::<[u8; 16]>(), kind, any::<bool>(), any::<Option<u32>>());
    let attach = attach.prop_map(|(owner, kind, take_over, continues)| Attach {
        owner: OwnerId(owner),
        kind,
        take_over,
        continues: continues.map(|it| Generation(it.into())),
    });
    let attach = (attach, any::<[u8; 16]>()).prop_map(|(attach, session)| {
        let session = ConnectionSession(session);
        ClientCommand::Attach { attach, session }
    });
    prop_oneof![
        attach.prop_map(|command| (0, command)),
        Just((0, ClientCommand::Heartbeat)),
        Just((0, ClientCommand::Detach)),
        Just((0, ClientCommand::Hello)),
        any::<u64>().prop_map(|sector| (sector, ClientCommand::Read)),
        (any::<u64>(), 1..=DATA_SECTORS_MAX)
            .prop_map(|(sector, count)| (sector, ClientCommand::ReadRange { count })),
        (any::<u64>(), 1..=DISCARD_SECTORS_MAX)
            .prop_map(|(sector, count)| (sector, ClientCommand::Discard { count })),
        (any::<u64>(), 1usize..=3, any::<u8>()).prop_map(|(sector, count, fill)| {
            let content = Bytes::from(vec![fill; count * SECTOR_SIZE]);
            (sector, ClientCommand::WriteRange(content))
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn requests_survive_the_wire_in_any_chunks_and_among_garbage(
        requests in prop::collection::vec((any::<u64>(), any_command(), 0usize..12), 0..6),
        chunk in 1usize..5000,
    ) {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for (number, (sector, command), garbage) in requests {
            bytes.extend(std::iter::repeat_n(b'a', garbage));
            let request = request(number, sector, command);
            bytes.extend(encoded(&request, &of_requests()));
            expected.push(Decoded::Request(request));
        }
        let mut stream = BytesMut::new();
        let mut found = Vec::new();
        for piece in bytes.chunks(chunk) {
            stream.extend_from_slice(piece);
            while let Some(decoded) = decode_request(&of_requests(), &mut stream) {
                found.push(decoded);
            }
            // What it says to be missing never reaches past the request.
            prop_assert!(found.len() == expected.len() || bytes_missing(&stream) > 0);
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn no_bytes_make_the_decoders_panic(
        code in 0x7f_u8..0x88,
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let stream = [&b"atdd\0\0\0"[..], &[code], &bytes].concat();
        for decoded in decode_all(&plain(), &stream) {
            let refused = matches!(
                decoded,
                Decoded::WrongTag { .. } | Decoded::Unmeasured { .. }
            );
            prop_assert!(refused);
        }
        glance(&plain(), &stream);
        bytes_missing(&stream);
        AttachAnswer::decode(&bytes);
    }
}
