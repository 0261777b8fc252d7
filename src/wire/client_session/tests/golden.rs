//! The bytes that the protocol's description gives.

use super::*;

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
