//! One keeper step by step: what it says and grants after each input.

use super::bench::*;
use super::{exclusive, holder, rank, shared};
use crate::attachment::{AttachmentId, Input, Output};
use crate::domain::{
    Answer, Attach, AttachKind, AttachRefusal, Fence, Generation, Holder, Incarnation, OwnerId,
    Question, Reply, Request,
};

#[test]
fn an_exclusive_attach_asks_and_opens_and_is_granted() {
    let mut bench = Bench::new(3);
    bench.attach(0, attach(7, EXCLUSIVE));
    let ask = |to| asks(to, id(0, 0), Fence::INITIAL, Question::Fence);
    assert_eq!(bench.out(), [ask(2), ask(3)]);
    bench.heard(3, 0, shared(4), &[]);
    let fence = own(5, 7, 0);
    let open = |to| asks(to, id(0, 1), fence, Question::Open { continues: None });
    assert_eq!(
        bench.out(),
        [
            open(2),
            open(3),
            Output::Raise { fence },
            Output::Record { fence }
        ]
    );
    bench.answer(2, id(0, 1), Answer::Opened);
    bench.answer(3, id(0, 1), Answer::Opened);
    assert_eq!(bench.out(), [], "this process has to have it as well");
    bench.complete();
    let holder = Holder {
        client: "client 0".to_owned(),
        ..holder(1, 7, fence)
    };
    let id = AttachmentId(0);
    let holders = vec![holder.clone()];
    assert_eq!(
        bench.out(),
        [
            Output::Stable { fence },
            Output::Granted { id, fence },
            Output::Holders { holders }
        ]
    );
    assert_eq!(bench.keeper.attachments(), [holder]);
    bench.step(Input::Detach { id });
    let holders = Vec::new();
    assert_eq!(bench.out(), [Output::Holders { holders }]);
    assert_eq!(bench.keeper.fence(), fence, "the fence stays");
}

#[test]
fn a_process_alone_asks_itself() {
    let mut bench = Bench::new(1);
    bench.attach(0, attach(7, EXCLUSIVE));
    let fence = own(1, 7, 0);
    assert_eq!(
        bench.out(),
        [Output::Raise { fence }, Output::Record { fence }]
    );
    bench.complete();
    let id = AttachmentId(0);
    assert_eq!(bench.outcomes(), [Output::Granted { id, fence }]);
}

#[test]
fn a_shared_attach_is_confirmed_at_a_majority() {
    let mut bench = Bench::new(3);
    bench.attach(0, attach(7, AttachKind::Shared));
    bench.heard(2, 0, Fence::INITIAL, &[]);
    let open = Question::Open { continues: None };
    assert!(
        bench
            .out()
            .contains(&asks(2, id(0, 1), Fence::INITIAL, open))
    );
    bench.answer(3, id(0, 1), Answer::Opened);
    let fence = Fence::INITIAL;
    let id = AttachmentId(0);
    assert_eq!(bench.outcomes(), [Output::Granted { id, fence }]);
}

#[test]
fn answers_of_other_incarnations_rounds_and_attaches_do_not_count() {
    let mut bench = Bench::new(3);
    bench.attach(0, attach(7, EXCLUSIVE));
    bench.out();
    let mut older = id(0, 0);
    older.operation.incarnation = Incarnation(2);
    let mut other = id(0, 0);
    other.operation.shard = 0;
    for id in [older, other, id(1, 0), id(0, 1)] {
        let fence = shared(4);
        let holders = Vec::new();
        bench.answer(2, id, Answer::Fence { fence, holders });
        bench.answer(2, id, Answer::Opened);
        bench.answer(2, id, Answer::Refused { fence });
    }
    assert_eq!(bench.out(), []);
    bench.heard(2, 0, shared(4), &[]);
    bench.complete();
    bench.out();
    for id in [older, id(0, 0), id(1, 1)] {
        bench.answer(2, id, Answer::Opened);
    }
    assert_eq!(bench.outcomes(), []);
    bench.answer(2, id(0, 1), Answer::Opened);
    assert_eq!(bench.outcomes().len(), 1);
}

