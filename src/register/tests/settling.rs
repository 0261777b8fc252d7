//! Values of older generations: when they are returned as they are, and how they are settled.

use std::slice::from_ref;

use super::*;

const G: u64 = 3;

/// A bench attached under generation 3, after one that has left values.
fn attached(processes: u8) -> Bench {
    let mut bench = Bench::under(shared(1), processes);
    bench.attach(exclusive(G, 1));
    bench
}

fn votes(stamps: &[Stamp]) -> Vec<Vote> {
    stamps.iter().copied().map(Vote::Stamp).collect()
}

/// A read of these sectors whose own copy holds these values.
fn read_with(bench: &mut Bench, values: &[Extent]) {
    let (first, last) = (values[0].range.first(), values.last().unwrap().range.last());
    let count = u32::try_from(last.to_bits() - first.to_bits() + 1).unwrap();
    let mut own = Vec::new();
    for extent in values {
        own.extend(extent.range.addresses().map(|_| Vote::Stamp(extent.stamp)));
    }
    bench.read(SectorRange::new(first, count).unwrap());
    bench.load(&own, vec![]);
    bench.load(&own, values.to_vec());
}

#[test]
fn what_a_majority_agrees_on_is_settled_before_it_is_read() {
    let mut bench = attached(3);
    let old = value(range(7, 2), settled(1, 1, 4, 2), 9);
    read_with(&mut bench, from_ref(&old));
    bench.requests();
    bench.reply_held(2, id(0, 0), &votes(&[old.stamp; 2]), vec![]);
    assert!(!bench.register.waits_for_more(), "nobody else is connected");

    let value = Extent {
        stamp: settled(G, 1, 4, 2),
        ..old.clone()
    };
    let stores = [(2, vec![unchanged(range(7, 2), G)]), (3, vec![value])];
    assert_eq!(bench.stores(), stores);
    assert_eq!(
        bench.register.in_flight(),
        1,
        "no vote is an acknowledgement"
    );
    assert_eq!(bench.store(), [unchanged(range(7, 2), G)]);
    assert_eq!(bench.rest(), [], "one of three has settled it");
    bench.reply(2, id(0, 1), Answer::Stored);
    let read = Outcome::Read(vec![old]);
    assert_eq!(bench.rest(), [done(0, read), finished(0)]);
}

#[test]
fn what_all_processes_hold_is_read_as_it_is() {
    let mut bench = attached(3);
    let old = value(range(7, 1), settled(1, 1, 4, 2), 9);
    bench.connect(&[2, 3]);
    read_with(&mut bench, from_ref(&old));
    bench.requests();
    bench.reply_held(3, id(0, 0), &votes(&[old.stamp]), vec![]);
    assert_eq!(bench.rest(), []);
    assert!(bench.register.waits_for_more(), "the second may hold it");
    bench.reply_held(2, id(0, 0), &votes(&[old.stamp]), vec![]);
    assert_eq!(bench.rest(), [done(0, Outcome::Read(vec![old]))]);
    assert!(!bench.register.waits_for_more());
}

#[test]
fn who_is_connected_is_waited_for_until_it_goes_or_takes_too_long() {
    let old = |first| value(range(first, 1), settled(1, 1, 4, 2), 9);
    let mut bench = attached(3);
    bench.connect(&[2, 3]);
    for sector in [0, 1] {
        read_with(&mut bench, &[old(sector)]);
        bench.requests();
        bench.reply_held(2, id(sector, 0), &votes(&[old(0).stamp]), vec![]);
        assert_eq!(bench.rest(), []);
    }
    bench.step(Input::PeerDisconnected { rank: rank(2) });
    assert!(bench.register.waits_for_more(), "it has answered");
    assert_eq!(bench.rest(), []);
    bench.step(Input::PeerDisconnected { rank: rank(3) });
    assert_eq!(bench.requests().len(), 4);
    assert!(!bench.register.waits_for_more());
    bench.rest();

    // The third is connected and silent: that is waited for once, until it says something.
    bench.connect(&[3]);
    let read_waits = |bench: &mut Bench, sequence| {
        read_with(bench, &[old(sequence)]);
        bench.reply_held(2, id(sequence, 0), &votes(&[old(0).stamp]), vec![]);
        bench.requests();
        bench.register.waits_for_more()
    };
    assert!(read_waits(&mut bench, 2));
    bench.step(Input::StopWaiting);
    assert_eq!(bench.stores().len(), 2);
    assert_eq!(bench.store(), [unchanged(range(2, 1), G)]);
    assert!(!read_waits(&mut bench, 3));
    bench.reply(3, id(0, 1), Answer::Stored);
    assert!(read_waits(&mut bench, 4));
    bench.step(Input::Raise { fence: shared(9) });
    assert!(!bench.register.waits_for_more());
}

