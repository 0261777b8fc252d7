//! Random messages and random bytes.

use proptest::prelude::*;

use super::*;

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