#[test]
fn an_attach_waits_for_the_process_that_is_said_to_hold() {
    let held = holder(3, 9, exclusive(4, 3, 9));
    for ending in 0..4 {
        let mut bench = Bench::new(3);
        let rank = rank(3);
        bench.step(Input::PeerConnected { rank });
        bench.attach(0, attach(7, EXCLUSIVE));
        bench.heard(2, 0, exclusive(4, 3, 9), std::slice::from_ref(&held));
        assert_eq!(bench.outcomes(), []);
        assert_eq!(bench.keeper.accepted(), Fence::INITIAL);
        match ending {
            0 => bench.step(Input::StopWaiting {
                id: AttachmentId(0),
            }),
            1 => bench.step(Input::PeerDisconnected { rank }),
            2 => bench.heard(3, 0, exclusive(4, 3, 9), std::slice::from_ref(&held)),
            _ => bench.heard(3, 0, exclusive(4, 3, 9), &[]),
        }
        if ending < 3 {
            let refusal = AttachRefusal::Held(Box::new(held.clone()));
            assert_eq!(bench.outcomes(), [refused(0, refusal)]);
        } else {
            assert_eq!(bench.keeper.accepted(), own(5, 7, 0));
        }
    }
}

#[test]
fn a_peer_that_comes_back_is_asked_for_what_it_owes() {
    let mut bench = Bench::new(3);
    let connected = |rank| Input::PeerConnected { rank };
    bench.attach(0, attach(7, EXCLUSIVE));
    bench.out();
    bench.step(connected(rank(3)));
    let ask = asks(3, id(0, 0), Fence::INITIAL, Question::Fence);
    assert_eq!(bench.out(), [ask]);
    bench.heard(2, 0, Fence::INITIAL, &[]);
    bench.answer(2, id(0, 1), Answer::Opened);
    bench.out();
    bench.step(connected(rank(2)));
    assert_eq!(bench.out(), [], "it has answered");
    bench.step(connected(rank(3)));
    let open = Question::Open { continues: None };
    assert_eq!(bench.out(), [asks(3, id(0, 1), own(1, 7, 0), open)]);
}

#[test]
fn a_client_that_has_gone_opens_nothing() {
    for heard in [false, true] {
        let mut bench = Bench::new(3);
        bench.attach(0, attach(7, EXCLUSIVE));
        if heard {
            bench.heard(2, 0, Fence::INITIAL, &[]);
        }
        bench.out();
        bench.step(Input::Detach {
            id: AttachmentId(0),
        });
        bench.step(Input::PeerConnected { rank: rank(2) });
        bench.heard(2, 0, Fence::INITIAL, &[]);
        bench.answer(2, id(0, 1), Answer::Opened);
        assert_eq!(bench.out(), []);
        if heard {
            bench.complete();
            let fence = own(1, 7, 0);
            assert_eq!(bench.out(), [Output::Stable { fence }]);
        }
    }
}

#[test]
fn a_newer_generation_ends_what_runs_here() {
    let mut bench = Bench::new(3);
    bench.hold(0, attach(7, EXCLUSIVE));
    bench.attach(1, attach(8, AttachKind::ReadOnly));
    bench.out();
    let fence = exclusive(2, 2, 9);
    bench.step(Input::Raise { fence });
    let fenced = |number| Output::Fenced {
        id: AttachmentId(number),
        by: fence,
    };
    let holders = Vec::new();
    assert_eq!(
        bench.out(),
        [
            Output::Raise { fence },
            Output::Record { fence },
            fenced(0),
            fenced(1),
            Output::Holders { holders }
        ]
    );
}

#[test]
fn an_attach_that_is_overtaken_here_is_refused() {
    for continues in [None, Some(Generation(0))] {
        let mut bench = Bench::new(3);
        let wanted = Attach {
            continues,
            ..attach(7, EXCLUSIVE)
        };
        bench.attach(0, wanted);
        bench.heard(2, 0, Fence::INITIAL, &[]);
        bench.complete();
        bench.out();
        let fence = exclusive(2, 2, 9);
        bench.step(Input::Raise { fence });
        let by = Generation(2);
        let refusal = continues.map_or(AttachRefusal::Contended, |_| AttachRefusal::Fenced { by });
        assert_eq!(bench.outcomes(), [refused(0, refusal)]);
        bench.answer(2, id(0, 1), Answer::Opened);
        assert_eq!(bench.out(), [], "nothing is granted any more");
    }
}

