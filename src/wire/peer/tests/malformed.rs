//! What is no message, or one that no peer sends.

use super::*;

#[track_caller]
fn refused(hex_digits: &str, error: MessageError) {
    let bytes = hex::decode(hex_digits.replace(' ', "")).unwrap();
    assert_eq!(PeerMessage::decode(Bytes::from(bytes), ASKER), Err(error));
}

#[test]
fn malformed_messages_are_refused() {
    use MessageError::{Malformed, Short, Trailing, Type};
    let shared = format!("0000000000000006 00 {}", "00".repeat(29));
    let head = &format!("03 0000000000000004 01 {shared}");
    let stamp = "0000000000000001 0000000000000002 0000000000000003 04 00000005";
    let zero = "0".repeat(58);
    refused("00 00", Trailing);
    refused("7f", Type(0x7f));
    refused("40", Type(0x40));
    refused(&format!("10 {head} 0001000000000008 000000"), Short);
    refused(
        &format!("10 {head} 0001000000000008 00000000"),
        Malformed("a range of sectors"),
    );
    refused(
        &format!("10 {head} 0001ffffffffffff 00000002"),
        Malformed("a range of sectors"),
    );
    refused(&format!("10 {head} 0001000000000008 00000001 00"), Trailing);
    let values = format!("11 {head} 0001000000000008 00000004");
    refused(&format!("{values} ffff 00000001 00"), Short);
    refused(
        &format!("{values} 0001 00000003 00"),
        Malformed("the votes of a question"),
    );
    refused(&format!("{values} 0001 00000004 03"), Malformed("a vote"));
    refused(
        &format!("{values} 0001 00000004 02 {zero}"),
        Malformed("a stamp"),
    );
    refused(
        &format!("{values} 0001 00000000 00"),
        Malformed("a run of votes"),
    );
    refused(
        &format!("{values} 0002 00000002 00 00000002 00"),
        Malformed("a run of votes"),
    );
    refused(
        &format!("{values} 0002 ffffffff 00 00000001 01"),
        Malformed("a run of votes"),
    );
    refused(&format!("12 {head} 0000"), Malformed("the span of a store"));
    let extent = |first: &str, rest: &str| format!("{first} 00000004 {rest}");
    let tombstone = format!("{stamp} 00");
    let one = extent("0001000000000008", &tombstone);
    refused(&format!("12 {head} ffff {one}"), Short);
    refused(
        &format!("12 {head} 0002 {one} {one}"),
        Malformed("the order of values"),
    );
    let other_volume = extent("0002000000000008", &tombstone);
    refused(
        &format!("12 {head} 0002 {one} {other_volume}"),
        Malformed("the span of a store"),
    );
    let unstamped = extent("0001000000000008", &format!("{zero} 00"));
    refused(&format!("12 {head} 0001 {unstamped}"), Malformed("a stamp"));
    for content in ["02", "03"] {
        refused(
            &format!(
                "12 {head} 0001 {}",
                extent("0001000000000008", &format!("{stamp} {content}"))
            ),
            Malformed("a content"),
        );
    }
    refused(
        &format!(
            "12 {head} 0001 {}",
            extent("0001000000000008", &format!("{stamp} 01 00"))
        ),
        Short,
    );
    let ids = "ab".repeat(16);
    let credit = "00000007 0000000000000008";
    refused(
        &format!("01 {ids} 02 {credit} 0000 0000"),
        Malformed("a flag"),
    );
    refused(
        &format!("01 {ids} 01 {credit} 0001 00 {ids}"),
        Malformed("a birth"),
    );
    refused(
        &format!(
            "01 {ids} 01 {credit} 00ff {}",
            format!("01{ids}").repeat(255)
        ),
        Malformed("a birth"),
    );
    refused("", Short);
}

/// A process that had taken a generation or a timestamp without a next one for true panicked when it
/// was to count on from there.
#[test]
fn numbers_that_nobody_counted_to_are_refused() {
    const HIGHEST: u64 = 1 << 63;
    let store = |settled, generation, timestamp| {
        let stamp = Stamp {
            settled: Generation(settled),
            generation: Generation(generation),
            timestamp,
            ..stamp(1)
        };
        PeerMessage::Request(Request {
            id: request_id(0, 1, 0),
            authority: exclusive(1),
            question: Question::Store {
                extents: vec![Extent::new(range(1, 1), stamp, Content::Zeroes)],
            },
        })
    };
    let request = |authority, question| {
        PeerMessage::Request(Request {
            id: request_id(ATTACH_SHARD, 1, 0),
            authority,
            question,
        })
    };
    let reply = |answer| {
        PeerMessage::Reply(Reply {
            id: request_id(0, 1, 0),
            answer,
        })
    };
    let holder = |generation| Holder {
        generation: Generation(generation),
        ..holder(AttachKind::Shared, "x")
    };
    let vote = |timestamp| {
        let votes = Runs::uniform(1, Vote::Stamp(stamp(timestamp)));
        let values = Vec::new();
        reply(Answer::Held(Held { votes, values }))
    };
    let with = |number: u64| {
        let fence = exclusive(number);
        let continues = Some(Generation(number));
        let holders = vec![holder(number)];
        [
            (request(fence, Question::Fence), "a fence"),
            (
                request(exclusive(1), Question::Open { continues }),
                "a generation",
            ),
            (reply(Answer::Refused { fence }), "a fence"),
            (
                reply(Answer::Fence {
                    fence,
                    holders: Vec::new(),
                }),
                "a fence",
            ),
            (
                reply(Answer::Fence {
                    fence: exclusive(1),
                    holders,
                }),
                "a generation",
            ),
            (store(number, 1, 1), "a stamp"),
            (store(1, number, 1), "a stamp"),
            (store(1, 1, number), "a stamp"),
            (vote(number), "a stamp"),
        ]
    };
    for (message, _) in with(HIGHEST) {
        assert_eq!(decoded(&encoded(&message)), Ok(vec![message]));
    }
    for number in [HIGHEST + 1, u64::MAX] {
        for (message, what) in with(number) {
            let refused = Err(MessageError::Malformed(what));
            assert_eq!(decoded(&encoded(&message)), refused, "{message:?}");
        }
    }
}

