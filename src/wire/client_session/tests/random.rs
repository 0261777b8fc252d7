//! Random messages and random bytes.

use proptest::prelude::*;

use super::*;

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
