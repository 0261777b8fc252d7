use bytes::Bytes;

use super::*;
use crate::domain::{INDEX_LIMIT, SECTOR_SIZE, SectorAddress, Stamp, Volume};

fn at(index: u64) -> SectorAddress {
    SectorAddress::new(Volume(0), index).unwrap()
}

fn range(first: u64, count: u32) -> SectorRange {
    SectorRange::new(at(first), count).unwrap()
}

fn stamp(timestamp: u64) -> Stamp {
    Stamp {
        timestamp,
        rank: Rank::new(1),
        ..Stamp::ZERO
    }
}

fn vote(timestamp: u64) -> Vote {
    Vote::Stamp(stamp(timestamp))
}

fn value(first: u64, count: u32, timestamp: u64) -> Extent {
    let bytes = SECTOR_SIZE * usize::try_from(count).unwrap();
    let data = Content::Data(Bytes::from(vec![7; bytes]));
    Extent::new(range(first, count), stamp(timestamp), data)
}

#[test]
fn values_are_exactly_those_that_are_newer() {
    let asked = range(10, 6);
    let newer_than: Runs<Vote> = [vote(5), vote(5), Vote::Lost, vote(5), vote(9), Vote::Lost]
        .into_iter()
        .collect();
    let votes: Runs<Vote> = [vote(7), vote(7), vote(7), vote(5), Vote::Lost, Vote::ZERO]
        .into_iter()
        .collect();
    let check = |values: &[Extent]| {
        let held = Held {
            votes: votes.clone(),
            values: values.to_vec(),
        };
        check_held(asked, Generation(0), Some(&newer_than), &held).is_ok()
    };
    assert!(check(&[value(10, 3, 7)]));
    assert!(check(&[value(10, 1, 7), value(11, 2, 7)]), "in two parts");
    assert!(!check(&[]), "none");
    assert!(!check(&[value(10, 2, 7)]), "one too few");
    assert!(!check(&[value(11, 2, 7)]), "the first is missing");
    assert!(!check(&[value(10, 4, 7)]), "one that is not newer");
    assert!(!check(&[value(10, 3, 7), value(13, 1, 5)]), "the same");
    assert!(!check(&[value(10, 3, 6)]), "of another stamp");
    assert!(!check(&[value(11, 2, 7), value(10, 1, 7)]), "descending");
    assert!(!check(&[value(10, 3, 7), value(10, 3, 7)]), "twice");
    let mut torn = value(10, 3, 7);
    torn.content = Content::Data(Bytes::from_static(&[7; 9]));
    assert!(!check(&[torn]), "of the wrong length");
}

#[test]
fn votes_are_for_what_was_asked() {
    let held = |count| Held {
        votes: Runs::uniform(count, Vote::ZERO),
        values: Vec::new(),
    };
    let mismatch = |votes| Err(PeerFault::VotesMismatch { sectors: 4, votes });
    assert_eq!(
        check_held(range(0, 4), Generation(0), None, &held(0)),
        mismatch(0)
    );
    assert_eq!(
        check_held(range(0, 4), Generation(0), None, &held(1)),
        Ok(())
    );
    assert_eq!(
        check_held(range(0, 4), Generation(0), None, &held(4)),
        Ok(())
    );
    assert_eq!(
        check_held(range(0, 4), Generation(0), None, &held(5)),
        mismatch(5)
    );
    let unasked = Held {
        votes: Runs::uniform(4, vote(7)),
        values: vec![value(0, 4, 7)],
    };
    let result = check_held(range(0, 4), Generation(0), None, &unasked);
    assert_eq!(result, Err(PeerFault::ValuesMismatch));
}

#[test]
fn a_store_is_ordered_stamped_and_within_one_volume() {
    let check = |extents| check_question(&Question::Store { extents }, Generation(0));
    assert_eq!(check(vec![value(0, 2, 1), value(2, 1, 2)]), Ok(()));
    let malformed = Err(PeerFault::MalformedStore);
    assert_eq!(check(Vec::new()), malformed);
    assert_eq!(check(vec![value(2, 1, 1), value(0, 2, 1)]), malformed);
    assert_eq!(check(vec![value(0, 2, 1), value(1, 2, 1)]), malformed);
    let unstamped = Extent::new(range(0, 1), Stamp::ZERO, Content::Zeroes);
    assert_eq!(check(vec![unstamped]), malformed);
    let zeroes = |first, count| {
        let range = SectorRange::new(first, count).unwrap();
        Extent::new(range, stamp(1), Content::Zeroes)
    };
    let next_volume = SectorAddress::new(Volume(1), 0).unwrap();
    let two_volumes = vec![zeroes(at(INDEX_LIMIT - 1), 1), zeroes(next_volume, 1)];
    assert_eq!(check(two_volumes), malformed);
    assert_eq!(check(vec![zeroes(at(0), DISCARD_SECTORS_MAX)]), Ok(()));
    let too_far = vec![
        zeroes(at(0), 1),
        zeroes(at(u64::from(DISCARD_SECTORS_MAX)), 1),
    ];
    assert!(matches!(
        check(too_far),
        Err(PeerFault::TooManySectors { .. })
    ));
}

