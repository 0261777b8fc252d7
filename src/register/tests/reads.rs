use super::*;

fn values_question(range: SectorRange, votes: &[Vote]) -> Question {
    Question::Values {
        range,
        held: votes.iter().copied().collect(),
    }
}

#[test]
fn a_read_asks_the_others_before_it_reads_its_own_disk() {
    let mut bench = Bench::new(3);
    let sector = range(7, 1);
    bench.read(sector);
    assert!(bench.requests().is_empty());
    bench.load(&[vote(4, 2)], vec![]);
    let question = values_question(sector, &[vote(4, 2)]);
    let kinds: Vec<bool> = bench
        .out
        .iter()
        .map(|output| matches!(output, Output::Load { .. }))
        .collect();
    assert_eq!(kinds, [false, false, true]);
    let expected = [(2, id(0, 0), question.clone()), (3, id(0, 0), question)];
    assert_eq!(bench.requests(), expected);

    bench.reply_held(3, id(0, 0), &[vote(4, 2)], vec![]);
    assert_eq!(bench.register.in_flight(), 1, "nobody has sent the value");
    let own = vec![value(sector, stamp(4, 2), 9)];
    bench.load(&[vote(4, 2)], own.clone());
    assert_eq!(bench.rest(), [done(0, Outcome::Read(own)), finished(0)]);
}

#[test]
fn what_was_never_written_is_not_looked_for_on_the_disk() {
    let mut bench = Bench::new(3);
    bench.read(range(7, 2));
    bench.load(&[Vote::ZERO; 2], vec![]);
    assert_eq!(bench.requests().len(), 2);
    assert_eq!(bench.rest(), []);
    bench.reply_held(2, id(0, 0), &[Vote::ZERO; 2], vec![]);
    let read = Outcome::Read(vec![zeroes(range(7, 2), Stamp::ZERO)]);
    assert_eq!(bench.rest(), [done(0, read), finished(0)]);
}

#[test]
fn a_value_that_too_few_hold_is_written_back_to_those_that_lack_it() {
    let mut bench = Bench::new(5);
    let (old, new) = (vote(4, 2), vote(5, 3));
    bench.read(range(0, 3));
    bench.load(&[old, old, old], vec![]);
    let own = vec![value(range(0, 3), stamp(4, 2), 1)];
    bench.load(&[old, old, old], own);
    bench.requests();
    // The first sector is agreed on, the second new at one of three, the third at two.
    let newer = value(range(1, 2), stamp(5, 3), 2);
    bench.reply_held(2, id(0, 0), &[old, new, new], vec![newer.clone()]);
    assert!(bench.requests().is_empty());
    let newest = value(range(2, 1), stamp(5, 3), 2);
    bench.reply_held(3, id(0, 0), &[old, old, new], vec![newest]);

    let stores: Vec<(u8, Vec<Extent>)> = bench
        .requests()
        .into_iter()
        .map(|(to, request, question)| match question {
            Question::Store { extents } => {
                assert_eq!(request, id(0, 1));
                (to, extents)
            }
            other => panic!("not a store: {other:?}"),
        })
        .collect();
    let second = value(range(1, 1), stamp(5, 3), 2);
    let both = vec![newer];
    let expected = [(3, vec![second]), (4, both.clone()), (5, both.clone())];
    assert_eq!(stores, expected, "process 2 lacks nothing");

    bench.reply(4, id(0, 1), Answer::Stored);
    assert_eq!(bench.register.in_flight(), 1, "two of five hold it all");
    assert_eq!(bench.store(), both);
    let read = vec![
        value(range(0, 1), stamp(4, 2), 1),
        value(range(1, 2), stamp(5, 3), 2),
    ];
    assert_eq!(bench.rest(), [done(0, Outcome::Read(read)), finished(0)]);
}

#[test]
fn a_copy_that_turns_out_damaged_is_replaced_by_a_majority_of_the_others() {
    let mut bench = Bench::new(3);
    let vote = vote(4, 2);
    bench.read(range(0, 2));
    bench.load(&[vote; 2], vec![]);
    bench.requests();
    bench.reply_held(2, id(0, 0), &[vote; 2], vec![]);
    let intact = value(range(0, 1), stamp(4, 2), 1);
    bench.load(&[vote, Vote::Lost], vec![intact.clone()]);
    let question = values_question(range(0, 2), &[vote, Vote::Lost]);
    let expected = [(2, id(0, 1), question.clone()), (3, id(0, 1), question)];
    assert_eq!(bench.requests(), expected, "asked again");

    let damaged = value(range(1, 1), stamp(4, 2), 1);
    bench.reply_held(3, id(0, 0), &[vote; 2], vec![]);
    bench.reply_held(2, id(0, 1), &[vote; 2], vec![damaged.clone()]);
    assert_eq!(
        bench.register.in_flight(),
        1,
        "one of the others is not enough"
    );
    bench.reply_held(3, id(0, 1), &[vote; 2], vec![damaged.clone()]);
    assert_eq!(bench.store(), vec![damaged.clone()], "healed");
    let Some(Output::Done { outcome, .. }) = bench.rest().pop() else {
        panic!("it is done, and everyone has answered");
    };
    assert_eq!(outcome, Ok(Outcome::Read(vec![intact, damaged])));
}

