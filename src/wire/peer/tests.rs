use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::domain::{
    ATTACH_SHARD, Answer, AttachKind, CLIENT_NAME_BYTES_MAX, Content, Extent, Fence, Generation,
    Held, JoinKey, Mode, OwnerId, Question, Runs, SECTOR_SIZE, SectorAddress, SectorRange, Stamp,
    Tag, Volume, Vote,
};
use crate::wire::{FIRST_MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX, MessageStream};

const ASKER: Asker = Asker {
    rank: Rank::new(2).unwrap(),
    incarnation: Incarnation(9),
};

fn request_id(shard: u8, sequence: u64, round: u8) -> RequestId {
    let operation = OperationId {
        coordinator: ASKER.rank,
        incarnation: ASKER.incarnation,
        shard,
        sequence,
    };
    RequestId { operation, round }
}

fn range(first: u64, count: u32) -> SectorRange {
    SectorRange::new(SectorAddress::new(Volume(1), first).unwrap(), count).unwrap()
}

fn stamp(timestamp: u64) -> Stamp {
    Stamp {
        settled: Generation(1),
        generation: Generation(2),
        timestamp,
        rank: Rank::new(4),
        incarnation: Incarnation(5),
    }
}

/// The stamp of sectors that were settled and never written.
fn settled(generation: u64) -> Stamp {
    Stamp::ZERO.settled_under(Generation(generation))
}

fn exclusive(generation: u64) -> Fence {
    let mode = Mode::Exclusive {
        owner: OwnerId([0xaa; 16]),
        tag: Tag {
            coordinator: Rank::new(2).unwrap(),
            incarnation: Incarnation(3),
            sequence: 4,
        },
    };
    Fence {
        generation: Generation(generation),
        mode,
    }
}

/// The digits of [`exclusive`].
fn exclusive_digits(generation: u64) -> String {
    let owner = "aa".repeat(16);
    format!("{generation:016x} 01 {owner} 02 00000003 0000000000000004")
}

fn holder(kind: AttachKind, client: &str) -> Holder {
    Holder {
        process: Rank::new(2).unwrap(),
        owner: OwnerId([0xaa; 16]),
        kind,
        generation: Generation(6),
        client: client.into(),
        since: 5,
    }
}

fn holder_digits(kind: &str, name: &str) -> String {
    let owner = "aa".repeat(16);
    format!("02 {owner} {kind} 0000000000000006 {name} 0000000000000005")
}

fn longest_holder() -> Holder {
    let kind = AttachKind::Exclusive {
        join: Some(JoinKey([1; 32])),
    };
    holder(kind, &"x".repeat(CLIENT_NAME_BYTES_MAX))
}

fn encoded(message: &PeerMessage) -> Vec<u8> {
    let mut encoder = Encoder::new();
    message.encode(ASKER, &mut encoder);
    assert!(!encoder.is_empty());
    let length = encoder.len();
    let bytes = encoder.take().concat();
    assert_eq!(bytes.len(), length);
    assert!(encoder.is_empty());
    bytes
}

fn decoded(bytes: &[u8]) -> Result<Vec<PeerMessage>, MessageError> {
    let mut stream = MessageStream::new();
    stream.expect_all();
    stream.plaintext.extend_from_slice(bytes);
    let mut messages = Vec::new();
    while let Some(message) = stream.next_message()? {
        messages.push(PeerMessage::decode(message, ASKER)?);
    }
    assert!(stream.plaintext.is_empty());
    Ok(messages)
}

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

