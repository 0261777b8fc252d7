use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::domain::{
    AttachKind, CLIENT_NAME_BYTES_MAX, Generation, Holder, Incarnation, JoinKey, Mode, Rank,
    SECTOR_SIZE, Tag,
};
use crate::wire::{Encoder, MESSAGE_BYTES_MAX, MessageError, MessageStream};

fn encoded(encode: impl FnOnce(&mut Encoder)) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encode(&mut encoder);
    encoder.take().concat()
}

fn message(bytes: &[u8]) -> Bytes {
    let mut stream = MessageStream::new();
    stream.expect_all();
    stream.plaintext.extend_from_slice(bytes);
    stream.next_message().unwrap().unwrap()
}

#[track_caller]
fn golden_question(question: &SessionQuestion, hex_digits: &str) {
    let bytes = encoded(|out| question.encode(out));
    assert_eq!(hex::encode(&bytes), hex_digits.replace(' ', ""));
    assert_eq!(
        SessionQuestion::decode(message(&bytes)).as_ref(),
        Ok(question)
    );
}

#[track_caller]
fn golden_answer(answer: &SessionAnswer, hex_digits: &str) {
    let bytes = encoded(|out| answer.encode(out));
    assert_eq!(hex::encode(&bytes), hex_digits.replace(' ', ""));
    assert_eq!(SessionAnswer::decode(message(&bytes)).as_ref(), Ok(answer));
}

#[test]
fn golden_status() {
    let question = encoded(|out| SessionQuestion::Status.encode(out));
    assert_eq!(question, [0, 0, 0, 1, 0x40]);
    assert_eq!(
        SessionQuestion::decode(message(&question)),
        Ok(SessionQuestion::Status)
    );

    let answer = SessionAnswer::Status(Bytes::from_static(b"{}"));
    let bytes = encoded(|out| answer.encode(out));
    assert_eq!(bytes, [0, 0, 0, 3, 0x50, b'{', b'}']);
    assert_eq!(SessionAnswer::decode(message(&bytes)), Ok(answer));

    let heartbeat = encoded(|out| SessionAnswer::Heartbeat.encode(out));
    assert_eq!(heartbeat, [0, 0, 0, 1, 0]);
    assert_eq!(
        SessionAnswer::decode(message(&heartbeat)),
        Ok(SessionAnswer::Heartbeat)
    );
    assert_eq!(
        SessionQuestion::decode(message(&heartbeat)),
        Ok(SessionQuestion::Heartbeat)
    );
}

#[test]
fn golden_questions() {
    let owner = OwnerId([0xaa; 16]);
    let ids = "aa".repeat(16);
    golden_question(&SessionQuestion::Heartbeat, "00000001 00");
    golden_question(&SessionQuestion::Attachments, "00000001 41");
    golden_question(
        &SessionQuestion::Release { owner },
        &format!("00000011 42 {ids}"),
    );
    golden_question(&SessionQuestion::Detach, "00000001 44");
    let attach = Attach {
        owner,
        kind: AttachKind::Exclusive { join: None },
        take_over: false,
        continues: None,
    };
    golden_question(
        &SessionQuestion::Attach(attach),
        &format!("00000016 43 0000 {ids} 00 00 00"),
    );
    let key = JoinKey([0xbb; 32]);
    golden_question(
        &SessionQuestion::Attach(Attach {
            kind: AttachKind::Exclusive { join: Some(key) },
            take_over: true,
            continues: Some(Generation(6)),
            ..attach
        }),
        &format!(
            "0000003e 43 0000 {ids} 01 {} 01 01 0000000000000006",
            "bb".repeat(32)
        ),
    );
    for (kind, code) in [(AttachKind::Shared, "02"), (AttachKind::ReadOnly, "03")] {
        let attach = Attach { kind, ..attach };
        golden_question(
            &SessionQuestion::Attach(attach),
            &format!("00000016 43 0000 {ids} {code} 00 00"),
        );
    }
    let number = RequestNumber(3);
    golden_question(
        &SessionQuestion::Read {
            number,
            first: 9,
            count: 256,
        },
        "00000015 45 0000000000000003 0000000000000009 00000100",
    );
    golden_question(
        &SessionQuestion::Write {
            number,
            first: 9,
            data: Bytes::from(vec![0xee; SECTOR_SIZE]),
        },
        &format!(
            "00001011 46 0000000000000003 0000000000000009 {}",
            "ee".repeat(SECTOR_SIZE)
        ),
    );
    golden_question(
        &SessionQuestion::Discard {
            number,
            first: 9,
            count: 65_536,
        },
        "00000015 47 0000000000000003 0000000000000009 00010000",
    );
    golden_question(
        &SessionQuestion::Flush { number },
        "00000009 48 0000000000000003",
    );
}

