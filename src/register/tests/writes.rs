use super::*;

#[test]
fn a_write_is_done_when_a_majority_holds_it_on_stable_storage() {
    let mut bench = Bench::new(3);
    bench.write(range(7, 1), 9);
    let stamps = Question::Stamps { range: range(7, 1) };
    let expected = [(2, id(0, 0), stamps.clone()), (3, id(0, 0), stamps)];
    assert_eq!(bench.requests(), expected);
    bench.reply_held(2, id(0, 0), &[vote(4, 3)], vec![]);
    assert!(bench.requests().is_empty(), "one of three is no majority");

    bench.load(&[vote(4, 2)], vec![]);
    let extents = vec![value(range(7, 1), stamp(5, OWN), 9)];
    let store = Question::Store {
        extents: extents.clone(),
    };
    let expected = [(2, id(0, 1), store.clone()), (3, id(0, 1), store)];
    assert_eq!(bench.requests(), expected);
    bench.reply(3, id(0, 1), Answer::Stored);
    assert_eq!(
        bench.register.in_flight(),
        1,
        "the own copy may yet be lost"
    );
    assert_eq!(bench.store(), extents);
    assert_eq!(bench.rest(), [done(0, Outcome::Written), finished(0)]);
    assert_eq!(bench.register.in_flight(), 0);

    bench.reply(2, id(0, 1), Answer::Stored);
    bench.reply_held(3, id(0, 0), &[vote(4, 3)], vec![]);
    assert_eq!(bench.rest(), [], "late replies are nothing");
}

#[test]
fn a_write_needs_no_own_copy() {
    let mut bench = Bench::new(3);
    bench.write(range(7, 1), 9);
    bench.reply_held(2, id(0, 0), &[Vote::ZERO], vec![]);
    bench.reply_held(3, id(0, 0), &[Vote::ZERO], vec![]);
    bench.reply(2, id(0, 1), Answer::Stored);
    bench.reply(3, id(0, 1), Answer::Stored);
    assert!(bench.out.contains(&done(0, Outcome::Written)));
    bench.load(&[Vote::ZERO], vec![]);
    bench.store();
}

#[test]
fn a_reply_counts_once_and_only_in_its_round() {
    let mut bench = Bench::new(5);
    bench.write(range(0, 1), 9);
    for _ in 0..3 {
        bench.reply_held(2, id(0, 0), &[Vote::ZERO], vec![]);
    }
    bench.reply_held(3, id(0, 0), &[Vote::ZERO], vec![]);
    bench.requests();
    assert_eq!(bench.register.in_flight(), 1);
    bench.reply_held(4, id(0, 0), &[Vote::ZERO], vec![]);
    assert_eq!(bench.requests().len(), 4, "three have voted");
    bench.reply_held(5, id(0, 0), &[Vote::ZERO], vec![]);
    for _ in 0..3 {
        bench.reply(2, id(0, 1), Answer::Stored);
    }
    bench.reply(3, id(0, 1), Answer::Stored);
    assert_eq!(bench.register.in_flight(), 1);
    bench.reply(4, id(0, 1), Answer::Stored);
    assert_eq!(bench.register.in_flight(), 0);
}

#[test]
fn a_stamp_is_above_all_seen_and_above_all_that_were_used() {
    let mut bench = Bench::new(1);
    bench.write(range(0, 3), 1);
    bench.load(&[vote(4, 1), vote(9, 1), vote(2, 1)], vec![]);
    assert_eq!(bench.store()[0].stamp, stamp(10, OWN));
    bench.write(range(5, 1), 2);
    bench.load(&[Vote::ZERO], vec![]);
    assert_eq!(bench.store()[0].stamp, stamp(11, OWN));
}

#[test]
fn a_discard_stores_nothing_where_nothing_was_written() {
    let mut bench = Bench::new(3);
    bench.discard(range(0, 65_536));
    bench.requests();
    let unwritten = held(&[], vec![]);
    let unwritten = Held {
        votes: Runs::uniform(65_536, Vote::ZERO),
        ..unwritten
    };
    bench.reply(2, id(0, 0), Answer::Held(unwritten.clone()));
    bench.reply(3, id(0, 0), Answer::Held(unwritten));
    let loads = bench.rest();
    assert!(matches!(loads[0], Output::Load { .. }));
    assert_eq!(loads[1..], [done(0, Outcome::Written), finished(0)]);
}

