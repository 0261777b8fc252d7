//! A directory: whose it is, who has it, and what it goes through.

use std::sync::mpsc::sync_channel;
use std::time::Duration;

use atdd::domain::{
    Birth, ClusterId, Fence, Generation, Incarnation, Mode, OwnerId, Rank, StoreId, Tag, Volume,
    Vote,
};
use atdd::store::{Options, StoreError, Unrecovered, Verdict, check};

use crate::support::{at, data, everything, open, options, range, stamp};

fn refusal(directory: &std::path::Path, options: &Options) -> StoreError {
    match Unrecovered::open(directory, options) {
        Ok(_) => panic!("it was opened"),
        Err(error) => error,
    }
}

#[test]
fn a_new_directory_gets_a_store_that_counts_its_starts() {
    let parent = tempfile::tempdir().unwrap();
    let directory = parent.path().join("new").join("store");
    let first = open(&directory);
    assert_eq!(first.incarnation(), Incarnation(1));
    assert!(first.is_empty());
    let identity = first.identity();
    drop(first);
    let second = open(&directory);
    assert_eq!(second.incarnation(), Incarnation(2));
    assert_eq!(second.identity(), identity);
    second.write(vec![data(range(3, 1), 1)]).unwrap();
    assert!(!second.is_empty());
    second.close().unwrap();
    let third = open(&directory);
    assert!(!third.is_empty());
    let held = third.read(range(3, 1)).unwrap();
    assert_eq!(held.votes.at(0), Some(Vote::Stamp(stamp(1))));
    assert_eq!(held.values, [data(range(3, 1), 1)]);
}

#[test]
fn a_birth_is_recorded_once_and_for_all() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    assert_eq!(store.birth(), None);
    let birth = Birth {
        stores: vec![Some(store.identity()), None, Some(StoreId([3; 16]))],
    };
    store.record_birth(&birth).unwrap();
    store.record_birth(&birth).unwrap();
    assert_eq!(store.birth(), Some(birth.clone()));
    drop(store);
    let store = open(directory.path());
    assert_eq!(store.birth(), Some(birth));
    let other = Birth {
        stores: vec![None; 254],
    };
    assert!(matches!(
        store.record_birth(&other),
        Err(StoreError::AlreadyBorn)
    ));
    drop(store);

    let directory = tempfile::tempdir().unwrap();
    let largest = Birth {
        stores: (0..254).map(|n| Some(StoreId([n; 16]))).collect(),
    };
    open(directory.path()).record_birth(&largest).unwrap();
    assert_eq!(open(directory.path()).birth(), Some(largest));
}

#[test]
fn a_fence_is_recorded_and_only_goes_up() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let volume = Volume(0);
    assert_eq!(store.fence(volume), Fence::INITIAL);
    // What is there already needs no record.
    store.record_fence(volume, &Fence::INITIAL).unwrap();
    assert!(store.is_empty());
    let exclusive = |generation, owner| Fence {
        generation: Generation(generation),
        mode: Mode::Exclusive {
            owner: OwnerId([owner; 16]),
            tag: Tag {
                coordinator: Rank::new(3).unwrap(),
                incarnation: Incarnation(1),
                sequence: 7,
            },
        },
    };
    store.record_fence(volume, &exclusive(5, 1)).unwrap();
    store.record_fence(volume, &exclusive(5, 2)).unwrap();
    assert_eq!(store.fence(volume), exclusive(5, 2));
    drop(store);
    let store = open(directory.path());
    assert_eq!(store.fence(volume), exclusive(5, 2));
    assert_eq!(store.fence(Volume(1)), Fence::INITIAL);
    let shared = Fence {
        generation: Generation(9),
        mode: Mode::Shared,
    };
    store.record_fence(volume, &shared).unwrap();
    let birth = Birth {
        stores: vec![Some(store.identity())],
    };
    store.record_birth(&birth).unwrap();
    drop(store);
    let store = open(directory.path());
    assert_eq!(store.fence(volume), shared);
    assert_eq!(store.birth(), Some(birth));
    let lower = std::panic::AssertUnwindSafe(|| store.record_fence(volume, &exclusive(8, 1)));
    assert!(std::panic::catch_unwind(lower).is_err());
}