#[test]
fn the_longest_messages_fit() {
    let stores = vec![Some(StoreId([1; 16])); Rank::MAX.into()];
    let introduction = encoded(&PeerMessage::Introduction {
        introduction: Introduction {
            store: StoreId([1; 16]),
            birth: Some(Birth { stores }),
            empty: false,
            holders: vec![longest_holder(); HOLDERS_MAX],
        },
        credit: Credit {
            requests: 1,
            bytes: 1,
        },
    });
    assert!(introduction.len() <= FIRST_MESSAGE_BYTES_MAX);
    assert_eq!(decoded(&introduction).unwrap().len(), 1);

    // Everybody runs as many attachments as an introduction names.
    let reply = Reply {
        id: request_id(1, 1, 0),
        answer: Answer::Fence {
            fence: exclusive(1),
            holders: vec![longest_holder(); HOLDERS_MAX * usize::from(Rank::MAX)],
        },
    };
    assert!(encoded(&PeerMessage::Reply(reply)).len() <= MESSAGE_BYTES_MAX);

    // A read of 256 sectors that all differ, and the most runs of votes that a store answers with.
    let data = Bytes::from(vec![1; SECTOR_SIZE]);
    let values =
        (0..256).map(|at| Extent::new(range(at, 1), stamp(at + 1), Content::Data(data.clone())));
    let held = Held {
        votes: (0..4096).map(|at| Vote::Stamp(stamp(at + 1))).collect(),
        values: values.collect(),
    };
    let reply = Reply {
        id: request_id(1, 1, 0),
        answer: Answer::Held(held),
    };
    assert!(encoded(&PeerMessage::Reply(reply)).len() <= MESSAGE_BYTES_MAX);

    // A discard of 65,536 sectors of which every other one was written.
    let extents = (0..1 << 15).map(|at| Extent::new(range(2 * at, 1), stamp(1), Content::Zeroes));
    let request = Request {
        id: request_id(1, 1, 0),
        authority: Fence::INITIAL,
        question: Question::Store {
            extents: extents.collect(),
        },
    };
    assert!(encoded(&PeerMessage::Request(request)).len() <= MESSAGE_BYTES_MAX);
}

#[test]
#[should_panic(expected = "its connector's own operations")]
fn an_operation_of_another_incarnation_is_never_sent() {
    let mut id = request_id(1, 1, 0);
    id.operation.incarnation = Incarnation(8);
    encoded(&PeerMessage::Declined(id));
}

#[test]
#[should_panic(expected = "so many holders at most")]
fn more_holders_than_an_introduction_names_are_never_sent() {
    encoded(&PeerMessage::Introduction {
        introduction: Introduction {
            store: StoreId([1; 16]),
            birth: None,
            empty: false,
            holders: vec![longest_holder(); HOLDERS_MAX + 1],
        },
        credit: Credit {
            requests: 1,
            bytes: 1,
        },
    });
}

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

fn any_id() -> impl Strategy<Value = RequestId> {
    (any::<u8>(), any::<u64>(), any::<u8>())
        .prop_map(|(shard, sequence, round)| request_id(shard, sequence, round))
}

fn any_vote() -> impl Strategy<Value = Vote> {
    prop_oneof![
        Just(Vote::Lost),
        Just(Vote::ZERO),
        (1u64..5).prop_map(|timestamp| Vote::Stamp(stamp(timestamp))),
        (1u64..5).prop_map(|generation| Vote::Stamp(settled(generation))),
    ]
}

fn any_votes() -> impl Strategy<Value = Runs<Vote>> {
    prop::collection::vec((1u32..100, any_vote()), 1..12).prop_map(|runs| {
        let mut votes = Runs::new();
        for (count, vote) in runs {
            votes.push(count, vote);
        }
        votes
    })
}

/// What an extent holds besides its place.
#[derive(Clone, Debug)]
enum Filling {
    Data(u8),
    Tombstone,
    NeverWritten,
    Unchanged,
}

fn any_extents(unchanged: bool) -> impl Strategy<Value = Vec<Extent>> {
    let filling = prop_oneof![
        2 => any::<u8>().prop_map(Filling::Data),
        2 => Just(Filling::Tombstone),
        1 => Just(Filling::NeverWritten),
        u32::from(unchanged) => Just(Filling::Unchanged),
    ];
    let one = (0u64..50, 1u32..4, 1u64..9, filling);
    prop::collection::vec(one, 1..6).prop_map(|parts| {
        let mut at = 0;
        let extent = |(gap, count, number, filling): (u64, u32, u64, Filling)| {
            let range = range(at + gap, count);
            at += gap + u64::from(count);
            let bytes = range.bytes().try_into().unwrap();
            match filling {
                Filling::Data(fill) => {
                    let data = Content::Data(Bytes::from(vec![fill; bytes]));
                    Extent::new(range, stamp(number), data)
                }
                Filling::Tombstone => Extent::new(range, stamp(number), Content::Zeroes),
                Filling::NeverWritten => Extent::new(range, settled(number), Content::Zeroes),
                Filling::Unchanged => Extent::new(range, settled(number), Content::Unchanged),
            }
        };
        parts.into_iter().map(extent).collect()
    })
}