#[test]
fn golden_answers_to_attaches() {
    golden_answer(
        &SessionAnswer::Attachments(Bytes::from_static(b"[]")),
        "00000003 51 5b5d",
    );
    golden_answer(&SessionAnswer::Released(true), "00000002 52 01");
    let mode = Mode::Exclusive {
        owner: OwnerId([0xaa; 16]),
        tag: Tag {
            coordinator: Rank::new(2).unwrap(),
            incarnation: Incarnation(3),
            sequence: 4,
        },
    };
    golden_answer(
        &SessionAnswer::Attached {
            fence: Fence {
                generation: Generation(6),
                mode,
            },
            sectors: 0x1000,
            credit: Credit {
                requests: 7,
                bytes: 8,
            },
        },
        &format!(
            "0000003b 53 0000000000000006 01 {} 02 00000003 0000000000000004 0000000000001000 \
             00000007 0000000000000008",
            "aa".repeat(16)
        ),
    );
    golden_answer(&SessionAnswer::Detached, "00000001 55");
    let by = Generation(6);
    for (refusal, digits) in [
        (
            AttachRefusal::Held(Box::new(stranger())),
            format!(
                "00000028 54 00 02 {} 00 0000000000000006 03 613a31 0000000000000005",
                "aa".repeat(16)
            ),
        ),
        (
            AttachRefusal::Fenced { by },
            "0000000a 54 01 0000000000000006".into(),
        ),
        (
            AttachRefusal::Elsewhere {
                process: Rank::new(3).unwrap(),
            },
            "00000003 54 02 03".into(),
        ),
        (AttachRefusal::Contended, "00000002 54 03".into()),
        (AttachRefusal::ShuttingDown, "00000002 54 04".into()),
    ] {
        golden_answer(&SessionAnswer::AttachRefused(refusal), &digits);
    }
    golden_answer(
        &SessionAnswer::Fenced { by: reading() },
        &format!("00000027 59 {READING}"),
    );
}

#[test]
fn golden_answers_to_operations() {
    let number = RequestNumber(3);
    let data = Bytes::from(vec![0xee; SECTOR_SIZE]);
    golden_answer(
        &SessionAnswer::Values {
            number,
            values: vec![SectorValues::Zeroes(2), SectorValues::Data(data)],
        },
        &format!(
            "00001015 56 0000000000000003 0002 00 00000002 01 00000001 {}",
            "ee".repeat(SECTOR_SIZE)
        ),
    );
    golden_answer(
        &SessionAnswer::Done { number },
        "00000009 57 0000000000000003",
    );
    for (error, digits) in [
        (
            OperationError::Unreadable,
            "0000000a 58 0000000000000003 00".into(),
        ),
        (
            OperationError::PastEnd { sectors: 9 },
            "00000012 58 0000000000000003 01 0000000000000009".into(),
        ),
        (
            OperationError::ReadOnly,
            "0000000a 58 0000000000000003 02".into(),
        ),
        (
            OperationError::Fenced { by: reading() },
            format!("00000030 58 0000000000000003 03 {READING}"),
        ),
        (
            OperationError::TimedOut,
            "0000000a 58 0000000000000003 04".into(),
        ),
        (
            OperationError::ShuttingDown,
            "0000000a 58 0000000000000003 05".into(),
        ),
    ] {
        golden_answer(&SessionAnswer::Failed { number, error }, &digits);
    }
}

fn reading() -> Fence {
    let owner = OwnerId([0xaa; 16]);
    Fence {
        generation: Generation(6),
        mode: Mode::Reading { owner },
    }
}

/// The encoding of [`reading`].
const READING: &str =
    "0000000000000006 02 aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa 00 00000000 0000000000000000";

fn stranger() -> Holder {
    Holder {
        process: Rank::new(2).unwrap(),
        owner: OwnerId([0xaa; 16]),
        kind: AttachKind::Exclusive { join: None },
        generation: Generation(6),
        client: "a:1".into(),
        since: 5,
    }
}

/// Whoever has the key may join; whoever is refused must not be told it.
#[test]
fn clients_are_not_told_the_keys_of_holders() {
    let held = |join| {
        let kind = AttachKind::Exclusive { join };
        let holder = Holder { kind, ..stranger() };
        SessionAnswer::AttachRefused(AttachRefusal::Held(Box::new(holder)))
    };
    let bytes = encoded(|out| held(Some(JoinKey([0xbb; 32]))).encode(out));
    assert_eq!(bytes, encoded(|out| held(None).encode(out)));
    assert_eq!(SessionAnswer::decode(message(&bytes)), Ok(held(None)));
}

