use super::*;

fn request(from: u8, question: Question) -> Request {
    Request {
        id: id_of(from),
        authority: Fence::INITIAL,
        question,
    }
}

fn id_of(coordinator: u8) -> RequestId {
    RequestId {
        operation: OperationId {
            coordinator: rank(coordinator),
            incarnation: Incarnation(8),
            shard: 2,
            sequence: 77,
        },
        round: 1,
    }
}

fn faulty(from: u8, fault: PeerFault) -> Output {
    let from = rank(from);
    Output::Faulty { from, fault }
}

#[test]
fn questions_are_answered_with_what_the_store_says() {
    let mut bench = Bench::new(3);
    let ask = |bench: &mut Bench, question| {
        bench.step(Input::Request {
            from: rank(2),
            request: request(2, question),
        });
    };
    let answer = |answer| Output::Reply {
        to: rank(2),
        reply: Reply {
            id: id_of(2),
            answer,
        },
    };
    ask(&mut bench, Question::Stamps { range: range(0, 2) });
    assert_eq!(bench.register.answering(), 1);
    bench.load(&[vote(4, 2)], vec![]);
    let expected = Answer::Held(held(&[vote(4, 2)], vec![]));
    assert_eq!(bench.rest(), [answer(expected)]);

    let votes = Runs::uniform(1, Vote::ZERO);
    let question = Question::Values {
        range: range(0, 1),
        held: votes.clone(),
    };
    ask(&mut bench, question);
    let Output::Load { newer_than, .. } = &bench.out[0] else {
        panic!("a load");
    };
    assert_eq!(newer_than, &Some(votes));
    let values = vec![value(range(0, 1), stamp(4, 2), 1)];
    bench.load(&[vote(4, 2)], values.clone());
    let expected = Answer::Held(held(&[vote(4, 2)], values.clone()));
    assert_eq!(bench.rest(), [answer(expected)]);

    let question = Question::Store {
        extents: values.clone(),
    };
    ask(&mut bench, question.clone());
    ask(&mut bench, question);
    assert_eq!(bench.register.answering(), 2);
    assert!(
        !bench.out.contains(&answer(Answer::Stored)),
        "nothing is acknowledged before it is stable"
    );
    assert_eq!(bench.store(), values);
    assert_eq!(bench.store(), values);
    assert_eq!(
        bench.rest(),
        [answer(Answer::Stored), answer(Answer::Stored)]
    );
    assert_eq!(bench.register.answering(), 0);
}

#[test]
fn a_new_connection_is_sent_what_it_is_owed_once_more() {
    let mut bench = Bench::new(3);
    bench.write(range(0, 1), 1);
    bench.read(range(5, 1));
    let connected = Input::PeerConnected { rank: rank(3) };
    bench.requests();
    bench.step(connected.clone());
    let asked: Vec<(u8, RequestId)> = bench
        .requests()
        .into_iter()
        .map(|(to, request, _)| (to, request))
        .collect();
    assert_eq!(asked, [(3, id(0, 0))], "the read has asked nobody yet");

    bench.reply_held(3, id(0, 0), &[Vote::ZERO], vec![]);
    bench.step(connected.clone());
    assert_eq!(bench.requests(), [], "it has answered");
    bench.load(&[Vote::ZERO], vec![]);
    let store = bench.requests().pop().unwrap();
    bench.load(&[Vote::ZERO], vec![]);
    let values = bench.requests().pop().unwrap();
    bench.step(connected.clone());
    assert_eq!(bench.requests(), [store.clone(), values]);
    bench.reply(3, store.1, Answer::Stored);
    bench.reply_held(3, id(1, 0), &[Vote::ZERO], vec![]);
    bench.step(connected);
    assert_eq!(bench.requests(), []);
    assert!(bench.out.contains(&finished(1)));
}

#[test]
fn write_backs_are_sent_once_more_too() {
    let mut bench = Bench::new(3);
    bench.read(range(0, 1));
    bench.load(&[Vote::ZERO], vec![]);
    let newest = value(range(0, 1), stamp(5, 2), 2);
    bench.reply_held(2, id(0, 0), &[vote(5, 2)], vec![newest]);
    let sent = bench.requests();
    for number in [2, 3] {
        bench.step(Input::PeerConnected { rank: rank(number) });
    }
    let again = bench.requests();
    assert_eq!(again.len(), 1, "process 2 has it");
    assert_eq!(again[0], sent[2]);
}