#[test]
fn malformed_messages_of_attachments_are_refused() {
    use MessageError::{Malformed, Short, Trailing};
    let id = "03 0000000000000004 01";
    let fence = exclusive_digits(6);
    // A shared fence with an owner, and a coordinator that there is none of.
    refused(
        &format!("13 {id} {}", fence.replacen(" 01 ", " 00 ", 1)),
        Malformed("a fence"),
    );
    refused(
        &format!("13 {id} {}", fence.replacen(" 02 ", " ff ", 1)),
        Malformed("a fence"),
    );
    refused(&format!("13 {id} {fence} 00"), Trailing);
    refused(&format!("14 {id} {fence}"), Short);
    refused(&format!("14 {id} {fence} 02"), Malformed("a flag"));
    refused(&format!("14 {id} {fence} 00 00"), Trailing);
    refused(&format!("14 {id} {fence} 01 00"), Short);
    refused(&format!("24 {id} 00"), Trailing);
    refused(&format!("25 {id} 00"), Short);
    let good = holder_digits("00", "00");
    refused(&format!("23 {id} {fence} 0002 {good}"), Short);
    refused(&format!("23 {id} {fence} 0000 {good}"), Trailing);
    refused(
        &format!("23 {id} {fence} 0001 {}", holder_digits("04", "00")),
        Malformed("a kind of attachment"),
    );
    refused(
        &format!("23 {id} {fence} 0001 {}", holder_digits("00", "02 c328")),
        Malformed("a client's name"),
    );
    refused(
        &format!("23 {id} {fence} 0001 ff {}", &good[2..]),
        Malformed("a rank"),
    );
    let ids = "ab".repeat(16);
    refused(
        &format!(
            "01 {ids} 01 00000007 0000000000000008 0000 0011 {}",
            good.repeat(17)
        ),
        Malformed("the holders"),
    );

    let extent =
        |stamp: &str, content: &str| format!("0001 0001000000000008 00000004 {stamp} {content}");
    let settled = |rest: &str| format!("0000000000000006 {rest}");
    // Unchanged is for stores, and its stamp has nothing but what is settled.
    let unchanged = extent(&settled(&"0".repeat(42)), "02");
    refused(
        &format!("20 {id} 0001 00000004 00 {unchanged}"),
        Malformed("a content"),
    );
    refused(
        &format!("12 {id} {fence} {}", extent(&"0".repeat(58), "02")),
        Malformed("a stamp"),
    );
    // Whoever wrote data has a rank.
    refused(
        &format!(
            "12 {id} {fence} {} {}",
            extent(&settled(&"0".repeat(42)), "01"),
            "ee".repeat(4 * SECTOR_SIZE)
        ),
        Malformed("a content"),
    );
    for rest in [
        "0000000000000006 0000000000000000 00 00000000",
        "0000000000000000 0000000000000001 00 00000000",
        "0000000000000000 0000000000000000 00 00000001",
    ] {
        refused(
            &format!("12 {id} {fence} {}", extent(&settled(rest), "00")),
            Malformed("a stamp"),
        );
    }
}

#[test]
fn lengths_are_checked_before_anything_is_kept() {
    let stream_of = |bytes: &[u8]| {
        let mut stream = MessageStream::new();
        stream.plaintext.extend_from_slice(bytes);
        stream
    };
    let mut first = stream_of(&[0, 0, 0x20, 1]);
    assert_eq!(first.next_message(), Err(MessageError::Long));
    first.expect_all();
    assert_eq!(first.next_message(), Ok(None));
    let mut longest = stream_of(&[0, 0x20, 0, 1]);
    longest.expect_all();
    assert_eq!(longest.next_message(), Err(MessageError::Long));
    assert_eq!(
        stream_of(&[0, 0, 0, 0]).next_message(),
        Err(MessageError::Short)
    );
}