#[test]
fn the_longest_messages_of_clients_fit() {
    let data = Bytes::from(vec![1; 256 * SECTOR_SIZE]);
    let number = RequestNumber(u64::MAX);
    let write = SessionQuestion::Write {
        number,
        first: u64::MAX,
        data: data.clone(),
    };
    assert!(encoded(|out| write.encode(out)).len() <= MESSAGE_BYTES_MAX);
    let values = (0..256).map(|at| SectorValues::Data(data.slice(at * 4096..(at + 1) * 4096)));
    let answer = SessionAnswer::Values {
        number,
        values: values.collect(),
    };
    let bytes = encoded(|out| answer.encode(out));
    assert!(bytes.len() <= MESSAGE_BYTES_MAX);
    assert_eq!(SessionAnswer::decode(message(&bytes)), Ok(answer));
}

#[test]
fn what_is_no_message_of_clients_is_refused() {
    let stamps = Bytes::from_static(&[0x10, 1, 2]);
    assert_eq!(
        SessionQuestion::decode(stamps),
        Err(MessageError::Type(0x10))
    );
    let long = Bytes::from_static(&[0x40, 1]);
    assert_eq!(SessionQuestion::decode(long), Err(MessageError::Trailing));
    for code in [0x50, 0x51] {
        let mut status = vec![b' '; STATUS_BYTES_MAX + 2];
        status[0] = code;
        assert_eq!(
            SessionAnswer::decode(Bytes::from(status)),
            Err(MessageError::Long)
        );
    }
    assert_eq!(
        SessionAnswer::decode(Bytes::new()),
        Err(MessageError::Short)
    );
    // No end takes the other's messages for its own.
    assert_eq!(
        SessionQuestion::decode(Bytes::from_static(&[0x55])),
        Err(MessageError::Type(0x55))
    );
    assert_eq!(
        SessionAnswer::decode(Bytes::from_static(&[0x44])),
        Err(MessageError::Type(0x44))
    );
}

#[track_caller]
fn refused_question(hex_digits: &str, error: MessageError) {
    let bytes = hex::decode(hex_digits.replace(' ', "")).unwrap();
    assert_eq!(SessionQuestion::decode(Bytes::from(bytes)), Err(error));
}

#[track_caller]
fn refused_answer(hex_digits: &str, error: MessageError) {
    let bytes = hex::decode(hex_digits.replace(' ', "")).unwrap();
    assert_eq!(SessionAnswer::decode(Bytes::from(bytes)), Err(error));
}

#[test]
fn malformed_questions_are_refused() {
    use MessageError::{Malformed, Short, Trailing, Volume};
    let ids = "aa".repeat(16);
    refused_question(&format!("43 0001 {ids} 00 00 00"), Volume(1));
    refused_question(
        &format!("43 0000 {ids} 04 00 00"),
        Malformed("a kind of attachment"),
    );
    refused_question(&format!("43 0000 {ids} 01 00 00"), Short);
    refused_question(&format!("43 0000 {ids} 00 02 00"), Malformed("a flag"));
    refused_question(&format!("43 0000 {ids} 00 00 01"), Short);
    refused_question(&format!("43 0000 {ids} 00 00 00 00"), Trailing);
    refused_question(&format!("42 {ids} 00"), Trailing);
    let at = "0000000000000003 0000000000000009";
    for (code, one_more) in [("45", "00000101"), ("47", "00010001")] {
        for count in ["00000000", one_more, "ffffffff"] {
            refused_question(
                &format!("{code} {at} {count}"),
                Malformed("a number of sectors"),
            );
        }
    }
    for length in [0, 1, 4095, 4097, 257 * 4096] {
        refused_question(
            &format!("46 {at} {}", "ee".repeat(length)),
            Malformed("the data of a write"),
        );
    }
    refused_question("48 00000000000000", Short);
}

