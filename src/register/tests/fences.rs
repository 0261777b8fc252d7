//! Fences: what is served, refused, parked and ended, and when nothing older is left.

use super::*;

fn raise(bench: &mut Bench, fence: Fence) {
    bench.step(Input::Raise { fence });
}

fn stable(bench: &mut Bench, fence: Fence) {
    bench.step(Input::Stable { fence });
}

/// Process 2 asks under this authority.
fn ask(bench: &mut Bench, authority: Fence, question: Question) {
    bench.step(Input::Request {
        from: rank(2),
        request: Request {
            id: asked(),
            authority,
            question,
        },
    });
}

fn asked() -> RequestId {
    RequestId {
        operation: OperationId {
            coordinator: rank(2),
            incarnation: Incarnation(8),
            shard: 2,
            sequence: 77,
        },
        round: 1,
    }
}

fn answer(answer: Answer) -> Output {
    Output::Reply {
        to: rank(2),
        reply: Reply {
            id: asked(),
            answer,
        },
    }
}

fn refused(fence: Fence) -> Output {
    answer(Answer::Refused { fence })
}

fn drained(generation: u64) -> Output {
    let generation = Generation(generation);
    Output::Drained { generation }
}

fn stamps() -> Question {
    Question::Stamps { range: range(0, 1) }
}

fn values() -> Question {
    Question::Values {
        range: range(0, 1),
        held: Runs::uniform(1, Vote::ZERO),
    }
}

/// A store of a value of this generation.
fn store_of(generation: u64) -> Question {
    let stamp = settled(generation, generation, 1, 2);
    Question::Store {
        extents: vec![value(range(0, 1), stamp, 7)],
    }
}

fn fenced(ticket: u64, by: Fence) -> Output {
    failed(ticket, RegisterError::Fenced { by })
}

#[test]
fn what_is_older_than_the_accepted_fence_is_refused() {
    let mut bench = Bench::new(3);
    raise(&mut bench, exclusive(2, 1));
    bench.rest();
    for is_stable in [false, true] {
        if is_stable {
            stable(&mut bench, exclusive(2, 1));
        }
        for question in [stamps(), values(), store_of(0)] {
            ask(&mut bench, Fence::INITIAL, question);
            assert_eq!(bench.rest(), [refused(exclusive(2, 1))]);
        }
        ask(&mut bench, shared(1), stamps());
        assert_eq!(bench.rest(), [refused(exclusive(2, 1))]);
    }

    // What the store has on record counts from the start.
    let mut bench = Bench::under(exclusive(2, 1), 3);
    ask(&mut bench, Fence::INITIAL, store_of(0));
    assert_eq!(bench.rest(), [refused(exclusive(2, 1))]);
    ask(&mut bench, exclusive(2, 1), store_of(2));
    bench.store();
    assert_eq!(bench.rest(), [answer(Answer::Stored)]);
}

#[test]
fn what_is_newer_than_the_stable_fence_waits_for_it() {
    let mut bench = Bench::new(3);
    let fence = exclusive(1, 1);
    ask(&mut bench, fence, store_of(1));
    let raised = Output::Raise { fence };
    assert_eq!(bench.rest(), [raised, drained(1)]);
    ask(&mut bench, fence, stamps());
    assert_eq!(bench.register.answering(), 2);
    ask(&mut bench, Fence::INITIAL, stamps());
    assert_eq!(bench.rest(), [refused(fence)], "it is accepted already");

    raise(&mut bench, fence);
    assert_eq!(bench.rest(), [], "the keeper has heard of it");
    stable(&mut bench, fence);
    bench.store();
    bench.load(&[Vote::ZERO], vec![]);
    let held = Answer::Held(held(&[Vote::ZERO], vec![]));
    assert_eq!(bench.rest(), [answer(Answer::Stored), answer(held)]);
    assert_eq!(bench.register.answering(), 0);
}

#[test]
fn nothing_is_drained_before_every_earlier_store_is_completed() {
    let mut bench = Bench::new(3);
    // An own write, a damaged own copy and a peer's store.
    bench.write(range(8, 1), 1);
    bench.load(&[Vote::ZERO], vec![]);
    bench.reply_held(2, id(0, 0), &[Vote::ZERO], vec![]);
    bench.read(range(9, 1));
    bench.load(&[Vote::Lost], vec![]);
    for from in [2, 3] {
        let intact = value(range(9, 1), stamp(4, 2), 1);
        bench.reply_held(from, id(1, 0), &[vote(4, 2)], vec![intact]);
    }
    ask(&mut bench, Fence::INITIAL, store_of(0));
    let mut tokens = Vec::new();
    bench.out.retain(|output| {
        if let Output::Store { token, .. } = output {
            tokens.push(*token);
        }
        false
    });
    assert_eq!(tokens.len(), 3);

    raise(&mut bench, exclusive(1, 1));
    assert!(!bench.rest().contains(&drained(1)));
    bench.step(Input::Stored { token: tokens[2] });
    bench.step(Input::Refused { token: tokens[0] });
    assert_eq!(bench.rest(), [refused(exclusive(1, 1))]);
    raise(&mut bench, exclusive(1, 1));
    bench.step(Input::Stored { token: tokens[1] });
    assert_eq!(bench.rest(), [drained(1)]);
    raise(&mut bench, exclusive(1, 1));
    assert_eq!(bench.rest(), [], "once");
}