#[test]
fn questions_are_bounded() {
    let stamps = |count| {
        let range = range(0, count);
        check_question(&Question::Stamps { range }, Generation(0))
    };
    assert_eq!(stamps(DISCARD_SECTORS_MAX), Ok(()));
    assert!(stamps(DISCARD_SECTORS_MAX + 1).is_err());
    let values = |count, votes| {
        let range = range(0, count);
        let held = Runs::uniform(votes, Vote::ZERO);
        check_question(&Question::Values { range, held }, Generation(0))
    };
    assert_eq!(values(OPERATION_SECTORS_MAX, OPERATION_SECTORS_MAX), Ok(()));
    assert!(values(OPERATION_SECTORS_MAX + 1, OPERATION_SECTORS_MAX + 1).is_err());
    assert!(values(4, 3).is_err());
    assert!(values(4, 5).is_err());
}

/// A stamp of generation 1 that was settled under this one.
fn settled(generation: u64, timestamp: u64) -> Stamp {
    Stamp {
        generation: Generation(1),
        ..stamp(timestamp).settled_under(Generation(generation))
    }
}

#[test]
fn a_store_is_settled_under_the_generation_that_it_is_made_under() {
    let check = |stamp, content| {
        let extents = vec![Extent::new(range(0, 1), stamp, content)];
        check_question(&Question::Store { extents }, Generation(4))
    };
    let data = || value(0, 1, 1).content;
    let unwritten = |generation| Stamp::ZERO.settled_under(Generation(generation));
    assert_eq!(check(settled(4, 1), data()), Ok(()));
    assert_eq!(check(settled(4, 1), Content::Zeroes), Ok(()));
    assert_eq!(check(unwritten(4), Content::Zeroes), Ok(()));
    assert_eq!(check(unwritten(4), Content::Unchanged), Ok(()));
    let wrong = Err(PeerFault::WrongGeneration);
    for other in [3, 5] {
        assert_eq!(check(settled(other, 1), data()), wrong);
        assert_eq!(check(unwritten(other), Content::Unchanged), wrong);
    }
    let malformed = Err(PeerFault::MalformedStore);
    assert_eq!(check(settled(4, 1), Content::Unchanged), malformed);
    assert_eq!(check(unwritten(4), data()), malformed);
    let mut of_nobody = settled(4, 1);
    of_nobody.rank = None;
    assert_eq!(check(of_nobody, Content::Zeroes), malformed);
    let mut not_settled = settled(4, 1);
    not_settled.generation = Generation(5);
    assert_eq!(check(not_settled, data()), malformed);

    // Under the first generation there is nothing to settle.
    let extents = vec![Extent::new(range(0, 1), Stamp::ZERO, Content::Unchanged)];
    let check = check_question(&Question::Store { extents }, Generation(0));
    assert_eq!(check, malformed);
}

#[test]
fn votes_are_of_no_later_generation() {
    let check = |stamp| {
        let held = Held {
            votes: Runs::uniform(1, Vote::Stamp(stamp)),
            values: Vec::new(),
        };
        check_held(range(0, 1), Generation(4), None, &held)
    };
    for stamp in [settled(1, 7), settled(4, 7), Stamp::ZERO] {
        assert_eq!(check(stamp), Ok(()));
    }
    let wrong = Err(PeerFault::WrongGeneration);
    assert_eq!(check(settled(5, 7)), wrong);
    assert_eq!(check(Stamp::ZERO.settled_under(Generation(5))), wrong);
    let mut not_settled = settled(1, 7);
    not_settled.generation = Generation(2);
    assert_eq!(check(not_settled), wrong);
}

#[test]
fn settled_zeroes_travel_like_any_value() {
    let unwritten = Stamp::ZERO.settled_under(Generation(2));
    let check = |asker, content: Option<Content>| {
        let extent = |content| Extent::new(range(0, 2), unwritten, content);
        let held = Held {
            votes: Runs::uniform(2, Vote::Stamp(unwritten)),
            values: content.map(extent).into_iter().collect(),
        };
        let newer_than = Runs::uniform(2, asker);
        check_held(range(0, 2), Generation(4), Some(&newer_than), &held)
    };
    let older = [Vote::Lost, Vote::ZERO, vote(7)];
    for asker in older {
        assert_eq!(check(asker, Some(Content::Zeroes)), Ok(()));
        let mismatch = Err(PeerFault::ValuesMismatch);
        assert_eq!(check(asker, None), mismatch);
        assert_eq!(check(asker, Some(Content::Unchanged)), mismatch);
        assert_eq!(check(asker, Some(value(0, 2, 7).content)), mismatch);
    }
    assert_eq!(check(Vote::Stamp(unwritten), None), Ok(()));
    assert!(check(Vote::Stamp(unwritten), Some(Content::Zeroes)).is_err());
}