#[test]
fn a_discard_leaves_tombstones_where_anyone_has_a_value() {
    let mut bench = Bench::new(3);
    bench.discard(range(10, 6));
    bench.requests();
    let (zero, old) = (Vote::ZERO, vote(3, 3));
    bench.load(&[zero, zero, zero, zero, zero, zero], vec![]);
    bench.reply_held(
        3,
        id(0, 0),
        &[zero, old, old, zero, zero, vote(8, 3)],
        vec![],
    );
    let tombstones = [
        zeroes(range(11, 2), stamp(9, OWN)),
        zeroes(range(15, 1), stamp(9, OWN)),
    ];
    assert_eq!(bench.store(), tombstones);
    bench.reply(2, id(0, 1), Answer::Stored);
    assert!(bench.out.contains(&done(0, Outcome::Written)));
}

#[test]
fn short_answers_split_a_write_into_pieces() {
    let mut bench = Bench::new(3);
    let data = [bytes(2, 1), bytes(2, 2)].concat();
    let range_of_all = range(0, 4);
    bench.command(Command::Write {
        range: range_of_all,
        data: data.into(),
    });
    bench.requests();
    bench.load(&[Vote::ZERO; 4], vec![]);
    bench.reply_held(3, id(0, 0), &[Vote::ZERO; 2], vec![]);
    assert_eq!(bench.store(), [value(range(0, 2), stamp(1, OWN), 1)]);
    bench.requests();
    bench.reply(3, id(0, 1), Answer::Stored);

    let stamps = Question::Stamps { range: range(2, 2) };
    assert_eq!(bench.requests()[0], (2, id(1, 0), stamps));
    assert_eq!(bench.register.in_flight(), 1);
    bench.load(&[Vote::ZERO; 2], vec![]);
    assert_eq!(bench.rest(), [finished(0)]);
    bench.reply_held(2, id(1, 0), &[vote(6, 2), Vote::ZERO], vec![]);
    assert_eq!(bench.store(), [value(range(2, 2), stamp(7, OWN), 2)]);
    bench.reply(2, id(1, 1), Answer::Stored);
    assert!(bench.out.contains(&done(0, Outcome::Written)));
}

#[test]
fn a_lost_copy_is_no_vote() {
    let mut bench = Bench::new(3);
    bench.write(range(0, 2), 9);
    bench.load(&[Vote::Lost, Vote::ZERO], vec![]);
    bench.reply_held(2, id(0, 0), &[vote(6, 2), Vote::ZERO], vec![]);
    bench.requests();
    assert_eq!(bench.rest(), [], "the first sector has one vote");
    bench.reply_held(3, id(0, 0), &[vote(7, 3), Vote::ZERO], vec![]);
    assert_eq!(bench.store()[0].stamp, stamp(8, OWN));
}

#[test]
fn a_sector_with_no_majority_of_intact_copies_is_unreadable() {
    let mut bench = Bench::new(3);
    bench.write(range(0, 2), 9);
    bench.load(&[Vote::Lost, Vote::ZERO], vec![]);
    bench.requests();
    bench.reply_held(3, id(0, 0), &[Vote::Lost, Vote::ZERO], vec![]);
    let error = RegisterError::Unreadable { range: range(0, 2) };
    assert_eq!(bench.rest(), [failed(0, error), finished(0)]);
    assert_eq!(bench.register.in_flight(), 0);
}

#[test]
fn operations_on_the_same_sector_wait_in_order_up_to_a_bound() {
    let mut bench = Bench::new(1);
    bench.write(range(0, 4), 1);
    bench.write(range(3, 2), 2);
    bench.write(range(4, 1), 3);
    bench.write(range(8, 1), 4);
    assert_eq!(bench.register.in_flight(), 2, "the first and the last");
    assert_eq!(bench.register.queued(), 2);
    bench.read(range(0, 1));
    let refused = bench.rest().pop();
    assert_eq!(refused, Some(failed(4, RegisterError::QueueFull)));
    assert_eq!(bench.register.queued(), 2);

    let mut bench = Bench::new(1);
    for fill in 1..=3 {
        bench.write(range(0, 1), fill);
    }
    for fill in 1..=3 {
        bench.load(&[Vote::ZERO], vec![]);
        let stamp = stamp(fill.into(), OWN);
        assert_eq!(bench.store(), [value(range(0, 1), stamp, fill)]);
        assert_eq!(
            bench.out.remove(0),
            done(u64::from(fill) - 1, Outcome::Written)
        );
    }
    assert_eq!(bench.rest(), []);
}

