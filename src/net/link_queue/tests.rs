use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::domain::{Fence, Held, Incarnation, Rank, Runs, Vote};
use crate::net::tests::support::{identity, range, request, store, stored};

fn credit(requests: u32, bytes: u64) -> Credit {
    Credit { requests, bytes }
}

fn stamps(sequence: u64) -> Request {
    let range = range(sequence, 1);
    request(&identity(1), sequence, Question::Stamps { range })
}

fn values(sequence: u64, count: u32) -> Request {
    let question = Question::Values {
        range: range(0, count),
        held: Runs::uniform(count, Vote::Lost),
    };
    request(&identity(1), sequence, question)
}

fn sequences(requests: &[Request]) -> Vec<u64> {
    requests
        .iter()
        .map(|request| request.id.operation.sequence)
        .collect()
}

#[test]
fn a_request_counts_the_data_that_it_moves() {
    assert_eq!(cost(&stamps(1)), 256);
    assert_eq!(cost(&store(&identity(1), 1)), 256 + 4096);
    assert_eq!(cost(&values(1, 3)), 256 + 3 * 4096);
    assert_eq!(cost(&values(1, 65_536)), 256 + (1 << 20));
}

#[test]
fn credit_bounds_requests_and_bytes() {
    let mut queue = LinkQueue::new(credit(100, 1 << 30), credit(3, 12_000));
    queue.push(
        (0..10)
            .map(|sequence| store(&identity(1), sequence))
            .collect(),
    );
    assert_eq!(
        sequences(&queue.take(u64::MAX)),
        [0, 1],
        "the third would be too many bytes"
    );
    assert!(!queue.is_ready());
    assert!(queue.take(u64::MAX).is_empty());
    queue.answered(&stored(store(&identity(1), 1).id)).unwrap();
    assert!(queue.is_ready());
    assert_eq!(sequences(&queue.take(u64::MAX)), [2]);
    queue.grant(credit(3, 1 << 20));
    assert_eq!(
        sequences(&queue.take(u64::MAX)),
        [3],
        "the fourth would be one too many"
    );
}

#[test]
fn what_is_greater_than_the_credit_goes_alone() {
    let mut queue = LinkQueue::new(credit(100, 1 << 30), credit(8, 10_000));
    queue.push(vec![values(0, 256), values(1, 256)]);
    assert_eq!(sequences(&queue.take(u64::MAX)), [0]);
    assert!(queue.take(u64::MAX).is_empty());
    queue.declined(values(0, 256).id).unwrap();
    assert_eq!(sequences(&queue.take(u64::MAX)), [1]);
}

#[test]
fn questions_pass_by_stores_that_have_used_up_their_part() {
    let mut queue = LinkQueue::new(credit(100, 1 << 30), credit(4, 1 << 30));
    let stores = (0..5).map(|sequence| store(&identity(1), sequence));
    queue.push(stores.collect());
    assert_eq!(sequences(&queue.take(u64::MAX)), [0, 1, 2]);
    queue.push(vec![stamps(5), stamps(6)]);
    assert_eq!(sequences(&queue.take(u64::MAX)), [5]);
    queue.declined(stamps(5).id).unwrap();
    assert_eq!(sequences(&queue.take(u64::MAX)), [6]);
    queue.answered(&stored(store(&identity(1), 0).id)).unwrap();
    assert_eq!(sequences(&queue.take(u64::MAX)), [3]);
}

#[test]
fn a_batch_ends_soon_after_its_size() {
    let mut queue = LinkQueue::new(credit(100, 1 << 30), credit(100, 1 << 30));
    queue.push(
        (0..10)
            .map(|sequence| store(&identity(1), sequence))
            .collect(),
    );
    assert_eq!(sequences(&queue.take(10_000)), [0, 1, 2]);
    assert_eq!(sequences(&queue.take(1)), [3]);
}

#[test]
fn questions_of_finished_operations_are_not_sent() {
    let mut queue = LinkQueue::new(credit(100, 1 << 30), credit(100, 1 << 30));
    queue.push(vec![
        stamps(0),
        store(&identity(1), 1),
        values(2, 1),
        stamps(3),
    ]);
    for sequence in [0, 1, 2, 9] {
        queue.finish(stamps(sequence).id.operation);
    }
    assert_eq!(sequences(&queue.take(u64::MAX)), [1, 3]);
    assert_eq!((queue.dropped(), queue.waiting_bytes), (0, 0));
}

