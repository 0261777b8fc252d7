//! Settling by ranges: what every [`SectorsManager`] promises, held against each of them.

use std::path::Path;

use atdd::domain::{
    Content, Extent, Generation, Held, Runs, SectorAddress, SectorRange, Stamp, Volume, Vote,
};
use atdd::store::{DiskSectors, MemorySectors, SectorsManager, StoreRequest, VOLUME_LIMIT};

use crate::conformance::on_each;
use crate::support::{
    Inbox, bytes, data, everything, load, open, range, settling, stamp, store, zeroes,
};

fn settled(timestamp: u64, generation: u64) -> Stamp {
    stamp(timestamp).settled_under(Generation(generation))
}

/// The extent, settled under a later generation.
fn under(extent: Extent, generation: u64) -> Extent {
    let stamp = extent.stamp.settled_under(Generation(generation));
    Extent { stamp, ..extent }
}

/// What a sector never written has once it is settled.
fn never_written(range: SectorRange, generation: u64) -> Extent {
    let stamp = Stamp::ZERO.settled_under(Generation(generation));
    Extent::new(range, stamp, Content::Zeroes)
}

fn votes(held: &Held) -> Vec<(u32, Vote)> {
    held.votes.iter().collect()
}

fn values(sectors: &dyn SectorsManager, wanted: SectorRange) -> Vec<Extent> {
    load(sectors, wanted, Some(everything(wanted))).values
}

/// Never written (0, 1), data (2, 3), tombstones (4, 5), data (6), settled under 9 (7).
fn mixed(sectors: &dyn SectorsManager) {
    store(sectors, vec![data(range(2, 2), 3), zeroes(range(4, 2), 4)]);
    let high = under(data(range(7, 1), 6), 9);
    store(sectors, vec![data(range(6, 1), 5), high]);
}

#[test]
fn settling_raises_the_stamps_of_whatever_is_there_and_nothing_else() {
    on_each(
        |sectors| {
            mixed(sectors);
            store(sectors, vec![settling(range(0, 8), 5)]);
            // Under what they are settled already.
            store(
                sectors,
                vec![settling(range(0, 9), 0), settling(range(1, 6), 4)],
            );
        },
        |sectors| {
            let wanted = range(0, 9);
            let held = load(sectors, wanted, Some(everything(wanted)));
            let expected = [
                (2, Vote::Stamp(Stamp::ZERO.settled_under(Generation(5)))),
                (2, Vote::Stamp(settled(3, 5))),
                (2, Vote::Stamp(settled(4, 5))),
                (1, Vote::Stamp(settled(5, 5))),
                (1, Vote::Stamp(settled(6, 9))),
                (1, Vote::ZERO),
            ];
            assert_eq!(votes(&held), expected);
            let expected = [
                never_written(range(0, 2), 5),
                under(data(range(2, 2), 3), 5),
                under(zeroes(range(4, 2), 4), 5),
                under(data(range(6, 1), 5), 5),
                under(data(range(7, 1), 6), 9),
            ];
            assert_eq!(held.values, expected);
            assert_eq!(votes(&load(sectors, wanted, None)), votes(&held));
        },
    );
}

#[test]
fn values_are_newer_by_what_they_are_settled_under() {
    on_each(
        |sectors| {
            mixed(sectors);
            store(sectors, vec![settling(range(0, 8), 5)]);
        },
        |sectors| {
            let known: Runs<Vote> = [
                Vote::ZERO,
                Vote::Stamp(Stamp::ZERO.settled_under(Generation(5))),
                Vote::Stamp(settled(99, 4)),
                Vote::Stamp(settled(3, 5)),
                Vote::Stamp(settled(3, 5)),
                Vote::Stamp(settled(5, 5)),
                Vote::Lost,
                Vote::Stamp(settled(6, 10)),
            ]
            .into_iter()
            .collect();
            let held = load(sectors, range(0, 8), Some(known));
            let expected = [
                never_written(range(0, 1), 5),
                under(data(range(2, 1), 3), 5),
                under(zeroes(range(4, 1), 4), 5),
                under(data(range(6, 1), 5), 5),
            ];
            assert_eq!(held.values, expected);
        },
    );
}

