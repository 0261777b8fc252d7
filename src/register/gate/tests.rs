use super::*;
use crate::domain::Mode;
use proptest::prelude::*;

/// What happens to a gate.
#[derive(Clone, Debug)]
enum Event {
    PutOutOwn,
    PutOutHeal,
    PutOutPeers,
    /// The store in this place, modulo how many there are.
    Complete(usize),
    Raise,
}

fn any_event() -> impl Strategy<Value = Event> {
    prop_oneof![
        2 => Just(Event::PutOutOwn),
        1 => Just(Event::PutOutHeal),
        2 => Just(Event::PutOutPeers),
        4 => any::<usize>().prop_map(Event::Complete),
        1 => Just(Event::Raise),
    ]
}

proptest! {
    /// Against the definition: of each raise, the set of stores that were under way.
    #[test]
    fn a_raise_is_drained_when_what_was_under_way_is_completed(
        events in prop::collection::vec(any_event(), 0..60),
    ) {
        let mut gate = Gate::new(Fence::INITIAL);
        let mut began = Marks { sequence: 0, number: 0 };
        let mut under_way: Vec<StorePurpose> = Vec::new();
        let mut raised: VecDeque<(Generation, Vec<StorePurpose>)> = VecDeque::new();
        let mut generation = Generation(0);
        for event in events {
            let mut out = Vec::new();
            let purpose = match event {
                Event::PutOutOwn => {
                    began.sequence += 1;
                    Some(StorePurpose::Operation(began.sequence - 1))
                }
                Event::PutOutHeal => {
                    began.sequence += 1;
                    Some(StorePurpose::Heal(began.sequence - 1))
                }
                Event::PutOutPeers => {
                    began.number += 1;
                    Some(StorePurpose::Peer(began.number - 1))
                }
                Event::Complete(_) if under_way.is_empty() => None,
                Event::Complete(place) => {
                    let done = under_way.remove(place % under_way.len());
                    gate.completed(done);
                    for (_, waiting) in &mut raised {
                        waiting.retain(|&purpose| purpose != done);
                    }
                    None
                }
                Event::Raise => {
                    generation.0 += 1;
                    gate.raise(Fence { generation, mode: Mode::Shared }, false, began);
                    raised.push_back((generation, under_way.clone()));
                    None
                }
            };
            if let Some(purpose) = purpose {
                under_way.push(purpose);
                let (token, extents) = (purpose.token(), Vec::new());
                out.push(Output::Store { token, extents });
            }
            let first = out.len() - usize::from(purpose.is_some());
            gate.account(first, &mut out);
            let mut expected = Vec::new();
            while raised.front().is_some_and(|(_, waiting)| waiting.is_empty()) {
                let (generation, _) = raised.pop_front().unwrap();
                expected.push(Output::Drained { generation });
            }
            prop_assert_eq!(&out[usize::from(purpose.is_some())..], &expected[..]);
        }
    }
}