#[test]
fn answers_that_no_correct_process_gives_are_reported_and_ignored() {
    let mut bench = Bench::new(3);
    bench.write(range(0, 1), 1);
    bench.read(range(5, 1));
    bench.load(&[Vote::ZERO], vec![]);
    bench.requests();
    bench.rest();
    let zero = || Answer::Held(held(&[Vote::ZERO], vec![]));
    let unasked = |change: fn(&mut RequestId)| {
        let mut id = id(0, 0);
        change(&mut id);
        id
    };
    let values = Answer::Held(held(
        &[vote(1, 2)],
        vec![value(range(0, 1), stamp(1, 2), 1)],
    ));
    let votes = Answer::Held(held(&[Vote::ZERO; 2], vec![]));
    let mismatch = PeerFault::VotesMismatch {
        sectors: 1,
        votes: 2,
    };
    let never = PeerFault::NeverAsked;
    for (request, answer, fault) in [
        (id(0, 0), Answer::Stored, PeerFault::WrongAnswer),
        (id(0, 0), values, PeerFault::ValuesMismatch),
        (id(0, 0), votes, mismatch),
        (id(0, 1), Answer::Stored, never),
        (id(1, 0), zero(), never),
        (id(2, 0), zero(), never),
        (
            unasked(|id| id.operation.coordinator = rank(2)),
            zero(),
            never,
        ),
        (unasked(|id| id.operation.shard = 6), zero(), never),
        (unasked(|id| id.operation.incarnation.0 += 1), zero(), never),
    ] {
        bench.reply(2, request, answer);
        assert_eq!(bench.rest(), [faulty(2, fault)]);
    }
    for stranger in [1, 4] {
        bench.reply(stranger, id(0, 0), zero());
        let fault = PeerFault::NotAPeer(rank(stranger));
        assert_eq!(bench.rest(), [faulty(stranger, fault)]);
    }
    bench.reply(2, unasked(|id| id.operation.incarnation.0 -= 1), zero());
    assert_eq!(bench.rest(), [], "asked before this start");

    bench.reply_held(2, id(0, 0), &[Vote::ZERO], vec![]);
    bench.reply_held(3, id(0, 0), &[Vote::ZERO], vec![]);
    assert_eq!(bench.requests().len(), 2, "the write goes on");
    bench.reply(2, id(0, 1), zero());
    assert_eq!(bench.rest().pop(), Some(faulty(2, PeerFault::WrongAnswer)));
}

#[test]
fn requests_that_no_correct_process_makes_are_reported_and_ignored() {
    let mut bench = Bench::new(3);
    let stamps = Question::Stamps { range: range(0, 1) };
    for (from, request, fault) in [
        (2, request(3, stamps.clone()), PeerFault::ForeignOperation),
        (4, request(4, stamps.clone()), PeerFault::NotAPeer(rank(4))),
        (1, request(1, stamps), PeerFault::NotAPeer(rank(1))),
        (
            2,
            request(2, Question::Store { extents: vec![] }),
            PeerFault::MalformedStore,
        ),
    ] {
        let from = rank(from);
        bench.step(Input::Request { from, request });
        assert_eq!(bench.rest(), [Output::Faulty { from, fault }]);
    }
    assert_eq!(bench.register.answering(), 0);
}

#[test]
fn what_the_store_refuses_is_declined_and_forgotten() {
    let mut bench = Bench::new(3);
    let extents = vec![value(range(0, 1), stamp(4, 2), 1)];
    bench.step(Input::Request {
        from: rank(2),
        request: request(2, Question::Store { extents }),
    });
    let Some(Output::Store { token, .. }) = bench.out.pop() else {
        panic!("a store");
    };
    bench.step(Input::Refused { token });
    let (to, id) = (rank(2), id_of(2));
    assert_eq!(bench.rest(), [Output::Decline { to, id }]);
    assert_eq!(bench.register.answering(), 0);
}