#[test]
fn nobody_is_waited_for_where_not_all_can_agree() {
    let mut bench = attached(3);
    bench.connect(&[2, 3]);
    let old = value(range(0, 2), settled(1, 1, 4, 2), 9);
    read_with(&mut bench, from_ref(&old));
    bench.requests();
    // The first sector is agreed on, of the second the other holds an older value.
    let held = votes(&[old.stamp, settled(1, 1, 3, 2)]);
    bench.reply_held(2, id(0, 0), &held, vec![]);
    assert!(!bench.register.waits_for_more());
    let settled_under = |part: u32, count| {
        let stamp = settled(G, 1, 4, 2);
        value(range(part.into(), count), stamp, 9)
    };
    let portion = vec![unchanged(range(0, 1), G), settled_under(1, 1)];
    let stores = [(2, portion.clone()), (3, vec![settled_under(0, 2)])];
    assert_eq!(bench.stores(), stores);
    assert_eq!(
        bench.store(),
        portion,
        "one of three may have been told another value since"
    );
    bench.reply(3, id(0, 1), Answer::Stored);
    assert_eq!(bench.rest()[0], done(0, Outcome::Read(vec![old])));

    // A value of this generation that one of two holds is written back at once, as ever.
    let new = value(range(5, 1), settled(G, G, 1, OWN), 9);
    read_with(&mut bench, from_ref(&new));
    bench.requests();
    bench.reply_held(2, id(1, 0), &[Vote::ZERO], vec![]);
    assert_eq!(bench.stores(), [(2, vec![new.clone()]), (3, vec![new])]);
}

#[test]
fn what_was_settled_is_read_as_ever() {
    let mut bench = attached(3);
    bench.connect(&[2, 3]);
    let new = value(range(0, 1), settled(G, 1, 4, 2), 9);
    read_with(&mut bench, from_ref(&new));
    bench.reply_held(2, id(0, 0), &votes(&[new.stamp]), vec![]);
    bench.requests();
    let read = Outcome::Read(vec![new.clone()]);
    assert_eq!(bench.rest(), [done(0, read), finished(0)]);

    // Where too few have settled it, the value itself goes to all others: who voted for it may
    // have been told an older one since, by a reader that saw that alone and settled it.
    let mut bench = attached(5);
    read_with(&mut bench, from_ref(&new));
    bench.requests();
    bench.reply_held(2, id(0, 0), &votes(&[settled(1, 1, 4, 2)]), vec![]);
    bench.reply_held(3, id(0, 0), &votes(&[settled(2, 1, 3, 2)]), vec![]);
    let stores = [
        (2, vec![new.clone()]),
        (3, vec![new.clone()]),
        (4, vec![new.clone()]),
        (5, vec![new.clone()]),
    ];
    assert_eq!(bench.stores(), stores);
    assert_eq!(bench.rest(), [], "the own copy is settled, and counts");
    bench.reply(2, id(0, 1), Answer::Stored);
    bench.reply(5, id(0, 1), Answer::Stored);
    assert_eq!(bench.rest()[0], done(0, Outcome::Read(vec![new])));
}