#[test]
fn a_directory_is_used_by_one_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    let impatient = Options {
        lock_wait: Duration::ZERO,
        ..options()
    };
    let error = refusal(directory.path(), &impatient);
    let said = error.to_string();
    assert!(matches!(error, StoreError::Locked { .. }));
    assert!(
        said.contains(&format!("process {}", std::process::id())),
        "{said}"
    );
    assert!(matches!(
        check(directory.path(), &mut |_| {}),
        Err(StoreError::Locked { .. })
    ));

    let path = directory.path().to_owned();
    let (sender, receiver) = sync_channel(1);
    let waiting = std::thread::spawn(move || {
        sender.send(()).unwrap();
        open(&path).incarnation()
    });
    receiver.recv().unwrap();
    drop(store);
    assert_eq!(waiting.join().unwrap(), Incarnation(2));
}

#[test]
fn another_clusters_or_processs_directory_is_refused_with_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    drop(open(directory.path()));
    let cluster = Options {
        cluster: ClusterId([0xab; 16]),
        ..options()
    };
    let said = refusal(directory.path(), &cluster).to_string();
    assert!(
        said.contains(&"09".repeat(16)) && said.contains(&"ab".repeat(16)),
        "{said}"
    );
    let rank = Options {
        rank: Rank::new(3).unwrap(),
        ..options()
    };
    let said = refusal(directory.path(), &rank).to_string();
    assert!(said.contains("process 2, not to 3"), "{said}");

    let path = directory.path().join("sectors");
    let mut bytes = std::fs::read(&path).unwrap();
    for copy in [0, 4 * 4096] {
        bytes[copy + 11] = 9;
    }
    std::fs::write(&path, bytes).unwrap();
    let said = refusal(directory.path(), &options()).to_string();
    assert!(said.contains("format 9"), "{said}");
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("thesis.tex"), "years of work").unwrap();
    let error = refusal(directory.path(), &options());
    assert!(matches!(&error, StoreError::NotAStore { found, .. } if found == "thesis.tex"));
}

#[test]
fn a_store_whose_making_was_cut_off_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("sectors.new"), "half a store").unwrap();
    assert_eq!(open(directory.path()).incarnation(), Incarnation(1));
    assert!(!directory.path().join("sectors.new").exists());
}

#[test]
fn a_check_finds_what_is_damaged_and_a_load_gives_no_vote_for_it() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    for timestamp in 1..4 {
        let extents = (0..40).map(|n| data(range(n * 1000, 3), timestamp));
        store.write(extents.collect()).unwrap();
    }
    store.close().unwrap();
    let mut last = None;
    let report = check(directory.path(), &mut |progress| last = Some(progress)).unwrap();
    assert_eq!(report.verdict(), Verdict::Healthy);
    assert_eq!((report.data_sectors, report.blocks_leaked), (120, 0));
    let last = last.unwrap();
    assert_eq!(last.done, last.total);

    // The last version of sector 5001 is found by its first bytes.
    let path = directory.path().join("sectors");
    let mut bytes = std::fs::read(&path).unwrap();
    let word = ((5001_u64 << 20) ^ 3).to_le_bytes();
    let slot = (0..bytes.len())
        .step_by(4096)
        .find(|at| bytes[*at..*at + 8] == word);
    bytes[slot.unwrap() + 77] ^= 4;
    std::fs::write(&path, bytes).unwrap();
    let report = check(directory.path(), &mut |_| {}).unwrap();
    assert_eq!(report.verdict(), Verdict::Damaged);
    assert_eq!(report.damaged_sectors, [at(5001)]);

    let store = open(directory.path());
    let wanted = range(5000, 3);
    let read = || {
        let held = store.read(wanted).unwrap();
        assert_eq!(held.votes.count(), everything(wanted).count());
        held
    };
    let held = read();
    assert_eq!(held.votes.at(0), Some(Vote::Stamp(stamp(3))));
    assert_eq!(held.votes.at(1), Some(Vote::Lost));
    assert_eq!(
        held.values,
        [data(range(5000, 1), 3), data(range(5002, 1), 3)]
    );
    // As if the damage had come after it: completed, and nothing is changed.
    store.write(vec![data(range(5001, 1), 2)]).unwrap();
    assert_eq!(read().votes.at(1), Some(Vote::Lost));
    store.write(vec![data(range(5001, 1), 3)]).unwrap();
    assert_eq!(read().values, [data(wanted, 3)]);
    assert_eq!(store.statistics().damaged_sectors, 0);
    store.close().unwrap();
    let report = check(directory.path(), &mut |_| {}).unwrap();
    assert_eq!(report.verdict(), Verdict::Healthy);
}