#[test]
fn a_refusal_ends_the_attach_and_what_is_older_here() {
    let mut bench = Bench::new(3);
    bench.attach(0, attach(7, EXCLUSIVE));
    bench.heard(2, 0, Fence::INITIAL, &[]);
    bench.out();
    let fence = exclusive(4, 3, 9);
    bench.answer(3, id(0, 1), Answer::Refused { fence });
    assert_eq!(
        bench.out(),
        [
            refused(0, AttachRefusal::Contended),
            Output::Raise { fence },
            Output::Record { fence }
        ]
    );
    bench.complete();
    bench.attach(1, attach(7, EXCLUSIVE));
    bench.heard(2, 1, Fence::INITIAL, &[]);
    assert_eq!(bench.keeper.accepted(), own(5, 7, 1), "it is above it now");
}

#[test]
fn gateways_of_one_device_join_where_the_first_runs() {
    let mut bench = Bench::new(3);
    let fence = bench.hold(0, attach(7, KEYED));
    let id = AttachmentId;
    bench.attach(1, attach(8, KEYED));
    assert_eq!(
        bench.outcomes(),
        [Output::Granted { id: id(1), fence }],
        "without a question"
    );
    bench.step(Input::Detach { id: id(0) });
    bench.attach(2, attach(9, KEYED));
    assert_eq!(bench.outcomes(), [Output::Granted { id: id(2), fence }]);
    for number in 1..3 {
        bench.step(Input::Detach { id: id(number) });
    }
    bench.attach(3, attach(9, KEYED));
    assert_eq!(bench.outcomes(), [], "nobody is there to be joined");
}

#[test]
fn a_new_session_of_the_same_client_has_a_generation_of_its_own() {
    let mut bench = Bench::new(3);
    let fence = bench.hold(0, attach(7, EXCLUSIVE));
    let newer = bench.hold(1, goes_on(EXCLUSIVE, fence));
    assert_eq!(newer, own(2, 7, 1));
    assert_eq!(bench.keeper.attachments().len(), 1);
}

/// What owner 7 asks for to go on.
fn goes_on(kind: AttachKind, from: Fence) -> Attach {
    Attach {
        continues: Some(from.generation),
        ..attach(7, kind)
    }
}

/// A gateway that had lost its session joined another one of its device, or opened a generation of
/// its own, without asking who had had the disk meanwhile; and its client sent again what the next
/// host had overwritten.
#[test]
fn a_gateway_that_goes_on_joins_once_a_majority_says_that_nobody_came_between() {
    let foreign = exclusive(9, 3, 9);
    let by = Generation(9);
    for (answer, outcome) in [
        (Answer::Opened, None),
        (
            Answer::Refused { fence: foreign },
            Some(AttachRefusal::Fenced { by }),
        ),
    ] {
        let mut bench = Bench::new(3);
        let fence = bench.hold(0, attach(7, KEYED));
        bench.attach(1, goes_on(KEYED, fence));
        let continues = Some(fence.generation);
        let open = |to| asks(to, id(1, 1), fence, Question::Open { continues });
        let out = bench.out();
        assert!(out.contains(&open(2)) && out.contains(&open(3)), "{out:?}");
        assert!(!out.contains(&Output::Record { fence }), "it runs already");
        assert_eq!(bench.outcomes(), []);
        bench.answer(2, id(1, 1), answer);
        let id = AttachmentId;
        match outcome {
            None => {
                let granted = Output::Granted { id: id(1), fence };
                assert_eq!(bench.outcomes(), [granted]);
                assert_eq!(bench.keeper.attachments().len(), 2);
            }
            Some(refusal) => {
                let fenced = Output::Fenced {
                    id: id(0),
                    by: foreign,
                };
                assert_eq!(bench.outcomes(), [refused(1, refusal), fenced]);
            }
        }
    }
}

/// This process alone remembers who came between.
#[test]
fn a_gateway_that_goes_on_past_another_owner_is_refused_though_its_own_runs() {
    let mut bench = Bench::new(3);
    let first = bench.hold(0, attach(7, KEYED));
    bench.step(Input::Detach {
        id: AttachmentId(0),
    });
    bench.hold(1, attach(9, EXCLUSIVE));
    bench.step(Input::Detach {
        id: AttachmentId(1),
    });
    let fence = bench.hold(2, attach(7, KEYED));
    bench.attach(3, goes_on(KEYED, first));
    let by = fence.generation;
    let refusal = AttachRefusal::Fenced { by };
    assert_eq!(bench.outcomes(), [refused(3, refusal)]);
    bench.attach(4, goes_on(KEYED, fence));
    bench.answer(2, id(4, 1), Answer::Opened);
    let id = AttachmentId(4);
    assert_eq!(bench.outcomes(), [Output::Granted { id, fence }]);
}