#[test]
fn generations_that_nobody_counted_to_are_refused() {
    let attach = |number| {
        SessionQuestion::Attach(Attach {
            owner: OwnerId([1; 16]),
            kind: AttachKind::Shared,
            take_over: false,
            continues: Some(Generation(number)),
        })
    };
    let question = |number| {
        let bytes = encoded(|out| attach(number).encode(out)).split_off(4);
        SessionQuestion::decode(bytes.into())
    };
    let answer = |number| {
        let answer = SessionAnswer::AttachRefused(AttachRefusal::Fenced {
            by: Generation(number),
        });
        let bytes = encoded(|out| answer.encode(out)).split_off(4);
        SessionAnswer::decode(bytes.into()).map(|decoded| decoded == answer)
    };
    assert_eq!(question(1 << 63), Ok(attach(1 << 63)));
    assert_eq!(answer(1 << 63), Ok(true));
    for number in [(1 << 63) + 1, u64::MAX] {
        let refused = MessageError::Malformed("a generation");
        assert_eq!(question(number), Err(refused));
        assert!(answer(number).is_err());
    }
}

#[test]
fn malformed_answers_are_refused() {
    use MessageError::{Malformed, Short};
    let holder = |kind: &str, name: &str| {
        let ids = "aa".repeat(16);
        format!("54 00 02 {ids} {kind} 0000000000000006 {name} 0000000000000005")
    };
    refused_answer(
        &holder(&format!("01 {}", "bb".repeat(32)), "00"),
        Malformed("a holder"),
    );
    refused_answer(&holder("00", "02 c328"), Malformed("a client's name"));
    let long = format!("41 {}", "61".repeat(CLIENT_NAME_BYTES_MAX + 1));
    refused_answer(&holder("00", &long), Malformed("a client's name"));
    refused_answer(&holder("00", "40 61"), Short);
    refused_answer("54 02 ff", Malformed("a rank"));
    refused_answer("54 05", Malformed("a refusal"));
    refused_answer("58 0000000000000003 06", Malformed("a failure"));
    refused_answer("52 02", Malformed("a flag"));
    let values = |rest: &str| format!("56 0000000000000003 {rest}");
    for faulty in [
        "0000",
        "0001 00 00000000",
        "0001 00 00000101",
        "0002 00 00000100 00 00000001",
        "0001 02 00000001",
    ] {
        refused_answer(&values(faulty), Malformed("the values of a read"));
    }
    refused_answer(&values("ffff 00 00000001"), Short);
    refused_answer(&values("0001 01 00000001 ee"), Short);
}

fn any_kind() -> impl Strategy<Value = AttachKind> {
    prop_oneof![
        prop::option::of(any::<[u8; 32]>()).prop_map(|key| AttachKind::Exclusive {
            join: key.map(JoinKey)
        }),
        Just(AttachKind::Shared),
        Just(AttachKind::ReadOnly),
    ]
}

fn any_data() -> impl Strategy<Value = Bytes> {
    (1usize..4, any::<u8>())
        .prop_map(|(sectors, fill)| Bytes::from(vec![fill; sectors * SECTOR_SIZE]))
}

fn any_generation() -> impl Strategy<Value = Generation> {
    (0..=Generation::MAX.0).prop_map(Generation)
}

fn any_question() -> impl Strategy<Value = SessionQuestion> {
    let owner = || any::<[u8; 16]>().prop_map(OwnerId);
    let number = || any::<u64>().prop_map(RequestNumber);
    let attach = (
        owner(),
        any_kind(),
        any::<bool>(),
        prop::option::of(any_generation()),
    );
    prop_oneof![
        Just(SessionQuestion::Heartbeat),
        Just(SessionQuestion::Status),
        Just(SessionQuestion::Attachments),
        Just(SessionQuestion::Detach),
        owner().prop_map(|owner| SessionQuestion::Release { owner }),
        attach.prop_map(|(owner, kind, take_over, continues)| {
            SessionQuestion::Attach(Attach {
                owner,
                kind,
                take_over,
                continues,
            })
        }),
        (number(), any::<u64>(), 1u32..=256).prop_map(|(number, first, count)| {
            SessionQuestion::Read {
                number,
                first,
                count,
            }
        }),
        (number(), any::<u64>(), any_data()).prop_map(|(number, first, data)| {
            SessionQuestion::Write {
                number,
                first,
                data,
            }
        }),
        (number(), any::<u64>(), 1u32..=65_536).prop_map(|(number, first, count)| {
            SessionQuestion::Discard {
                number,
                first,
                count,
            }
        }),
        number().prop_map(|number| SessionQuestion::Flush { number }),
    ]
}