#[test]
fn operations_have_a_greatest_length() {
    let mut bench = Bench::new(3);
    let too_long = |sectors, most| RegisterError::TooLong { sectors, most };
    bench.read(range(0, 257));
    bench.write(range(0, 257), 1);
    bench.discard(range(0, 65_537));
    let expected = [
        failed(0, too_long(257, 256)),
        failed(1, too_long(257, 256)),
        failed(2, too_long(65_537, 65_536)),
    ];
    assert_eq!(bench.rest(), expected);
}

#[test]
fn a_write_of_an_exclusive_generation_asks_nobody_first() {
    let mut bench = Bench::new(3);
    bench.attach(exclusive(2, 1));
    bench.write(range(7, 2), 9);
    let first = vec![value(range(7, 2), settled(2, 2, 1, OWN), 9)];
    assert_eq!(bench.stores(), [(2, first.clone()), (3, first.clone())]);
    bench.reply(3, id(0, 0), Answer::Stored);
    assert_eq!(bench.register.in_flight(), 1, "one of three has it");
    assert_eq!(bench.store(), first);
    assert_eq!(bench.rest(), [done(0, Outcome::Written), finished(0)]);

    bench.write(range(0, 1), 1);
    bench.requests();
    assert_eq!(bench.store()[0].stamp, settled(2, 2, 2, OWN));
    bench.reply(2, id(1, 0), Answer::Stored);
    bench.rest();
    bench.attach(exclusive(3, 1));
    bench.write(range(0, 1), 1);
    bench.requests();
    let stamp = bench.store()[0].stamp;
    assert_eq!(stamp, settled(3, 3, 3, OWN), "the counter never goes back");
}

#[test]
#[should_panic(expected = "by the start that opened it")]
fn nobody_writes_under_the_exclusive_generation_of_another_start() {
    let mut bench = Bench::new(3);
    let mut fence = exclusive(2, 1);
    if let Mode::Exclusive { tag, .. } = &mut fence.mode {
        tag.incarnation.0 -= 1;
    }
    bench.attach(fence);
    bench.write(range(7, 1), 9);
}

#[test]
fn a_shared_write_is_above_what_its_generation_wrote() {
    let mut bench = Bench::under(shared(2), 3);
    let write = |bench: &mut Bench, own: Stamp, other: Stamp| {
        bench.write(range(0, 1), 1);
        let sequence = bench.requests()[0].1.operation.sequence;
        bench.load(&[Vote::Stamp(own)], vec![]);
        bench.reply_held(2, id(sequence, 0), &[Vote::Stamp(other)], vec![]);
        bench.requests();
        let stamp = bench.store()[0].stamp;
        bench.reply(2, id(sequence, 1), Answer::Stored);
        bench.rest();
        stamp
    };
    // Older generations count for nothing, settled under this one or not.
    let (old, raised) = (settled(1, 1, 70, 2), settled(2, 1, 60, 2));
    assert_eq!(write(&mut bench, old, raised), settled(2, 2, 1, OWN));
    let other = settled(2, 2, 8, 2);
    assert_eq!(write(&mut bench, old, other), settled(2, 2, 9, OWN));
    assert_eq!(write(&mut bench, old, old), settled(2, 2, 10, OWN));
}

#[test]
fn a_stamp_of_a_later_generation_stops_nothing_but_whoever_says_it() {
    let mut bench = Bench::under(shared(2), 3);
    bench.write(range(0, 1), 1);
    bench.requests();
    bench.load(&[Vote::ZERO], vec![]);
    bench.reply_held(2, id(0, 0), &[Vote::Stamp(settled(3, 1, 4, 2))], vec![]);
    let (from, fault) = (rank(2), PeerFault::WrongGeneration);
    assert_eq!(bench.rest(), [Output::Faulty { from, fault }]);
    bench.reply_held(3, id(0, 0), &[Vote::ZERO], vec![]);
    assert_eq!(bench.store()[0].stamp, settled(2, 2, 1, OWN));
}

#[test]
#[should_panic(expected = "the store answers what it was asked")]
fn the_own_store_holds_nothing_of_a_later_generation() {
    let mut bench = Bench::under(shared(2), 3);
    bench.write(range(0, 1), 1);
    bench.load(&[Vote::Stamp(settled(3, 1, 4, 2))], vec![]);
}