#[test]
fn every_round_of_an_operation_finishes_with_it() {
    let mut queue = LinkQueue::new(credit(0, 0), credit(100, 1 << 30));
    let mut last = store(&identity(1), 5);
    last.id.round = u8::MAX;
    queue.push(vec![
        store(&identity(1), 4),
        store(&identity(1), 5),
        last,
        stamps(6),
    ]);
    queue.finish(store(&identity(1), 5).id.operation);
    assert_eq!(queue.dropped(), 2);
    assert_eq!(sequences(&queue.take(u64::MAX)), [4, 6]);
}

#[test]
fn the_oldest_finished_are_dropped_first_and_only_as_many_as_needed() {
    let mut queue = LinkQueue::new(credit(3, 1 << 30), credit(100, 1 << 30));
    queue.push(
        (0..5)
            .map(|sequence| store(&identity(1), sequence))
            .collect(),
    );
    // Both while there is no room, and when more comes later.
    queue.finish(store(&identity(1), 4).id.operation);
    queue.finish(store(&identity(1), 1).id.operation);
    assert_eq!(queue.dropped(), 2);
    queue.finish(store(&identity(1), 3).id.operation);
    queue.finish(store(&identity(1), 2).id.operation);
    assert_eq!(queue.dropped(), 2, "there is room");
    queue.push(vec![store(&identity(1), 5)]);
    assert_eq!(sequences(&queue.take(u64::MAX)), [0, 3, 5]);

    let bytes = 2 * cost(&store(&identity(1), 0));
    let mut queue = LinkQueue::new(credit(100, bytes), credit(100, 1 << 30));
    queue.push(
        (0..4)
            .map(|sequence| store(&identity(1), sequence))
            .collect(),
    );
    (0..4).for_each(|sequence| queue.finish(store(&identity(1), sequence).id.operation));
    assert_eq!(sequences(&queue.take(u64::MAX)), [2, 3]);
}

#[test]
fn a_reply_has_to_answer_what_is_under_way() {
    let mut queue = LinkQueue::new(credit(100, 1 << 30), credit(1, 1 << 30));
    queue.push(vec![store(&identity(1), 0), stamps(1)]);
    let reply = stored(store(&identity(1), 0).id);
    assert!(queue.answered(&reply).is_err(), "it still waits");
    queue.take(u64::MAX);
    assert!(queue.answered(&reply).is_ok());
    assert!(queue.answered(&reply).is_err(), "it is answered");
    queue.take(u64::MAX);
    assert!(
        queue.answered(&stored(stamps(1).id)).is_err(),
        "stamps are not stored"
    );
}