#[test]
fn a_range_is_settled_whole_whatever_stamps_it_has() {
    let mut bench = attached(3);
    let values = [
        value(range(0, 2), settled(1, 1, 4, 2), 1),
        value(range(2, 2), settled(2, 1, 5, 3), 2),
        value(range(4, 1), settled(G, G, 1, OWN), 3),
        value(range(5, 1), settled(1, 1, 9, 2), 4),
    ];
    read_with(&mut bench, &values);
    bench.requests();
    let stamps: Vec<Stamp> = [(0, 2), (1, 2), (2, 1), (3, 1)]
        .into_iter()
        .flat_map(|(place, count): (usize, usize)| vec![values[place].stamp; count])
        .collect();
    bench.reply_held(2, id(0, 0), &votes(&stamps), vec![]);
    let spans = vec![unchanged(range(0, 4), G), unchanged(range(5, 1), G)];
    assert_eq!(bench.stores()[0], (2, spans.clone()));
    assert_eq!(bench.store(), spans);
    bench.reply(2, id(0, 1), Answer::Stored);
    let read = Outcome::Read(values.to_vec());
    assert_eq!(bench.rest(), [done(0, read), finished(0)]);
}

#[test]
fn what_was_never_written_is_settled_alike() {
    let mut bench = attached(3);
    bench.read(range(7, 2));
    bench.load(&votes(&[unwritten(2), Stamp::ZERO]), vec![]);
    let asked = bench.requests();
    let Question::Values { held, .. } = &asked[0].2 else {
        panic!("a question for values");
    };
    assert_eq!(held.at(0), Some(Vote::Stamp(unwritten(2))));
    assert_eq!(bench.rest(), [], "there is nothing to read from the disk");
    bench.reply_held(2, id(0, 0), &[Vote::ZERO; 2], vec![]);
    let settled = zeroes(range(7, 1), unwritten(G));
    let also = zeroes(range(8, 1), unwritten(G));
    let portion = vec![settled.clone(), unchanged(range(8, 1), G)];
    let stores = [(2, portion.clone()), (3, vec![settled, also])];
    assert_eq!(bench.stores(), stores);
    assert_eq!(bench.store(), portion);
    bench.reply(3, id(0, 1), Answer::Stored);
    let read = vec![
        zeroes(range(7, 1), unwritten(2)),
        zeroes(range(8, 1), Stamp::ZERO),
    ];
    assert_eq!(bench.rest(), [done(0, Outcome::Read(read)), finished(0)]);

    // Next time a majority holds it, under a stamp that is not zero.
    bench.read(range(7, 1));
    bench.load(&votes(&[unwritten(G)]), vec![]);
    bench.requests();
    bench.reply_held(3, id(1, 0), &votes(&[unwritten(G)]), vec![]);
    let read = vec![zeroes(range(7, 1), unwritten(G))];
    assert_eq!(bench.rest(), [done(1, Outcome::Read(read)), finished(1)]);
}

#[test]
fn a_lost_copy_gets_the_value_itself() {
    let mut bench = attached(3);
    bench.connect(&[2, 3]);
    let old = value(range(0, 1), settled(1, 1, 4, 2), 9);
    bench.read(range(0, 1));
    bench.load(&[Vote::Lost], vec![]);
    for from in [2, 3] {
        bench.reply_held(from, id(0, 0), &votes(&[old.stamp]), vec![old.clone()]);
    }
    let whole = Extent {
        stamp: settled(G, 1, 4, 2),
        ..old.clone()
    };
    bench.requests();
    assert_eq!(bench.store(), [whole]);
    bench.reply(2, id(0, 1), Answer::Stored);
    assert_eq!(bench.rest()[0], done(0, Outcome::Read(vec![old])));

    // What may be relied on is healed beside the read, under the stamp that it has.
    let new = value(range(0, 1), settled(G, 1, 4, 2), 9);
    bench.read(range(0, 1));
    bench.load(&[Vote::Lost], vec![]);
    bench.requests();
    for from in [2, 3] {
        bench.reply_held(from, id(1, 0), &votes(&[new.stamp]), vec![new.clone()]);
    }
    assert_eq!(bench.store(), from_ref(&new));
    assert_eq!(bench.rest(), [done(1, Outcome::Read(vec![new]))]);
}