fn any_refusal() -> impl Strategy<Value = AttachRefusal> {
    let rank = || (1..=Rank::MAX).prop_map(|number| Rank::new(number).unwrap());
    let holder = (
        rank(),
        any::<[u8; 16]>(),
        any_kind(),
        "\\PC{0,16}",
        any::<u64>(),
    );
    prop_oneof![
        holder.prop_map(|(process, owner, kind, client, since)| {
            let kind = match kind {
                AttachKind::Exclusive { .. } => AttachKind::Exclusive { join: None },
                other => other,
            };
            AttachRefusal::Held(Box::new(Holder {
                process,
                owner: OwnerId(owner),
                kind,
                generation: Generation(since / 2),
                client,
                since,
            }))
        }),
        any_generation().prop_map(|by| AttachRefusal::Fenced { by }),
        rank().prop_map(|process| AttachRefusal::Elsewhere { process }),
        Just(AttachRefusal::Contended),
        Just(AttachRefusal::ShuttingDown),
    ]
}

fn any_fence() -> impl Strategy<Value = Fence> {
    (any_generation(), any::<Option<[u8; 16]>>()).prop_map(|(generation, owner)| Fence {
        generation,
        mode: owner.map_or(Mode::Shared, |owner| Mode::Reading {
            owner: OwnerId(owner),
        }),
    })
}

fn any_error() -> impl Strategy<Value = OperationError> {
    prop_oneof![
        Just(OperationError::Unreadable),
        any::<u64>().prop_map(|sectors| OperationError::PastEnd { sectors }),
        Just(OperationError::ReadOnly),
        any_fence().prop_map(|by| OperationError::Fenced { by }),
        Just(OperationError::TimedOut),
        Just(OperationError::ShuttingDown),
    ]
}

fn any_answer() -> impl Strategy<Value = SessionAnswer> {
    let number = || any::<u64>().prop_map(RequestNumber);
    let json = || prop::collection::vec(any::<u8>(), 0..99).prop_map(Bytes::from);
    let values = prop::collection::vec(
        prop_oneof![
            (1u32..9).prop_map(SectorValues::Zeroes),
            any_data().prop_map(SectorValues::Data),
        ],
        1..9,
    );
    let attached = (any_generation(), any::<u64>(), any::<u32>(), any::<u64>());
    prop_oneof![
        Just(SessionAnswer::Heartbeat),
        Just(SessionAnswer::Detached),
        json().prop_map(SessionAnswer::Status),
        json().prop_map(SessionAnswer::Attachments),
        any::<bool>().prop_map(SessionAnswer::Released),
        attached.prop_map(|(generation, sectors, requests, bytes)| {
            SessionAnswer::Attached {
                fence: Fence {
                    generation,
                    mode: Mode::Shared,
                },
                sectors,
                credit: Credit { requests, bytes },
            }
        }),
        any_refusal().prop_map(SessionAnswer::AttachRefused),
        (number(), values).prop_map(|(number, values)| SessionAnswer::Values { number, values }),
        number().prop_map(|number| SessionAnswer::Done { number }),
        (number(), any_error()).prop_map(|(number, error)| SessionAnswer::Failed { number, error }),
        any_fence().prop_map(|by| SessionAnswer::Fenced { by }),
    ]
}

/// What is decoded is exactly what would be sent.
fn decoded_is_what_is_sent(bytes: &[u8]) -> Result<(), TestCaseError> {
    if let Ok(question) = SessionQuestion::decode(Bytes::copy_from_slice(bytes)) {
        prop_assert_eq!(&encoded(|out| question.encode(out))[4..], bytes);
    }
    if let Ok(answer) = SessionAnswer::decode(Bytes::copy_from_slice(bytes)) {
        prop_assert_eq!(&encoded(|out| answer.encode(out))[4..], bytes);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn messages_of_clients_survive_the_wire(question in any_question(), answer in any_answer()) {
        let bytes = encoded(|out| question.encode(out));
        prop_assert_eq!(SessionQuestion::decode(message(&bytes)), Ok(question));
        let bytes = encoded(|out| answer.encode(out));
        prop_assert_eq!(SessionAnswer::decode(message(&bytes)), Ok(answer));
    }

    #[test]
    fn no_bytes_make_the_decoders_panic(
        code in prop_oneof![Just(0u8), 0x40u8..0x60],
        body in prop::collection::vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>()], 0..200),
    ) {
        decoded_is_what_is_sent(&[&[code][..], &body].concat())?;
    }

    #[test]
    fn a_changed_message_of_clients_never_makes_the_decoders_panic(
        question in any_question(),
        answer in any_answer(),
        at in any::<prop::sample::Index>(),
        change in 1u8..,
    ) {
        for bytes in [
            encoded(|out| question.encode(out)),
            encoded(|out| answer.encode(out)),
        ] {
            let mut bytes = bytes[4..].to_vec();
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            decoded_is_what_is_sent(&bytes)?;
        }
    }
}