/// Every question has its own answer, and may be refused.
#[test]
fn a_reply_has_to_fit_its_question() {
    let range = range(0, 1);
    let questions = [
        Question::Stamps { range },
        values(0, 1).question,
        store(&identity(1), 0).question,
        Question::Fence,
        Question::Open { continues: None },
    ];
    let fence = Fence::INITIAL;
    let held = || {
        Answer::Held(Held {
            votes: Runs::uniform(1, Vote::ZERO),
            values: Vec::new(),
        })
    };
    let answers = [
        held(),
        held(),
        Answer::Stored,
        Answer::Fence {
            fence,
            holders: Vec::new(),
        },
        Answer::Opened,
    ];
    for (at, question) in questions.iter().enumerate() {
        let fits = |answer: Answer| {
            let mut queue = LinkQueue::new(credit(100, 1 << 30), credit(1, 1 << 30));
            let request = request(&identity(1), 0, question.clone());
            let id = request.id;
            queue.push(vec![request]);
            assert_eq!(queue.take(u64::MAX).len(), 1);
            let answered = queue.answered(&Reply { id, answer });
            assert_eq!(queue.under_way, credit(0, 0));
            assert_eq!(queue.stores_under_way, credit(0, 0));
            answered.is_ok()
        };
        for answer in &answers {
            let expected = *answer == answers[at];
            assert_eq!(fits(answer.clone()), expected, "{question:?}: {answer:?}");
        }
        assert!(fits(Answer::Refused { fence }), "{question:?}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Push(u64),
    Finish(u64),
    Take(u64),
    Answer(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u64..40).prop_map(Step::Push),
        (0u64..40).prop_map(Step::Finish),
        (1u64..20_000).prop_map(Step::Take),
        (0usize..8).prop_map(Step::Answer),
    ]
}

fn numbered(sequence: u64) -> Request {
    match sequence % 3 {
        0 => stamps(sequence),
        1 => values(sequence, 2),
        _ => store(&identity(1), sequence),
    }
}

fn answer(request: &Request) -> Reply {
    let answer = match request.question {
        Question::Store { .. } => Answer::Stored,
        _ => Answer::Held(Held {
            votes: Runs::uniform(1, Vote::ZERO),
            values: Vec::new(),
        }),
    };
    Reply {
        id: request.id,
        answer,
    }
}

proptest! {
    /// Whatever happens in whatever order: the credit and the limits hold, nothing is under way
    /// twice, and whatever is not finished gets its turn.
    #[test]
    fn the_bounds_hold_and_nothing_unfinished_is_lost(
        steps in prop::collection::vec(step(), 0..200),
        requests in 1u32..5,
    ) {
        let (limits, granted) = (credit(6, 30_000), credit(requests, 12_000));
        let mut queue = LinkQueue::new(limits, granted);
        // Of each request that was pushed and not answered: whether it is finished.
        let mut owed: BTreeMap<u64, bool> = BTreeMap::new();
        let mut under_way: Vec<Request> = Vec::new();
        for step in steps {
            match step {
                Step::Push(sequence) => {
                    queue.push(vec![numbered(sequence)]);
                    owed.entry(sequence).or_insert(false);
                }
                Step::Finish(sequence) => {
                    queue.finish(numbered(sequence).id.operation);
                    if let Some(finished) = owed.get_mut(&sequence) {
                        *finished = true;
                    }
                }
                Step::Take(bytes) => {
                    for request in queue.take(bytes) {
                        prop_assert!(under_way.iter().all(|other| other.id != request.id));
                        under_way.push(request);
                    }
                }
                Step::Answer(at) if at < under_way.len() => {
                    let request = under_way.remove(at);
                    prop_assert!(queue.answered(&answer(&request)).is_ok());
                    owed.remove(&request.id.operation.sequence);
                }
                Step::Answer(_) => {}
            }
            let bytes: u64 = under_way.iter().map(cost).sum();
            let one = under_way.len() == 1;
            prop_assert!(one || bytes <= granted.bytes);
            prop_assert!(under_way.len() <= usize::try_from(granted.requests).unwrap());
            let unfinished = queue.waiting() - queue.finished.len();
            prop_assert!(queue.waiting() <= unfinished.max(6));
        }
        loop {
            for request in std::mem::take(&mut under_way) {
                prop_assert!(queue.answered(&answer(&request)).is_ok());
                owed.remove(&request.id.operation.sequence);
            }
            under_way = queue.take(u64::MAX);
            if under_way.is_empty() {
                break;
            }
        }
        prop_assert!(owed.values().all(|&finished| finished), "lost: {:?}", owed);
        prop_assert_eq!((queue.waiting(), queue.waiting_bytes), (0, 0));
        prop_assert_eq!(queue.under_way, credit(0, 0));
        prop_assert_eq!(queue.stores_under_way, credit(0, 0));
        prop_assert!(queue.questions.is_empty());
        prop_assert!(queue.known.is_empty());
    }
}

#[test]
fn an_operation_is_told_by_its_coordinator() {
    // `finish` looks at a range of identifiers: the neighbours of an operation are not its rounds.
    let mut queue = LinkQueue::new(credit(100, 1 << 30), credit(100, 1 << 30));
    queue.push(vec![stamps(6), stamps(8)]);
    let mut other = stamps(6).id.operation;
    other.shard = 1;
    queue.finish(other);
    other = stamps(8).id.operation;
    (other.coordinator, other.incarnation) = (Rank::new(2).unwrap(), Incarnation(0));
    queue.finish(other);
    queue.finish(stamps(7).id.operation);
    assert_eq!(sequences(&queue.take(u64::MAX)), [6, 8]);
}