#[test]
fn each_raise_is_drained_once_in_order() {
    let mut bench = Bench::new(3);
    ask(&mut bench, Fence::INITIAL, store_of(0));
    let Some(Output::Store { token, .. }) = bench.rest().pop() else {
        panic!("a store");
    };
    ask(&mut bench, exclusive(1, 1), stamps());
    raise(&mut bench, exclusive(1, 1));
    raise(&mut bench, shared(2));
    let raised = Output::Raise {
        fence: exclusive(1, 1),
    };
    assert_eq!(bench.rest(), [raised, refused(shared(2))]);
    bench.step(Input::Stored { token });
    assert_eq!(bench.rest(), [refused(shared(2)), drained(1), drained(2)]);

    ask(&mut bench, shared(2), stamps());
    bench.rest();
    stable(&mut bench, exclusive(1, 1));
    assert_eq!(bench.rest(), [], "the first is stable, but too late");
    raise(&mut bench, exclusive(1, 1));
    assert_eq!(bench.rest(), [], "a fence never goes back");
    stable(&mut bench, shared(2));
    assert!(matches!(bench.rest()[..], [Output::Load { .. }]));
}

#[test]
fn what_was_under_way_when_a_fence_was_accepted_is_refused() {
    let mut bench = Bench::new(3);
    ask(&mut bench, Fence::INITIAL, stamps());
    ask(&mut bench, Fence::INITIAL, store_of(0));
    ask(&mut bench, Fence::INITIAL, store_of(0));
    raise(&mut bench, shared(1));
    bench.load(&[Vote::ZERO], vec![]);
    bench.store();
    let Some(Output::Store { token, .. }) = bench.out.first().cloned() else {
        panic!("a store");
    };
    bench.step(Input::Refused { token });
    let refused = refused(shared(1));
    let answers = [refused.clone(), refused.clone(), refused, drained(1)];
    assert_eq!(bench.rest()[1..], answers);
}

#[test]
fn a_fence_ends_what_is_under_way_and_what_waits() {
    let mut bench = Bench::new(3);
    bench.write(range(0, 4), 1);
    bench.write(range(3, 2), 2);
    bench.read(range(4, 1));
    bench.write(range(8, 1), 3);
    bench.command(Command::Settle { range: range(0, 9) });
    bench.reply_held(2, id(1, 0), &[Vote::ZERO], vec![]);
    bench.reply_held(3, id(1, 0), &[Vote::ZERO], vec![]);
    bench.requests();
    let Some(Output::Store { token, .. }) = bench.rest().pop() else {
        panic!("a store");
    };
    let fence = exclusive(1, 1);
    raise(&mut bench, fence);
    let ended = [
        fenced(0, fence),
        finished(0),
        fenced(1, fence),
        fenced(2, fence),
        fenced(3, fence),
        finished(1),
        fenced(4, fence),
        finished(2),
    ];
    assert_eq!(bench.rest(), ended);
    assert_eq!(bench.register.in_flight() + bench.register.queued(), 0);

    bench.step(Input::Stored { token });
    assert_eq!(bench.rest(), [drained(1)]);
    bench.reply(2, id(1, 1), Answer::Stored);
    bench.reply(3, id(1, 1), Answer::Stored);
    assert_eq!(bench.rest(), [], "late replies are nothing");

    bench.command(Command::Read { range: range(0, 1) });
    assert_eq!(bench.rest(), [fenced(5, fence)], "of the older generation");
    stable(&mut bench, fence);
    bench.fence = fence;
    bench.write(range(0, 9), 4);
    assert_eq!(bench.requests().len(), 2, "the sectors are free");
}

#[test]
#[should_panic(expected = "granted after its fence was raised")]
fn no_operation_begins_under_a_fence_that_was_never_raised() {
    let mut bench = Bench::new(3);
    bench.fence = exclusive(1, 1);
    bench.write(range(0, 1), 1);
}

#[test]
#[should_panic(expected = "granted when its fence is stable")]
fn no_operation_begins_before_its_fence_is_stable() {
    let mut bench = Bench::new(3);
    raise(&mut bench, exclusive(1, 1));
    bench.fence = exclusive(1, 1);
    bench.write(range(0, 1), 1);
}

#[test]
#[should_panic(expected = "after every store that was put out before it")]
fn no_fence_is_stable_before_it_is_drained() {
    let mut bench = Bench::new(3);
    ask(&mut bench, Fence::INITIAL, store_of(0));
    raise(&mut bench, exclusive(1, 1));
    stable(&mut bench, exclusive(1, 1));
}

#[test]
#[should_panic(expected = "raised here before it is stable")]
fn no_fence_is_stable_before_it_is_raised() {
    let mut bench = Bench::new(3);
    stable(&mut bench, exclusive(1, 1));
}