#[test]
fn a_copy_known_to_be_damaged_is_asked_for_at_once() {
    let mut bench = Bench::new(3);
    bench.read(range(0, 1));
    bench.load(&[Vote::Lost], vec![]);
    let question = values_question(range(0, 1), &[Vote::Lost]);
    assert_eq!(bench.requests()[1], (3, id(0, 0), question));
    assert_eq!(bench.rest(), [], "there is nothing to load");
    let newest = value(range(0, 1), stamp(5, 3), 2);
    bench.reply_held(
        2,
        id(0, 0),
        &[vote(4, 2)],
        vec![value(range(0, 1), stamp(4, 2), 1)],
    );
    bench.reply_held(3, id(0, 0), &[vote(5, 3)], vec![newest.clone()]);
    // Only one of the two others has it: the own copy is part of the write-back.
    assert_eq!(bench.requests().len(), 1);
    assert_eq!(bench.store(), vec![newest.clone()]);
    let read = Outcome::Read(vec![newest]);
    assert_eq!(bench.rest(), [done(0, read), finished(0)]);
}

#[test]
fn a_value_that_grew_newer_between_the_own_loads_is_the_own_vote() {
    let mut bench = Bench::new(3);
    bench.read(range(0, 1));
    bench.load(&[vote(4, 2)], vec![]);
    let newest = value(range(0, 1), stamp(5, 3), 2);
    bench.load(&[vote(5, 3)], vec![newest.clone()]);
    bench.requests();
    bench.reply_held(3, id(0, 0), &[vote(5, 3)], vec![newest.clone()]);
    let read = Outcome::Read(vec![newest]);
    assert_eq!(bench.rest(), [done(0, read), finished(0)]);
}

#[test]
fn short_answers_split_a_read_into_pieces() {
    let mut bench = Bench::new(3);
    let (vote, stamp) = (vote(4, 2), stamp(4, 2));
    bench.read(range(0, 4));
    bench.load(&[vote; 4], vec![]);
    bench.load(&[vote; 3], vec![value(range(0, 3), stamp, 1)]);
    bench.requests();
    bench.reply_held(3, id(0, 0), &[vote; 4], vec![]);
    bench.load(&[vote], vec![]);
    assert_eq!(bench.rest().remove(0), finished(0));
    assert_eq!(bench.register.in_flight(), 1);
    bench.reply_held(3, id(1, 0), &[vote], vec![]);
    assert_eq!(bench.rest(), []);
}

#[test]
fn a_process_alone_is_its_own_majority() {
    let mut bench = Bench::new(1);
    bench.write(range(0, 1), 9);
    bench.load(&[Vote::ZERO], vec![]);
    let stored = bench.store();
    assert_eq!(bench.rest(), [done(0, Outcome::Written)]);
    bench.read(range(0, 1));
    bench.load(&[vote(1, OWN)], vec![]);
    bench.load(&[vote(1, OWN)], stored.clone());
    assert_eq!(bench.rest(), [done(1, Outcome::Read(stored))]);
    bench.read(range(5, 1));
    bench.load(&[Vote::ZERO], vec![]);
    assert_eq!(bench.rest().len(), 1);
    bench.read(range(0, 1));
    bench.load(&[vote(1, OWN)], vec![]);
    bench.load(&[Vote::Lost], vec![]);
    let error = RegisterError::Unreadable { range: range(0, 1) };
    assert_eq!(bench.rest(), [failed(3, error), finished(3)]);
}

#[test]
#[should_panic(expected = "a store never goes back")]
fn a_store_that_goes_back_ends_the_process() {
    let mut bench = Bench::new(3);
    bench.read(range(0, 1));
    bench.load(&[vote(5, 3)], vec![]);
    bench.load(&[vote(4, 2)], vec![value(range(0, 1), stamp(4, 2), 1)]);
}

#[test]
fn only_so_many_damaged_copies_are_healed_at_a_time() {
    let mut bench = Bench::new(3);
    let read_damaged = |bench: &mut Bench, sequence: u64| {
        let sector = range(sequence, 1);
        let intact = value(sector, stamp(4, 2), 1);
        bench.read(sector);
        bench.load(&[Vote::Lost], vec![]);
        for from in [2, 3] {
            let values = vec![intact.clone()];
            bench.reply_held(from, id(sequence, 0), &[vote(4, 2)], values);
        }
        bench.requests();
    };
    let heals = |bench: &Bench| {
        let stores = bench.out.iter();
        let stores = stores.filter(|output| matches!(output, Output::Store { .. }));
        stores.count()
    };
    for sequence in 0..100 {
        read_damaged(&mut bench, sequence);
    }
    assert_eq!(bench.register.in_flight(), 0, "nobody waits for it");
    assert_eq!(heals(&bench), 64);
    bench.store();
    read_damaged(&mut bench, 100);
    assert_eq!(heals(&bench), 64, "one is done, and one more begun");
    let is_store = |output: &Output| matches!(output, Output::Store { .. });
    let at = bench.out.iter().position(is_store).expect("a store");
    let Output::Store { token, .. } = bench.out.remove(at) else {
        unreachable!();
    };
    bench.step(Input::Refused { token });
    read_damaged(&mut bench, 101);
    assert_eq!(heals(&bench), 64, "one is refused, and one more begun");
}
