//! What every [`SectorsManager`] promises, held against each of them.

use atdd::domain::{Content, Held, Runs, Stamp, Vote};
use atdd::store::{
    DirectReads, MemorySectors, Options, SectorsManager, StoreRequest, Unrecovered, VOLUME_LIMIT,
};

use crate::support::{
    Inbox, at, bytes, data, everything, load, open, options, range, stamp, store, zeroes,
};

/// Runs a test on each implementation; on disk once more after a restart, where the test says what
/// must still hold.
pub fn on_each(test: impl Fn(&dyn SectorsManager), then: impl Fn(&dyn SectorsManager)) {
    let memory = MemorySectors::automatic();
    test(&memory);
    then(&memory);
    memory.crash();
    then(&memory);

    for direct_reads in [DirectReads::Auto, DirectReads::Never] {
        let directory = tempfile::tempdir().unwrap();
        let small_cache = Options {
            cache_bytes: 0,
            direct_reads,
            ..options()
        };
        let disk = Unrecovered::open(directory.path(), &small_cache)
            .unwrap()
            .recover(Box::new(|error| panic!("the store failed: {error}")))
            .unwrap();
        test(&disk);
        then(&disk);
        drop(disk);
        let disk = open(directory.path());
        then(&disk);
        disk.close().unwrap();
        let disk = open(directory.path());
        then(&disk);
    }
}

fn votes(held: &Held) -> Vec<(u32, Vote)> {
    held.votes.iter().collect()
}

#[test]
fn a_sector_never_written_has_the_zero_stamp_and_no_value() {
    on_each(
        |_| {},
        |sectors| {
            let wanted = range(1 << 40, 1 << 20);
            let held = load(sectors, wanted, Some(everything(wanted)));
            assert_eq!(votes(&held), [(1 << 20, Vote::ZERO)]);
            assert!(held.values.is_empty());
        },
    );
}

#[test]
fn what_was_stored_is_loaded_with_its_stamp() {
    on_each(
        |sectors| store(sectors, vec![data(range(10, 5), 3), data(range(15, 1), 4)]),
        |sectors| {
            let wanted = range(9, 8);
            let held = load(sectors, wanted, Some(everything(wanted)));
            let (three, four) = (Vote::Stamp(stamp(3)), Vote::Stamp(stamp(4)));
            assert_eq!(
                votes(&held),
                [(1, Vote::ZERO), (5, three), (1, four), (1, Vote::ZERO)]
            );
            assert_eq!(held.values, [data(range(10, 5), 3), data(range(15, 1), 4)]);
            let alone = load(sectors, range(12, 1), None);
            assert_eq!((votes(&alone), alone.values.len()), (vec![(1, three)], 0));
        },
    );
}

#[test]
fn only_newer_values_are_loaded() {
    on_each(
        |sectors| store(sectors, vec![data(range(0, 8), 5)]),
        |sectors| {
            let mut known = Runs::new();
            known.push(2, Vote::Stamp(stamp(5)));
            known.push(2, Vote::Stamp(stamp(4)));
            known.push(1, Vote::Lost);
            known.push(3, Vote::Stamp(stamp(6)));
            let held = load(sectors, range(0, 8), Some(known));
            assert_eq!(held.values.len(), 1);
            assert_eq!(held.values[0].range, range(2, 3));
            assert_eq!(held.values[0].content, Content::Data(bytes(range(2, 3), 5)));
        },
    );
}

#[test]
fn a_value_that_is_not_newer_changes_nothing_and_is_acknowledged() {
    on_each(
        |sectors| {
            store(sectors, vec![data(range(3, 4), 9)]);
            let mut other = data(range(2, 3), 9);
            other.content = Content::Zeroes;
            store(
                sectors,
                vec![other, data(range(4, 3), 8), zeroes(range(6, 4), 7)],
            );
            store(sectors, vec![zeroes(range(100, 2), 0)]);
        },
        |sectors| {
            let wanted = range(2, 8);
            let held = load(sectors, wanted, Some(everything(wanted)));
            let (nine, seven) = (Vote::Stamp(stamp(9)), Vote::Stamp(stamp(7)));
            assert_eq!(votes(&held), [(5, nine), (3, seven)]);
            assert_eq!(held.values[0], zeroes(range(2, 1), 9));
            assert_eq!(held.values[1], data(range(3, 4), 9));
            assert_eq!(held.values[2], zeroes(range(7, 3), 7));
        },
    );
}