#[test]
fn a_refusal_by_a_newer_fence_ends_the_operations() {
    let mut bench = Bench::new(3);
    bench.attach(exclusive(1, 1));
    bench.write(range(0, 1), 1);
    bench.read(range(5, 1));
    bench.requests();
    bench.rest();
    let by = exclusive(2, 9);
    bench.reply(3, id(0, 0), Answer::Refused { fence: by });
    let ended = [
        Output::Raise { fence: by },
        fenced(0, by),
        finished(0),
        fenced(1, by),
        finished(1),
    ];
    assert_eq!(bench.rest(), ended);
    bench.write(range(0, 1), 1);
    assert_eq!(bench.rest(), [fenced(2, by)]);
}

#[test]
fn a_refusal_of_what_is_done_is_news_as_well() {
    let mut bench = Bench::new(3);
    bench.attach(exclusive(1, 1));
    bench.write(range(0, 1), 1);
    bench.store();
    bench.reply(2, id(0, 0), Answer::Stored);
    bench.rest();
    let older = Answer::Refused {
        fence: exclusive(1, 9),
    };
    bench.reply(3, id(0, 0), older);
    assert_eq!(bench.rest(), []);
    let fence = exclusive(2, 9);
    bench.reply(3, id(0, 0), Answer::Refused { fence });
    let raised = Output::Raise { fence };
    assert_eq!(bench.rest(), [raised, drained(2)]);
}

#[test]
fn a_refusal_by_a_fence_that_is_not_newer_ends_nothing() {
    let mut bench = Bench::new(3);
    bench.attach(exclusive(1, 1));
    bench.write(range(0, 1), 1);
    bench.store();
    bench.requests();
    let refuse = |bench: &mut Bench, fence| {
        bench.reply(2, id(0, 0), Answer::Refused { fence });
        bench.rest()
    };
    assert_eq!(
        refuse(&mut bench, exclusive(1, 9)),
        [],
        "of an open that failed"
    );
    let from = rank(2);
    for fence in [Fence::INITIAL, exclusive(1, 1)] {
        let fault = PeerFault::WrongRefusal;
        assert_eq!(refuse(&mut bench, fence), [Output::Faulty { from, fault }]);
    }
    bench.reply(3, id(0, 0), Answer::Stored);
    assert_eq!(bench.rest(), [done(0, Outcome::Written), finished(0)]);
}

#[test]
fn a_fence_under_which_operations_run_takes_the_place_of_one_that_failed() {
    let mut bench = Bench::new(3);
    let (failed, opened) = (exclusive(1, 8), exclusive(1, 9));
    raise(&mut bench, failed);
    bench.rest();
    stable(&mut bench, failed);
    ask(&mut bench, opened, stamps());
    let raised = Output::Raise { fence: opened };
    assert_eq!(bench.rest(), [raised.clone(), drained(1)]);

    // The keeper has raised the other one once more, and is told again.
    raise(&mut bench, failed);
    assert_eq!(bench.rest(), [raised, drained(1)]);
    stable(&mut bench, failed);
    assert_eq!(bench.rest(), [], "what was asked stays parked");
    let from = rank(2);
    let fault = PeerFault::TwoOwners;
    ask(&mut bench, failed, stamps());
    assert_eq!(bench.rest(), [Output::Faulty { from, fault }]);
    stable(&mut bench, opened);
    assert!(matches!(bench.rest()[..], [Output::Load { .. }]));
}

#[test]
fn a_fence_known_from_a_refusal_yields_to_that_of_the_keeper() {
    let mut bench = Bench::new(3);
    bench.write(range(0, 1), 1);
    bench.requests();
    let (heard, accepted) = (exclusive(1, 8), exclusive(1, 9));
    bench.reply(3, id(0, 0), Answer::Refused { fence: heard });
    bench.rest();
    raise(&mut bench, accepted);
    assert_eq!(bench.rest(), [drained(1)]);
    ask(&mut bench, Fence::INITIAL, stamps());
    assert_eq!(bench.rest(), [refused(accepted)]);

    // It does so again, unless it was proved open meanwhile.
    raise(&mut bench, heard);
    assert_eq!(bench.rest(), [drained(1)]);
    raise(&mut bench, accepted);
    bench.rest();
    ask(&mut bench, accepted, stamps());
    assert_eq!(bench.rest(), []);
    raise(&mut bench, heard);
    let raised = Output::Raise { fence: accepted };
    assert_eq!(bench.rest(), [raised, drained(1)]);
    ask(&mut bench, accepted, stamps());
    stable(&mut bench, accepted);
    assert_eq!(bench.rest().len(), 2);
}

#[test]
fn questions_of_an_attach_are_not_for_a_register() {
    let mut bench = Bench::new(3);
    for question in [Question::Fence, Question::Open { continues: None }] {
        ask(&mut bench, exclusive(1, 1), question);
        let (from, fault) = (rank(2), PeerFault::NotForARegister);
        assert_eq!(bench.rest(), [Output::Faulty { from, fault }]);
    }
    ask(&mut bench, Fence::INITIAL, stamps());
    assert!(matches!(bench.rest()[..], [Output::Load { .. }]));
}