fn any_generation() -> impl Strategy<Value = Generation> {
    (0..=Generation::MAX.0).prop_map(Generation)
}

fn any_fence() -> impl Strategy<Value = Fence> {
    (any_generation(), any::<bool>()).prop_map(|(Generation(generation), alone)| {
        let shared = Fence {
            generation: Generation(generation),
            mode: Mode::Shared,
        };
        if alone { exclusive(generation) } else { shared }
    })
}

fn any_holders() -> impl Strategy<Value = Vec<Holder>> {
    let kind = prop_oneof![
        prop::option::of(any::<[u8; 32]>()).prop_map(|key| AttachKind::Exclusive {
            join: key.map(JoinKey)
        }),
        Just(AttachKind::Shared),
        Just(AttachKind::ReadOnly),
    ];
    let one = (kind, "\\PC{0,16}").prop_map(|(kind, client)| holder(kind, &client));
    prop::collection::vec(one, 0..4)
}

fn any_message() -> impl Strategy<Value = PeerMessage> {
    let question = prop_oneof![
        (0u64..99, 1u32..99).prop_map(|(first, count)| Question::Stamps {
            range: range(first, count)
        }),
        (0u64..99, any_votes()).prop_map(|(first, held)| Question::Values {
            range: range(first, held.count()),
            held,
        }),
        any_extents(true).prop_map(|extents| Question::Store { extents }),
        Just(Question::Fence),
        prop::option::of(any_generation()).prop_map(|continues| Question::Open { continues }),
    ];
    let request = (any_id(), any_fence(), question).prop_map(|(id, authority, question)| {
        PeerMessage::Request(Request {
            id,
            authority,
            question,
        })
    });
    let held = (
        any_votes(),
        prop_oneof![Just(Vec::new()), any_extents(false)],
    )
        .prop_map(|(votes, values)| Answer::Held(Held { votes, values }));
    let answer = prop_oneof![
        Just(Answer::Stored),
        held,
        (any_fence(), any_holders()).prop_map(|(fence, holders)| Answer::Fence { fence, holders }),
        Just(Answer::Opened),
        any_fence().prop_map(|fence| Answer::Refused { fence }),
    ];
    let reply =
        (any_id(), answer).prop_map(|(id, answer)| PeerMessage::Reply(Reply { id, answer }));
    let store = || any::<[u8; 16]>().prop_map(StoreId);
    let birth = prop::option::of(
        prop::collection::vec(prop::option::of(store()), 1..6).prop_map(|stores| Birth { stores }),
    );
    let credit = (any::<u32>(), any::<u64>());
    let introduction = (store(), birth, any::<bool>(), credit, any_holders()).prop_map(
        |(store, birth, empty, (requests, bytes), holders)| PeerMessage::Introduction {
            introduction: Introduction {
                store,
                birth,
                empty,
                holders,
            },
            credit: Credit { requests, bytes },
        },
    );
    prop_oneof![
        Just(PeerMessage::Heartbeat),
        any_id().prop_map(PeerMessage::Declined),
        request,
        reply,
        introduction,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn messages_survive_the_wire(messages in prop::collection::vec(any_message(), 0..6)) {
        let bytes: Vec<u8> = messages.iter().flat_map(encoded).collect();
        prop_assert_eq!(decoded(&bytes), Ok(messages));
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(
        code in prop::sample::select(vec![
            0u8, 1, 0x10, 0x11, 0x12, 0x13, 0x14, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x40,
        ]),
        body in prop::collection::vec(prop_oneof![3 => Just(0u8), 1 => any::<u8>()], 0..200),
    ) {
        let bytes = [&[code][..], &body].concat();
        let result = PeerMessage::decode(Bytes::from(bytes.clone()), ASKER);
        // What is accepted is exactly what would be sent.
        if let Ok(message) = result {
            prop_assert_eq!(&encoded(&message)[4..], &bytes[..]);
        }
    }

    #[test]
    fn a_changed_message_never_makes_the_decoder_panic(
        message in any_message(),
        at in any::<prop::sample::Index>(),
        change in 1u8..,
    ) {
        let mut bytes = encoded(&message)[4..].to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        if let Ok(message) = PeerMessage::decode(Bytes::from(bytes.clone()), ASKER) {
            prop_assert_eq!(&encoded(&message)[4..], &bytes[..]);
        }
    }
}