#[test]
fn the_newest_of_values_that_arrive_together_wins_and_all_are_acknowledged() {
    on_each(
        |sectors| {
            let (inbox, completions) = Inbox::new();
            let requests = [(1, 4), (2, 6), (3, 5)]
                .map(|(token, timestamp)| StoreRequest {
                    token,
                    extents: vec![
                        data(range(20 + token, 4), timestamp),
                        zeroes(range(40, 2), timestamp),
                    ],
                })
                .to_vec();
            sectors.store(requests, &completions);
            let mut tokens = inbox.stored(3);
            tokens.sort_unstable();
            assert_eq!(tokens, [1, 2, 3]);
        },
        |sectors| {
            let wanted = range(21, 6);
            let held = load(sectors, wanted, Some(everything(wanted)));
            let expected = [4, 6, 6, 6, 6, 5].map(|timestamp| Vote::Stamp(stamp(timestamp)));
            assert_eq!(held.votes, expected.into_iter().collect());
            assert_eq!(held.values[1], data(range(22, 4), 6));
        },
    );
}

#[test]
fn a_tombstone_splits_where_it_is_partly_overwritten() {
    on_each(
        |sectors| {
            store(sectors, vec![zeroes(range(0, 100_000), 2)]);
            store(
                sectors,
                vec![data(range(500, 1), 3), zeroes(range(99_000, 2000), 4)],
            );
            store(sectors, vec![data(range(98_999, 2), 5)]);
        },
        |sectors| {
            let held = load(sectors, range(0, 200_000), None);
            let vote = |timestamp| Vote::Stamp(stamp(timestamp));
            let expected = [
                (500, vote(2)),
                (1, vote(3)),
                (98_498, vote(2)),
                (2, vote(5)),
                (1999, vote(4)),
                (99_000, Vote::ZERO),
            ];
            assert_eq!(votes(&held), expected);
        },
    );
}

#[test]
fn the_ends_of_volumes_are_sectors_like_others() {
    let last = atdd::domain::SectorAddress::new(
        atdd::domain::Volume(VOLUME_LIMIT - 1),
        atdd::domain::INDEX_LIMIT - 1,
    )
    .unwrap();
    let last = atdd::domain::SectorRange::single(last);
    on_each(
        |sectors| store(sectors, vec![data(last, 1), data(range(0, 1), 2)]),
        |sectors| {
            for (wanted, timestamp) in [(last, 1), (range(0, 1), 2)] {
                let held = load(sectors, wanted, Some(everything(wanted)));
                assert_eq!(held.values, [data(wanted, timestamp)]);
            }
        },
    );
}

#[test]
fn votes_may_end_early_but_cover_something() {
    on_each(
        |sectors| {
            let tombstones = (0..6000).map(|index| zeroes(range(index, 1), 1 + index % 2));
            let (inbox, completions) = Inbox::new();
            let request = StoreRequest {
                token: 0,
                extents: tombstones.collect(),
            };
            sectors.store(vec![request], &completions);
            inbox.stored(1);
        },
        |sectors| {
            let mut next = 0;
            while next < 6000 {
                let left = range(next, u32::try_from(6000 - next).unwrap());
                let held = load(sectors, left, Some(everything(left)));
                assert!((1..=4096).contains(&held.votes.run_count()));
                assert_eq!(held.values.len(), held.votes.count() as usize);
                assert_eq!(held.values[0].range.first(), at(next));
                next += u64::from(held.votes.count());
            }
        },
    );
}

#[test]
fn stamps_are_compared_in_all_their_fields() {
    let high = Stamp {
        settled: atdd::domain::Generation(2),
        timestamp: 1,
        ..stamp(0)
    };
    on_each(
        |sectors| {
            store(sectors, vec![data(range(0, 1), 50)]);
            let mut newer = data(range(0, 1), 60);
            newer.stamp = high;
            store(sectors, vec![newer]);
            store(sectors, vec![data(range(0, 1), 99)]);
        },
        |sectors| {
            let held = load(sectors, range(0, 1), Some(everything(range(0, 1))));
            assert_eq!(held.votes.at(0), Some(Vote::Stamp(high)));
            assert_eq!(
                held.values[0].content,
                Content::Data(bytes(range(0, 1), 60))
            );
        },
    );
}