#[test]
fn a_discard_settles_what_was_never_written() {
    let mut bench = attached(3);
    bench.discard(range(0, 4));
    let asked = bench.requests();
    assert_eq!(asked[0].2, Question::Stamps { range: range(0, 4) });
    let old = settled(1, 1, 4, 2);
    bench.load(
        &votes(&[Stamp::ZERO, old, Stamp::ZERO, unwritten(G)]),
        vec![],
    );
    let other = votes(&[Stamp::ZERO, Stamp::ZERO, Stamp::ZERO, unwritten(G)]);
    bench.reply_held(2, id(0, 0), &other, vec![]);
    let tombstone = zeroes(range(1, 1), settled(G, G, 1, OWN));
    let unchanged = |first| unchanged(range(first, 1), G);
    let zeroes = |first| zeroes(range(first, 1), unwritten(G));
    let voters = vec![unchanged(0), tombstone.clone(), unchanged(2)];
    let stores = [
        (2, voters.clone()),
        (3, vec![zeroes(0), tombstone, zeroes(2)]),
    ];
    assert_eq!(bench.stores(), stores);
    assert_eq!(bench.store(), voters);
    assert_eq!(bench.rest(), []);
    bench.reply(3, id(0, 1), Answer::Stored);
    assert_eq!(bench.rest(), [done(0, Outcome::Written), finished(0)]);
}

#[test]
fn a_discard_of_what_nobody_has_stores_nothing() {
    let mut bench = attached(3);
    bench.connect(&[2, 3]);
    let all = |stamp| Held {
        votes: Runs::uniform(65_536, Vote::Stamp(stamp)),
        values: Vec::new(),
    };
    let discard = |bench: &mut Bench, stamp| {
        bench.discard(range(0, 65_536));
        let sequence = bench.requests()[0].1.operation.sequence;
        let Some(Output::Load { token, .. }) = bench.rest().pop() else {
            panic!("a load");
        };
        let held = all(stamp);
        bench.step(Input::Loaded { token, held });
        bench.reply(2, id(sequence, 0), Answer::Held(all(stamp)));
        sequence
    };
    let sequence = discard(&mut bench, Stamp::ZERO);
    assert!(bench.register.waits_for_more(), "if the third has none");
    bench.reply(3, id(sequence, 0), Answer::Held(all(Stamp::ZERO)));
    assert_eq!(bench.rest(), [done(0, Outcome::Written)]);
    discard(&mut bench, unwritten(G));
    assert_eq!(bench.rest()[0], done(1, Outcome::Written));

    let sequence = discard(&mut bench, unwritten(2));
    bench.step(Input::PeerDisconnected { rank: rank(3) });
    assert_eq!(bench.store(), [unchanged(range(0, 65_536), G)]);
    bench.reply(2, id(sequence, 1), Answer::Stored);
    assert!(bench.rest().contains(&done(2, Outcome::Written)));
}

fn settle(bench: &mut Bench, range: SectorRange) {
    bench.command(Command::Settle { range });
}

