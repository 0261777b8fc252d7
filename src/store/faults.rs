//! The store with its threads on a medium that fails.

use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::directory::Lock;
use super::disk::{DiskSectors, Options};
use super::error::StoreError;
use super::identity::Identity;
use super::manager::{Completion, Completions, SectorsManager, StoreRequest};
use super::tests::{CrashMedium, extent, formatted, range, stamp, with_a_lost_page};
use crate::domain::{Birth, ClusterId, Content, Fence, Generation, Rank, Volume, Vote};

#[derive(Default)]
struct Inbox(Mutex<Vec<u64>>, Mutex<Vec<u64>>);

impl Completions for Inbox {
    fn complete(&self, completions: Vec<Completion>) {
        for completion in completions {
            match completion {
                Completion::Stored { token } => self.0.lock().unwrap().push(token),
                Completion::Refused { token } => self.1.lock().unwrap().push(token),
                Completion::Loaded { .. } => {}
            }
        }
    }
}

fn begin(medium: &Arc<CrashMedium>) -> (DiskSectors, Receiver<StoreError>) {
    begin_locked(medium, None)
}

fn begin_locked(
    medium: &Arc<CrashMedium>,
    lock: Option<Lock>,
) -> (DiskSectors, Receiver<StoreError>) {
    let (sender, receiver) = sync_channel(1);
    let identity = Identity::read(&**medium).unwrap();
    let store = DiskSectors::start(
        medium.clone(),
        (&identity.0, identity.1),
        &Options::new(ClusterId([1; 16]), Rank::new(1).unwrap()),
        lock,
        Box::new(move |error| sender.send(error).unwrap()),
    );
    (store.unwrap(), receiver)
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(60), "in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn vote(store: &DiskSectors, sector: u64) -> Option<Vote> {
    store.read(range(sector, 1)).unwrap().votes.at(0)
}

#[test]
fn a_full_disk_stops_writes_until_there_is_space_and_nothing_else() {
    let medium = CrashMedium::new(formatted());
    let (store, failure) = begin(&medium);
    store
        .write(vec![extent(range(0, 50), stamp(1), true)])
        .unwrap();
    medium.limit(Some(medium.backed() + 4));
    let inbox = Arc::new(Inbox::default());
    let completions: Arc<dyn Completions> = inbox.clone();
    let requests = (0..20).map(|token| StoreRequest {
        token,
        extents: vec![extent(range(100 + token * 10, 10), stamp(2), true)],
    });
    store.store(requests.collect(), &completions);
    until("it waits for space", || store.statistics().waits_for_space);
    assert_eq!(vote(&store, 7), Some(Vote::Stamp(stamp(1))));
    let acknowledged = inbox.0.lock().unwrap().clone();
    assert!(acknowledged.len() < 20);
    for token in acknowledged {
        assert_eq!(vote(&store, 109 + token * 10), Some(Vote::Stamp(stamp(2))));
    }
    // Trimming needs no slots, and gives some back.
    store
        .write(vec![extent(range(0, 25), stamp(3), false)])
        .unwrap();
    assert_eq!(vote(&store, 7), Some(Vote::Stamp(stamp(3))));

    medium.limit(None);
    until("writes go on", || inbox.0.lock().unwrap().len() == 20);
    until("it says so", || !store.statistics().waits_for_space);
    store.close().unwrap();
    assert!(failure.try_recv().is_err());
    let (store, _failure) = begin(&medium);
    assert_eq!(vote(&store, 299), Some(Vote::Stamp(stamp(2))));
}

#[test]
fn a_store_ends_in_order_while_its_disk_is_full() {
    let medium = CrashMedium::new(formatted());
    let (store, failure) = begin(&medium);
    store
        .write(vec![extent(range(0, 50), stamp(1), true)])
        .unwrap();
    medium.limit(Some(medium.backed()));
    let inbox = Arc::new(Inbox::default());
    let completions: Arc<dyn Completions> = inbox.clone();
    let extents = vec![extent(range(100, 250), stamp(2), true)];
    store.store(vec![StoreRequest { token: 0, extents }], &completions);
    until("it waits for space", || store.statistics().waits_for_space);
    store.close().unwrap();
    assert!(failure.try_recv().is_err());
    assert!(inbox.0.lock().unwrap().is_empty());
    let (store, _failure) = begin(&medium);
    assert_eq!(vote(&store, 49), Some(Vote::Stamp(stamp(1))));
}