#[test]
fn a_store_is_compared_to_what_is_settled() {
    on_each(
        |sectors| {
            mixed(sectors);
            store(sectors, vec![settling(range(0, 8), 5)]);
            // Below: a later write of an older generation.
            store(sectors, vec![under(data(range(0, 7), 90), 4)]);
            // Equal: there already, with another value.
            store(sectors, vec![under(zeroes(range(2, 1), 3), 5)]);
            store(sectors, vec![never_written(range(0, 1), 5)]);
            // Above, each by another field.
            store(sectors, vec![under(data(range(1, 1), 1), 5)]);
            store(sectors, vec![under(data(range(3, 2), 91), 5)]);
            store(sectors, vec![never_written(range(6, 2), 10)]);
        },
        |sectors| {
            let expected = [
                never_written(range(0, 1), 5),
                under(data(range(1, 1), 1), 5),
                under(data(range(2, 1), 3), 5),
                under(data(range(3, 2), 91), 5),
                under(zeroes(range(5, 1), 4), 5),
                never_written(range(6, 2), 10),
            ];
            assert_eq!(values(sectors, range(0, 8)), expected);
        },
    );
}

#[test]
fn what_is_asked_for_together_takes_effect_in_order() {
    on_each(
        |sectors| {
            store(sectors, vec![data(range(0, 4), 7)]);
            store(
                sectors,
                vec![
                    // Overtaken by what is settled before it comes.
                    settling(range(0, 1), 5),
                    under(data(range(0, 1), 20), 4),
                    // Stored, and settled then.
                    under(data(range(1, 1), 20), 4),
                    settling(range(1, 1), 5),
                    // Replaced by what is settled later with a lower timestamp, which is settled
                    // under the highest then.
                    under(data(range(2, 1), 3), 4),
                    settling(range(2, 1), 5),
                    under(data(range(2, 1), 4), 5),
                    settling(range(2, 1), 6),
                    // Settled twice, the higher one first, with a write of each between.
                    settling(range(3, 1), 6),
                    under(data(range(3, 1), 21), 5),
                    settling(range(3, 1), 5),
                    under(zeroes(range(3, 1), 22), 6),
                ],
            );
        },
        |sectors| {
            let expected = [
                under(data(range(0, 1), 7), 5),
                under(data(range(1, 1), 20), 5),
                under(data(range(2, 1), 4), 6),
                under(zeroes(range(3, 1), 22), 6),
            ];
            assert_eq!(values(sectors, range(0, 4)), expected);
        },
    );
}

#[test]
fn many_ranges_are_settled_in_one_request() {
    on_each(
        |sectors| {
            let extents = (0..3000).map(|n| settling(range(n * 2, 1), 1 + n % 3));
            let extents = extents.collect();
            let (inbox, completions) = Inbox::new();
            sectors.store(vec![StoreRequest { token: 0, extents }], &completions);
            inbox.stored(1);
            store(sectors, vec![settling(range(0, 65_536), 2)]);
            store(sectors, vec![data(range(10, 3), 1)]);
        },
        |sectors| {
            let vote = |generation| Vote::Stamp(Stamp::ZERO.settled_under(Generation(generation)));
            for (sector, generation) in [(0, 2), (1, 2), (2, 2), (3, 2), (4, 3), (5, 2), (12, 2)] {
                let held = load(sectors, range(sector, 1), None);
                assert_eq!(votes(&held), [(1, vote(generation))], "sector {sector}");
            }
            let end = load(sectors, range(65_535, 2), None);
            assert_eq!(votes(&end), [(1, vote(2)), (1, Vote::ZERO)]);
        },
    );
}