#[test]
fn whom_a_gateway_was_about_to_join_may_leave() {
    let mut bench = Bench::new(3);
    let fence = bench.hold(0, attach(7, KEYED));
    bench.attach(1, goes_on(KEYED, fence));
    bench.step(Input::Detach {
        id: AttachmentId(0),
    });
    bench.answer(2, id(1, 1), Answer::Opened);
    assert_eq!(bench.outcomes(), [refused(1, AttachRefusal::Contended)]);
    assert_eq!(bench.hold(2, goes_on(KEYED, fence)), own(2, 7, 2));
}

/// Each would end what the other was about to be granted, and try again.
#[test]
fn gateways_of_one_device_do_not_overtake_each_other_even_if_they_insist() {
    for insists in [false, true] {
        let mut wanted = attach(7, KEYED);
        wanted.take_over = insists;
        wanted.continues = insists.then_some(Generation(0));
        let mut bench = Bench::new(3);
        for number in 0..2 {
            bench.attach(number, wanted);
            bench.heard(2, number, Fence::INITIAL, &[]);
            bench.heard(3, number, Fence::INITIAL, &[]);
        }
        assert_eq!(bench.outcomes(), [refused(1, AttachRefusal::Contended)]);
        bench.complete();
        bench.answer(2, id(0, 1), Answer::Opened);
        let fence = own(1, 7, 0);
        let id = AttachmentId(0);
        assert_eq!(bench.outcomes(), [Output::Granted { id, fence }]);
    }
}

#[test]
fn released_attachments_end_as_if_fenced() {
    let mut bench = Bench::new(3);
    let by = bench.hold(0, attach(7, EXCLUSIVE));
    bench.step(Input::Release {
        owner: OwnerId([8; 16]),
    });
    assert_eq!(bench.out(), []);
    bench.step(Input::Release {
        owner: OwnerId([7; 16]),
    });
    let id = AttachmentId(0);
    let holders = Vec::new();
    assert_eq!(
        bench.out(),
        [Output::Fenced { id, by }, Output::Holders { holders }]
    );
}

#[test]
fn peers_are_answered_with_fence_and_holders() {
    let mut bench = Bench::new(3);
    let own = bench.hold(0, attach(7, EXCLUSIVE));
    let told = holder(3, 9, own);
    bench.step(Input::PeerHolders {
        rank: rank(3),
        holders: vec![told.clone()],
    });
    let request = Request {
        id: super::request(2, 0),
        authority: Fence::INITIAL,
        question: Question::Fence,
    };
    let from = rank(2);
    bench.step(Input::Request {
        from,
        request: request.clone(),
    });
    let mut holders = bench.keeper.attachments();
    holders.push(told);
    let id = request.id;
    let fence = own;
    let answer = Answer::Fence { fence, holders };
    let reply = Reply { id, answer };
    assert_eq!(bench.out(), [Output::Reply { to: from, reply }]);
    for stranger in [1, 4] {
        let from = rank(stranger);
        let request = request.clone();
        bench.step(Input::Request { from, request });
    }
    assert_eq!(bench.out(), [], "they are no peers");
}

#[test]
fn two_clients_of_one_process_do_not_overtake_each_other() {
    let mut bench = Bench::new(3);
    bench.attach(0, attach(7, EXCLUSIVE));
    bench.attach(1, attach(8, EXCLUSIVE));
    bench.heard(2, 0, Fence::INITIAL, &[]);
    bench.heard(2, 1, Fence::INITIAL, &[]);
    let refusal = AttachRefusal::Contended;
    assert_eq!(bench.outcomes(), [refused(1, refusal.clone())]);
    let insists = Attach {
        take_over: true,
        ..attach(8, EXCLUSIVE)
    };
    bench.attach(2, insists);
    bench.complete();
    bench.heard(2, 2, Fence::INITIAL, &[]);
    assert_eq!(bench.outcomes(), [refused(0, refusal)]);
    bench.complete();
    bench.answer(2, id(2, 1), Answer::Opened);
    let id = AttachmentId(2);
    let fence = own(2, 8, 2);
    assert_eq!(bench.outcomes(), [Output::Granted { id, fence }]);
}