#[test]
fn after_a_failed_sync_nothing_is_acknowledged() {
    let medium = CrashMedium::new(formatted());
    let (store, failure) = begin(&medium);
    store
        .write(vec![extent(range(0, 5), stamp(1), true)])
        .unwrap();
    medium.break_syncs(true);
    let outcome = store.write(vec![extent(range(0, 5), stamp(2), true)]);
    assert!(matches!(outcome, Err(StoreError::Io { .. })), "{outcome:?}");
    assert!(failure.recv().unwrap().to_string().contains("syncing"));
    // A second sync that reports success proves nothing.
    medium.break_syncs(false);
    assert!(
        store
            .write(vec![extent(range(9, 1), stamp(3), true)])
            .is_err()
    );
    assert_eq!(vote(&store, 0), Some(Vote::Stamp(stamp(1))));
    assert!(store.close().is_err());
}

/// The end of a store waited for its threads, and not for a fence that its disk was slow to take:
/// another process could get the directory, and lose to that late record what it had recorded.
#[test]
fn a_directory_is_locked_until_the_last_record_of_the_identity_is_written() {
    let directory = tempfile::tempdir().unwrap();
    let medium = CrashMedium::new(formatted());
    let lock = Lock::take(directory.path(), Duration::ZERO).unwrap();
    let (store, _failure) = begin_locked(&medium, Some(lock));
    let fence = |number| Fence {
        generation: Generation(number),
        ..Fence::INITIAL
    };
    let (stalls, stalled) = sync_channel(1);
    let (goes_on, going_on) = sync_channel::<()>(1);
    medium.at_writes(Some(Box::new(move || {
        // All later writes find both ends gone, and are not held up.
        if stalls.try_send(()).is_ok() {
            going_on.recv().ok();
        }
    })));
    std::thread::scope(|scope| {
        let recording = scope.spawn(|| store.record_fence(Volume(0), &fence(7)));
        stalled.recv().unwrap();
        drop(stalled);
        let closing = scope.spawn(|| store.close());
        std::thread::sleep(Duration::from_millis(300));
        let taken = Lock::take(directory.path(), Duration::ZERO);
        let ended = closing.is_finished();
        drop(goes_on);
        assert!(matches!(taken, Err(StoreError::Locked { .. })), "{taken:?}");
        assert!(!ended, "the record is still to come");
        recording.join().unwrap().unwrap();
        closing.join().unwrap().unwrap();
    });
    Lock::take(directory.path(), Duration::ZERO).unwrap();
    assert_eq!(
        Identity::read(&*medium).unwrap().0.fences.of(Volume(0)),
        fence(7)
    );

    let operations = medium.operations();
    let refused = store.record_fence(Volume(0), &fence(8)).unwrap_err();
    assert!(refused.to_string().contains("it was closed"), "{refused}");
    let birth = Birth { stores: Vec::new() };
    assert!(matches!(
        store.record_birth(&birth),
        Err(StoreError::Stopped { .. })
    ));
    assert_eq!(medium.operations(), operations, "nothing more is written");
}

/// Rots the sector's data where they are, under the running store.
fn rot(medium: &CrashMedium, store: &DiskSectors, sector: u64) {
    let known = extent(range(sector, 1), stamp(5), true);
    let Content::Data(bytes) = known.content else {
        unreachable!();
    };
    medium.wreck_content(&bytes);
    assert_eq!(vote(store, sector), Some(Vote::Lost));
}

#[test]
fn below_a_damaged_copy_of_a_known_stamp_a_store_is_done_and_changes_nothing() {
    let medium = CrashMedium::new(formatted());
    let (store, _failure) = begin(&medium);
    let write = |timestamp| store.write(vec![extent(range(3, 1), stamp(timestamp), true)]);
    write(5).unwrap();
    rot(&medium, &store, 3);
    write(4).unwrap();
    assert_eq!(vote(&store, 3), Some(Vote::Lost));
    write(5).unwrap();
    assert_eq!(vote(&store, 3), Some(Vote::Stamp(stamp(5))));
}

#[test]
fn below_a_copy_that_is_lost_with_its_stamp_a_store_is_refused_and_said_to_be() {
    let (store, _failure) = begin(&CrashMedium::new(with_a_lost_page()));
    assert_eq!(vote(&store, 4), Some(Vote::Lost));
    let inbox = Arc::new(Inbox::default());
    let completions: Arc<dyn Completions> = inbox.clone();
    let request = |token, timestamp| StoreRequest {
        token,
        extents: vec![extent(range(4, 1), stamp(timestamp), true)],
    };
    store.store(vec![request(1, 6), request(2, 8)], &completions);
    until("both are answered", || {
        inbox.0.lock().unwrap().len() + inbox.1.lock().unwrap().len() == 2
    });
    assert_eq!(*inbox.0.lock().unwrap(), [2]);
    assert_eq!(*inbox.1.lock().unwrap(), [1]);
    assert_eq!(vote(&store, 4), Some(Vote::Stamp(stamp(8))));
    assert_eq!(vote(&store, 5), Some(Vote::Lost));
}
