//! What is no message, or one that neither end sends.

use super::*;

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
