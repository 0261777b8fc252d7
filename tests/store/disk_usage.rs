//! At most a tenth more than the sectors stored, by `du`, at any time.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use atdd::store::{DiskSectors, Verdict, check};

use crate::support::{data, open, range, settling, zeroes};

/// What `du` says of the directory, in bytes.
fn usage(directory: &Path) -> u64 {
    let of = |path: &Path| std::fs::symlink_metadata(path).map_or(0, |data| data.blocks() * 512);
    let entries = std::fs::read_dir(directory).unwrap();
    of(directory) + entries.map(|entry| of(&entry.unwrap().path())).sum::<u64>()
}

/// Watches the directory while something is done in it, as often as it can.
fn watched(directory: &Path, sectors: u64, work: impl FnOnce()) {
    let (ended, most) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ended.load(Ordering::Relaxed) {
                most.fetch_max(usage(directory), Ordering::Relaxed);
            }
        });
        work();
        ended.store(true, Ordering::Relaxed);
    });
    assert_usage(most.into_inner().max(usage(directory)), sectors);
}

fn assert_usage(used: u64, sectors: u64) {
    println!("{:.3} times as much", used as f64 / (sectors * 4096) as f64);
    let allowed = sectors * 4096 * 11 / 10;
    assert!(
        used <= allowed,
        "{} blocks for {sectors} sectors, {:.3} times as much",
        used / 4096,
        used as f64 / (sectors * 4096) as f64
    );
}

/// A sequence of places without order; each of `count` comes up.
fn scattered(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |n| (n * 7919) % count)
}

/// Writes each sector once, then some many times, in batches of all sizes.
fn fill_and_overwrite(store: &DiskSectors, directory: &Path, sectors: u64, place: fn(u64) -> u64) {
    let mut timestamp = 1;
    let all: Vec<u64> = scattered(sectors).map(place).collect();
    for piece in all.chunks(100) {
        let extents = piece.iter().map(|at| data(range(*at, 1), timestamp));
        store.write(extents.collect()).unwrap();
    }
    assert_usage(usage(directory), sectors);
    watched(directory, sectors, || {
        for batch in [1, 256, 3, 1000, 20, 1, 700, 1, 1] {
            for piece in all.chunks(batch).take(60) {
                timestamp += 1;
                let extents = piece.iter().map(|at| data(range(*at, 1), timestamp));
                store.write(extents.collect()).unwrap();
            }
        }
    });
}

fn run(sectors: u64, place: fn(u64) -> u64) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let store = open(path);
    fill_and_overwrite(&store, path, sectors, place);
    watched(path, sectors, || drop(store));
    watched(path, sectors, || open(path).close().unwrap());
    let report = check(path, &mut |_| {}).unwrap();
    assert_eq!(report.verdict(), Verdict::Healthy);
    assert_eq!((report.data_sectors, report.blocks_leaked), (sectors, 0));
}

/// Settles sectors without their values, one by one or in ranges, while others are written.
fn run_settled(sectors: u64, place: fn(u64) -> u64, each: usize, count: u32) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let store = open(path);
    let all: Vec<u64> = scattered(sectors).map(place).collect();
    for piece in all.chunks(100) {
        let extents = piece.iter().map(|at| data(range(*at, 1), 1));
        store.write(extents.collect()).unwrap();
    }
    watched(path, sectors, || {
        for generation in 1..4 {
            for piece in all.chunks(10 * each) {
                let settled = piece.iter().step_by(each);
                let settled = settled.map(|at| settling(range(*at, count), generation));
                settled.for_each(|extent| store.write(vec![extent]).unwrap());
                let written = data(range(piece[0], 1), generation);
                store.write(vec![written]).unwrap();
            }
        }
    });
    println!("{:?}", store.statistics());
    watched(path, sectors, || drop(store));
    watched(path, sectors, || open(path).close().unwrap());
    let report = check(path, &mut |_| {}).unwrap();
    assert_eq!(report.verdict(), Verdict::Healthy);
    assert_eq!((report.data_sectors, report.blocks_leaked), (sectors, 0));
}

#[test]
fn five_thousand_sectors_settled_one_by_one() {
    run_settled(5000, |n| n * 2, 1, 1);
}

#[test]
fn a_thousand_sectors_settled_one_by_one() {
    run_settled(1000, anywhere, 1, 1);
}

#[test]
fn a_thousand_sectors_settled_in_ranges() {
    run_settled(1000, |n| n * 2, 20, 65_536);
}

/// Somewhere in a disk of one tebibyte.
fn anywhere(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 36
}

#[test]
fn a_thousand_sectors_in_a_row() {
    run(1000, |n| n);
}

#[test]
fn a_thousand_sectors_at_random_places_of_a_tebibyte() {
    run(1000, anywhere);
}

#[test]
fn five_thousand_sectors_at_random_places_of_a_tebibyte() {
    run(5000, anywhere);
}

#[test]
fn trimmed_sectors_give_their_space_back() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for first in (0..8192).step_by(256) {
        store.write(vec![data(range(first, 256), 1)]).unwrap();
    }
    assert_usage(usage(directory.path()), 8192);
    store.write(vec![zeroes(range(1000, 7192), 2)]).unwrap();
    store.close().unwrap();
    assert_usage(usage(directory.path()), 1000);
    let store = open(directory.path());
    assert_eq!(store.statistics().data_sectors, 1000);
    assert_eq!(store.statistics().tombstone_sectors, 7192);
    store.write(vec![data(range(5000, 300), 3)]).unwrap();
    store.close().unwrap();
    assert_eq!(
        check(directory.path(), &mut |_| {}).unwrap().verdict(),
        Verdict::Healthy
    );
}

#[test]
fn tombstones_are_compact() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for first in (0..60_000_u64).step_by(1000) {
        let extents = (first..first + 1000).map(|n| zeroes(range(n * 2, 1), 1 + n % 5));
        store.write(extents.collect()).unwrap();
    }
    store.close().unwrap();
    let used = usage(directory.path());
    assert!(used < 60_000 * 64, "{} bytes each", used / 60_000);
}