#[test]
fn what_a_majority_holds_can_be_settled_ahead() {
    let mut bench = attached(3);
    bench.connect(&[2, 3]);
    settle(&mut bench, range(0, 6));
    assert_eq!(bench.requests().len(), 2);
    let (old, raised) = (settled(1, 1, 4, 2), settled(G, 1, 4, 2));
    let new = settled(G, G, 1, OWN);
    let own = votes(&[Stamp::ZERO, old, old, new, old, raised]);
    bench.load(&own, vec![]);
    // Of the third sector it holds another value, and of the last the same, but settled less far.
    let other = votes(&[Stamp::ZERO, old, settled(1, 1, 3, 2), new, old, old]);
    bench.reply_held(2, id(0, 0), &other, vec![]);
    let due = vec![unchanged(range(0, 2), G), unchanged(range(4, 1), G)];
    assert_eq!(bench.stores(), [(2, due.clone())], "the third did not vote");
    assert!(!bench.register.waits_for_more());
    assert_eq!(bench.store(), due);

    bench.reply(3, id(0, 1), Answer::Stored);
    let (from, fault) = (rank(3), PeerFault::NeverAsked);
    assert_eq!(bench.rest(), [Output::Faulty { from, fault }]);
    bench.connect(&[2, 3]);
    assert_eq!(bench.stores(), [(2, due)], "sent once more");
    bench.reply(2, id(0, 1), Answer::Stored);
    assert_eq!(bench.rest(), [done(0, Outcome::Settled), finished(0)]);
}

#[test]
fn settling_ahead_leaves_what_is_settled_and_what_is_lost() {
    let mut bench = attached(3);
    settle(&mut bench, range(0, 2));
    bench.requests();
    bench.reply_held(2, id(0, 0), &votes(&[unwritten(G), Stamp::ZERO]), vec![]);
    bench.reply_held(3, id(0, 0), &votes(&[Stamp::ZERO, Stamp::ZERO]), vec![]);
    assert_eq!(
        bench.register.in_flight(),
        1,
        "the own votes are waited for"
    );
    bench.load(&[Vote::Stamp(unwritten(G)), Vote::Lost], vec![]);
    assert_eq!(bench.rest(), [done(0, Outcome::Settled)]);
}

#[test]
fn settling_ahead_runs_beside_others_and_piece_by_piece() {
    let mut bench = attached(3);
    bench.write(range(0, 4), 1);
    bench.requests();
    bench.rest();
    settle(&mut bench, range(0, 4));
    assert_eq!(bench.register.queued(), 0);
    bench.read(range(4, 1));
    assert_eq!(bench.register.in_flight(), 3, "it keeps nobody waiting");
    bench.requests();
    bench.load(&[Vote::ZERO; 3], vec![]);
    bench.reply_held(3, id(1, 0), &[Vote::ZERO; 4], vec![]);
    assert_eq!(bench.stores(), [(3, vec![unchanged(range(0, 3), G)])]);
    bench.store();
    bench.reply(3, id(1, 1), Answer::Stored);
    let stamps = Question::Stamps { range: range(3, 1) };
    assert_eq!(bench.requests()[1], (3, id(3, 0), stamps));
    assert!(bench.rest().contains(&finished(1)));
    settle(&mut bench, range(0, 65_537));
    let (sectors, most) = (65_537, 65_536);
    let error = RegisterError::TooLong { sectors, most };
    assert_eq!(bench.rest(), [failed(3, error)]);
}

#[test]
fn settling_ahead_ends_where_the_own_copy_cannot_be_stored() {
    let mut bench = attached(3);
    settle(&mut bench, range(0, 1));
    bench.requests();
    bench.load(&[Vote::ZERO], vec![]);
    bench.reply_held(2, id(0, 0), &[Vote::ZERO], vec![]);
    bench.requests();
    let Some(Output::Store { token, .. }) = bench.rest().pop() else {
        panic!("a store");
    };
    bench.step(Input::Refused { token });
    assert_eq!(bench.rest(), [done(0, Outcome::Settled), finished(0)]);

    // A read goes on with the others.
    bench.read(range(0, 1));
    bench.load(&[Vote::ZERO], vec![]);
    bench.reply_held(2, id(1, 0), &[Vote::ZERO], vec![]);
    bench.requests();
    let Some(Output::Store { token, .. }) = bench.rest().pop() else {
        panic!("a store");
    };
    bench.step(Input::Refused { token });
    assert_eq!(bench.rest(), []);
    bench.reply(2, id(1, 1), Answer::Stored);
    bench.reply(3, id(1, 1), Answer::Stored);
    assert_eq!(bench.register.in_flight(), 0);
}