#[test]
fn a_volume_that_there_can_not_be_has_no_votes_and_takes_nothing() {
    let beyond = |volume| {
        let address = SectorAddress::new(Volume(volume), 7).unwrap();
        SectorRange::single(address)
    };
    on_each(
        |sectors| {
            store(sectors, vec![data(range(7, 1), 1)]);
            let (inbox, completions) = Inbox::new();
            let last = beyond(VOLUME_LIMIT - 1);
            let extents = [
                data(beyond(VOLUME_LIMIT), 2),
                settling(beyond(u16::MAX), 2),
                zeroes(last, 2),
            ];
            let requests = (0..).zip(extents).map(|(token, extent)| StoreRequest {
                token,
                extents: vec![extent],
            });
            sectors.store(requests.collect(), &completions);
            assert_eq!(inbox.stored(1), [2]);
            assert_eq!(inbox.refused(2), [0, 1]);
        },
        |sectors| {
            for volume in [VOLUME_LIMIT, u16::MAX] {
                let wanted = beyond(volume);
                let held = load(sectors, wanted, Some(everything(wanted)));
                assert_eq!((votes(&held), held.values), (vec![(1, Vote::Lost)], vec![]));
            }
            assert_eq!(values(sectors, range(7, 1)), [data(range(7, 1), 1)]);
            let last = beyond(VOLUME_LIMIT - 1);
            assert_eq!(values(sectors, last), [zeroes(last, 2)]);
        },
    );
}

/// A damaged copy: what has the value of sector 6, and what is stored before and after.
fn settles_what_is_damaged(sectors: &dyn SectorsManager) {
    let wanted = range(0, 8);
    let lost = |sectors| votes(&load(sectors, range(6, 1), None)) == [(1, Vote::Lost)];
    assert_eq!(values(sectors, wanted).len(), 3, "sector 6 has no value");
    assert!(lost(sectors));
    store(sectors, vec![settling(wanted, 5)]);
    assert!(lost(sectors), "settling heals nothing");
    assert_eq!(
        votes(&load(sectors, range(5, 3), None)),
        [
            (1, Vote::Stamp(settled(4, 5))),
            (1, Vote::Lost),
            (1, Vote::Stamp(settled(6, 9)))
        ]
    );
    // What it had before it was settled is now below what it is known to have had.
    store(sectors, vec![data(range(6, 1), 5)]);
    store(sectors, vec![under(data(range(6, 1), 4), 5)]);
    assert!(lost(sectors));
    let healed = under(data(range(6, 1), 5), 5);
    store(sectors, vec![healed.clone()]);
    assert_eq!(values(sectors, range(6, 1)), [healed]);
}

#[test]
fn a_damaged_copy_is_settled_and_healed_by_its_settled_stamp() {
    let memory = MemorySectors::automatic();
    mixed(&memory);
    memory.damage(range(6, 1));
    settles_what_is_damaged(&memory);

    let directory = tempfile::tempdir().unwrap();
    let disk = open(directory.path());
    mixed(&disk);
    let disk = damaged(directory.path(), disk, &bytes(range(6, 1), 5));
    settles_what_is_damaged(&disk);
    drop(disk);
    let healed = under(data(range(6, 1), 5), 5);
    assert_eq!(values(&open(directory.path()), range(6, 1)), [healed]);
}

/// Changes a bit of the sector with these bytes.
fn damaged(directory: &Path, disk: DiskSectors, sector: &[u8]) -> DiskSectors {
    disk.close().unwrap();
    drop(disk);
    let path = directory.join("sectors");
    let mut file = std::fs::read(&path).unwrap();
    let slot = file.chunks_exact(4096).position(|block| block == sector);
    file[slot.unwrap() * 4096 + 77] ^= 4;
    std::fs::write(&path, file).unwrap();
    open(directory)
}

#[test]
fn a_store_with_floors_alone_is_not_empty_and_holds_no_sectors() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.write(vec![settling(range(0, 65_536), 3)]).unwrap();
    for _ in 0..2 {
        assert!(!store.is_empty());
        let statistics = store.statistics();
        assert_eq!(
            (statistics.data_sectors, statistics.tombstone_sectors),
            (0, 0)
        );
        assert_eq!((statistics.settle_records, statistics.floors), (1, 1));
        store.write(vec![settling(range(9, 5), 2)]).unwrap();
    }
    store.close().unwrap();
    drop(store);
    let report = atdd::store::check(directory.path(), &mut |_| {}).unwrap();
    assert_eq!(report.verdict(), atdd::store::Verdict::Healthy);
    assert_eq!(
        (report.floors, report.data_sectors, report.map_pages),
        (1, 0, 1)
    );
    let store = open(directory.path());
    assert!(!store.is_empty());
    let statistics = store.statistics();
    assert_eq!((statistics.settle_records, statistics.floors), (0, 1));
    assert_eq!(
        values(&store, range(65_530, 10)),
        [never_written(range(65_530, 6), 3)]
    );
}
