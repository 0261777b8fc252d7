//! The bytes that the protocol's description gives.

use super::*;

#[track_caller]
fn golden(message: PeerMessage, hex_digits: &str) {
    let bytes = encoded(&message);
    assert_eq!(hex::encode(&bytes), hex_digits.replace(' ', ""));
    assert_eq!(decoded(&bytes), Ok(vec![message]));
}

#[test]
fn golden_heartbeat_and_introduction() {
    golden(PeerMessage::Heartbeat, "00000001 00");
    let mut introduction = Introduction {
        store: StoreId([0xab; 16]),
        birth: None,
        empty: true,
        holders: Vec::new(),
    };
    let credit = Credit {
        requests: 7,
        bytes: 8,
    };
    golden(
        PeerMessage::Introduction {
            introduction: introduction.clone(),
            credit,
        },
        "00000022 01 abababababababababababababababab 01 00000007 0000000000000008 0000 0000",
    );
    introduction.birth = Some(Birth {
        stores: vec![Some(StoreId([0xcd; 16])), None],
    });
    introduction.empty = false;
    golden(
        PeerMessage::Introduction {
            introduction: introduction.clone(),
            credit,
        },
        "00000044 01 abababababababababababababababab 00 00000007 0000000000000008 0002 \
         01 cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd 00 00000000000000000000000000000000 0000",
    );
    introduction.birth = None;
    let key = JoinKey([0xbb; 32]);
    introduction.holders = vec![
        holder(AttachKind::Exclusive { join: Some(key) }, "a:1"),
        holder(AttachKind::Shared, ""),
    ];
    golden(
        PeerMessage::Introduction {
            introduction,
            credit,
        },
        &format!(
            "0000008b 01 abababababababababababababababab 00 00000007 0000000000000008 0000 0002 \
             {} {}",
            holder_digits(&format!("01 {}", "bb".repeat(32)), "03 613a31"),
            holder_digits("02", "00"),
        ),
    );
}

#[test]
fn golden_requests() {
    let shared = format!("0000000000000006 00 {}", "00".repeat(29));
    let request = |question| {
        PeerMessage::Request(Request {
            id: request_id(3, 4, 1),
            authority: Fence {
                generation: Generation(6),
                mode: Mode::Shared,
            },
            question,
        })
    };
    golden(
        request(Question::Stamps { range: range(8, 2) }),
        &format!("0000003d 10 03 0000000000000004 01 {shared} 0001000000000008 00000002"),
    );
    let mut held = Runs::uniform(1, Vote::Lost);
    held.push(2, Vote::ZERO);
    held.push(1, Vote::Stamp(stamp(3)));
    golden(
        request(Question::Values {
            range: range(8, 4),
            held,
        }),
        &format!(
            "0000006b 11 03 0000000000000004 01 {shared} 0001000000000008 00000004 0003 \
             00000001 00 00000002 01 \
             00000001 02 0000000000000001 0000000000000002 0000000000000003 04 00000005"
        ),
    );
    let data = Content::Data(Bytes::from(vec![0xee; SECTOR_SIZE]));
    let extents = vec![
        Extent::new(range(8, 4), stamp(3), Content::Zeroes),
        Extent::new(range(12, 1), stamp(4), data),
    ];
    golden(
        request(Question::Store { extents }),
        &format!(
            "00001087 12 03 0000000000000004 01 {shared} 0002 \
             0001000000000008 00000004 \
             0000000000000001 0000000000000002 0000000000000003 04 00000005 00 \
             000100000000000c 00000001 \
             0000000000000001 0000000000000002 0000000000000004 04 00000005 01 {}",
            "ee".repeat(SECTOR_SIZE)
        ),
    );
}

#[test]
fn golden_requests_of_attachments() {
    let request = |question| {
        PeerMessage::Request(Request {
            id: request_id(3, 4, 1),
            authority: exclusive(6),
            question,
        })
    };
    let head = format!("03 0000000000000004 01 {}", exclusive_digits(6));
    golden(request(Question::Fence), &format!("00000031 13 {head}"));
    golden(
        request(Question::Open { continues: None }),
        &format!("00000032 14 {head} 00"),
    );
    golden(
        request(Question::Open {
            continues: Some(Generation(5)),
        }),
        &format!("0000003a 14 {head} 01 0000000000000005"),
    );
    // What is settled: what is held already, and what was never written.
    let extents = vec![
        Extent::new(range(8, 4), settled(6), Content::Unchanged),
        Extent::new(range(12, 4), settled(6), Content::Zeroes),
    ];
    let stamp = format!("0000000000000006 {}", "0".repeat(42));
    golden(
        request(Question::Store { extents }),
        &format!(
            "00000087 12 {head} 0002 \
             0001000000000008 00000004 {stamp} 02 \
             000100000000000c 00000004 {stamp} 00"
        ),
    );
}

#[test]
fn golden_replies_of_attachments() {
    let reply = |answer| {
        let id = request_id(3, 4, 1);
        PeerMessage::Reply(Reply { id, answer })
    };
    let named = "03 0000000000000004 01";
    golden(
        reply(Answer::Fence {
            fence: exclusive(6),
            holders: vec![holder(AttachKind::Shared, "a:1")],
        }),
        &format!(
            "00000059 23 {named} {} 0001 {}",
            exclusive_digits(6),
            holder_digits("02", "03 613a31")
        ),
    );
    golden(reply(Answer::Opened), &format!("0000000b 24 {named}"));
    golden(
        reply(Answer::Refused {
            fence: exclusive(7),
        }),
        &format!("00000031 25 {named} {}", exclusive_digits(7)),
    );
    let held = Held {
        votes: Runs::uniform(4, Vote::Stamp(settled(6))),
        values: vec![Extent::new(range(8, 4), settled(6), Content::Zeroes)],
    };
    let stamp = format!("0000000000000006 {}", "0".repeat(42));
    golden(
        reply(Answer::Held(held)),
        &format!(
            "0000005b 20 {named} 0001 00000004 02 {stamp} 0001 \
             0001000000000008 00000004 {stamp} 00"
        ),
    );
}

#[test]
fn golden_replies() {
    let id = request_id(3, 4, 1);
    let reply = |answer| PeerMessage::Reply(Reply { id, answer });
    golden(reply(Answer::Stored), "0000000b 21 03 0000000000000004 01");
    golden(
        PeerMessage::Declined(id),
        "0000000b 22 03 0000000000000004 01",
    );
    let held = Held {
        votes: Runs::uniform(4, Vote::Stamp(stamp(3))),
        values: vec![Extent::new(range(8, 4), stamp(3), Content::Zeroes)],
    };
    golden(
        reply(Answer::Held(held)),
        "0000005b 20 03 0000000000000004 01 0001 \
         00000004 02 0000000000000001 0000000000000002 0000000000000003 04 00000005 0001 \
         0001000000000008 00000004 \
         0000000000000001 0000000000000002 0000000000000003 04 00000005 00",
    );
}
