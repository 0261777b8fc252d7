//! The store on a directory, with its threads.

use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use super::check_pointer::run_check_pointer;
use super::committer::run_committer;
use super::directory::{self, Lock};
use super::engine::Statistics;
use super::error::StoreError;
use super::fences::Fences;
use super::file::{DirectReads, FileMedium};
use super::identity::Identity;
use super::load::Patience;
use super::manager::{Completion, Completions, SectorsManager, StoreRequest};
use super::medium::Medium;
use super::plan::{Pending, Progress};
use super::readers::run_reader;
use super::recovery;
use super::shared::{Ending, Job, OnFailure, Shared, no_votes};
use crate::domain::{
    Birth, ClusterId, Extent, Fence, Held, Incarnation, Rank, Runs, SectorRange, StoreId, Volume,
    Vote,
};

/// How to open a store.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster that the store belongs to.
    pub cluster: ClusterId,
    /// The process that the store belongs to.
    pub rank: Rank,
    /// How long to wait for the directory's lock: an earlier process may be ending.
    pub lock_wait: Duration,
    /// Memory for pages of the map; the map itself may be far larger.
    pub cache_bytes: usize,
    /// Threads that wait for the medium where a read is not answered from memory.
    pub readers: usize,
    /// Whether recovery reads past the page cache.
    pub direct_reads: DirectReads,
}

impl Options {
    /// The usual choices.
    pub const fn new(cluster: ClusterId, rank: Rank) -> Self {
        Self {
            cluster,
            rank,
            lock_wait: Duration::from_secs(5),
            cache_bytes: 16 << 20,
            readers: 4,
            direct_reads: DirectReads::Auto,
        }
    }
}

/// Whether the later record names all stores that the earlier one does, for the same ranks.
fn completes(earlier: &Birth, later: &Birth) -> bool {
    earlier.stores.len() == later.stores.len()
        && earlier
            .stores
            .iter()
            .zip(&later.stores)
            .all(|(old, new)| old.is_none() || old == new)
}

/// A locked directory with a store of the right cluster and process, not yet recovered.
pub struct Unrecovered {
    medium: FileMedium,
    identity: Identity,
    first_copy: usize,
    options: Options,
    lock: Lock,
}

impl Unrecovered {
    /// Locks the directory and reads who the store is. A directory that is empty or not there gets
    /// a new store.
    pub fn open(directory: &Path, options: &Options) -> Result<Self, StoreError> {
        directory::create(directory)?;
        let lock = Lock::take(directory, options.lock_wait)?;
        let (cluster, rank) = (options.cluster, options.rank);
        let medium = directory::open(directory, cluster, rank, options.direct_reads)?;
        if !medium.is_direct() {
            tracing::info!(
                directory = %directory.display(),
                "the file system has no direct reads: recovery drops the page cache instead"
            );
        }
        let (identity, first_copy) = Identity::read(&medium)?;
        if identity.cluster != cluster {
            return Err(StoreError::OtherCluster {
                found: identity.cluster.to_string(),
                expected: cluster.to_string(),
            });
        }
        if identity.rank != rank {
            return Err(StoreError::OtherRank {
                found: identity.rank,
                expected: rank,
            });
        }
        Ok(Self {
            medium,
            identity,
            first_copy,
            options: options.clone(),
            lock,
        })
    }

    /// What tells this store from every other.
    pub const fn identity(&self) -> StoreId {
        self.identity.store
    }

    /// Recovers the store, begins a new incarnation durably, and starts the store's threads.
    ///
    /// `on_failure` is called once if the store can not go on later: from then on nothing is
    /// acknowledged, and the process should end.
    pub fn recover(self, on_failure: OnFailure) -> Result<DiskSectors, StoreError> {
        let medium = Arc::new(self.medium);
        let identity = (&self.identity, self.first_copy);
        DiskSectors::start(medium, identity, &self.options, Some(self.lock), on_failure)
    }
}

/// The sectors of one process in a directory. Dropped without [`Self::close`], it ends as in a
/// crash, and loses nothing that was acknowledged.
pub struct DiskSectors {
    shared: Arc<Shared>,
    /// What the identity says, for those who ask while it is written.
    recorded: RwLock<Recorded>,
    /// Held while the identity is written: updates come one after another, and the end of the store
    /// after the last.
    identity: Mutex<Identity>,
    /// And the lock, which is held for as long as they run and the identity is written; `None` once
    /// they ended.
    threads: Mutex<Option<(Threads, Option<Lock>)>>,
}

/// What the process has recorded in the identity.
struct Recorded {
    birth: Option<Birth>,
    fences: Fences,
}

struct Threads {
    committer: JoinHandle<()>,
    others: Vec<JoinHandle<()>>,
}

impl DiskSectors {
    /// Recovers what is on the medium and starts the threads.
    pub(crate) fn start(
        medium: Arc<dyn Medium>,
        (identity, first_copy): (&Identity, usize),
        options: &Options,
        lock: Option<Lock>,
        on_failure: OnFailure,
    ) -> Result<Self, StoreError> {
        let (engine, identity) =
            recovery::start(medium, identity, first_copy, options.cache_bytes)?;
        let shared = Arc::new(Shared::new(engine, on_failure));
        let threads = Threads::start(&shared, options.readers)?;
        Ok(Self {
            shared,
            recorded: RwLock::new(Recorded::of(&identity)),
            identity: Mutex::new(identity),
            threads: Mutex::new(Some((threads, lock))),
        })
    }

    /// How often the store was started, this time included.
    pub fn incarnation(&self) -> Incarnation {
        self.shared.engine.incarnation
    }

    /// What tells this store from every other.
    pub fn identity(&self) -> StoreId {
        self.shared.engine.store
    }

    /// The birth of the cluster, if this store was told of it.
    pub fn birth(&self) -> Option<Birth> {
        self.recorded().birth.clone()
    }

    /// Records that the cluster is born; durable on return. Blocks. A later record may name stores
    /// that the one before left open, and change nothing else. Refused once the store is closed.
    pub fn record_birth(&self, birth: &Birth) -> Result<(), StoreError> {
        let mut identity = self.identity_unless_closed()?;
        match &identity.birth {
            Some(known) if known == birth => return Ok(()),
            Some(known) if !completes(known, birth) => return Err(StoreError::AlreadyBorn),
            _ => {}
        }
        let next = identity.with_birth(birth);
        self.write_identity(&mut identity, next)
    }

    /// The fence of the volume that was recorded last, and [`Fence::INITIAL`] if none ever was.
    pub fn fence(&self, volume: Volume) -> Fence {
        self.recorded().fences.of(volume)
    }

    /// Records a volume's fence; durable on return. Blocks.
    ///
    /// It is of a higher generation than the one before, or of the same, when that was opened by
    /// another than was thought. The volumes that have a fence are limited in number. Refused once
    /// the store is closed.
    ///
    /// # Panics
    /// When the fence on record has a higher generation: whoever asks has forgotten it.
    pub fn record_fence(&self, volume: Volume, fence: &Fence) -> Result<(), StoreError> {
        let mut identity = self.identity_unless_closed()?;
        if identity.fences.of(volume) == *fence {
            return Ok(());
        }
        let next = identity.with_fence(volume, *fence)?;
        self.write_identity(&mut identity, next)
    }

    /// The identity, to be changed. Whoever has it is waited for by [`Self::close`], and whoever
    /// comes later is refused: the directory may be another process's by then.
    fn identity_unless_closed(&self) -> Result<MutexGuard<'_, Identity>, StoreError> {
        let identity = self.identity.lock().expect("nothing panics under the lock");
        if self.shared.inbox().ending == Ending::No {
            Ok(identity)
        } else {
            Err(StoreError::Stopped {
                why: "it was closed".to_owned(),
            })
        }
    }

    fn recorded(&self) -> RwLockReadGuard<'_, Recorded> {
        self.recorded.read().expect("nothing panics under the lock")
    }

    /// Makes the next identity durable, and only then known.
    fn write_identity(&self, identity: &mut Identity, next: Identity) -> Result<(), StoreError> {
        if let Err(error) = next.write(&*self.shared.engine.medium, 0) {
            self.shared.fail(error.clone());
            return Err(error);
        }
        // A write of the identity that failed may have been reported to another who synced.
        if let Some(error) = self.shared.inbox().failed.clone() {
            return Err(error);
        }
        let mut recorded = self
            .recorded
            .write()
            .expect("nothing panics under the lock");
        *recorded = Recorded::of(&next);
        *identity = next;
        Ok(())
    }

    /// Whether no sector was ever stored.
    pub fn is_empty(&self) -> bool {
        let state = self.shared.engine.state();
        state.last_sequence == 0 && state.totals == super::root::Totals::default()
    }

    /// How much there is of everything.
    pub fn statistics(&self) -> Statistics {
        let waits_for_space = self.shared.inbox().waits_for_space;
        Statistics {
            waits_for_space,
            ..self.shared.engine.statistics()
        }
    }

    /// The votes and values of a range, waiting for them; never-written sectors are left out of the
    /// values and read as zeroes. The votes may end early, see [`Held`].
    pub fn read(&self, range: SectorRange) -> Result<Held, StoreError> {
        let everything = Runs::uniform(range.count(), Vote::Lost);
        let held = self
            .shared
            .engine
            .load(range, Some(&everything), Patience::Waits)?;
        Ok(held.expect("it may wait"))
    }

    /// Stores values, each where it is newer than what is there, and waits until they are stable.
    pub fn write(&self, extents: Vec<Extent>) -> Result<(), StoreError> {
        let (sender, receiver) = sync_channel(1);
        let completions: Arc<dyn Completions> = Arc::new(Waiter(sender));
        self.store(vec![StoreRequest { token: 0, extents }], &completions);
        // From here on only the store has it: when it drops the request, nobody answers.
        drop(completions);
        receiver.recv().map_err(|_| self.why_stopped())
    }

    /// Ends the store with everything done that was asked for, if there is space for it, and with
    /// nothing for the next start to replay. Blocks, for as long as the disk does. Nothing may be
    /// asked for any more.
    ///
    /// The directory is unlocked last, when nothing is written to it any more: whoever opens it next
    /// meets no late write.
    pub fn close(&self) -> Result<(), StoreError> {
        let threads = self.take_threads();
        let Some((threads, lock)) = threads else {
            return Ok(());
        };
        self.shared.end(Ending::Orderly);
        threads.join(&self.shared);
        let written = self.identity.lock().expect("nothing panics under the lock");
        drop(lock);
        drop(written);
        let failed = self.shared.inbox().failed.clone();
        failed.map_or(Ok(()), Err)
    }

    fn take_threads(&self) -> Option<(Threads, Option<Lock>)> {
        let mut threads = self.threads.lock().expect("nothing panics under the lock");
        threads.take()
    }

    fn why_stopped(&self) -> StoreError {
        let failed = self.shared.inbox().failed.clone();
        failed.unwrap_or_else(|| StoreError::Stopped {
            why: "it was closed, or a damaged copy may be newer".to_owned(),
        })
    }
}

impl Drop for DiskSectors {
    fn drop(&mut self) {
        if let Some((threads, _lock)) = self.take_threads() {
            self.shared.end(Ending::AtOnce);
            threads.join(&self.shared);
        }
    }
}

impl SectorsManager for DiskSectors {
    fn load(
        &self,
        token: u64,
        range: SectorRange,
        newer_than: Option<Runs<Vote>>,
        completions: &Arc<dyn Completions>,
    ) -> Option<Held> {
        let engine = &self.shared.engine;
        match engine.load(range, newer_than.as_ref(), Patience::AtOnce) {
            Ok(Some(held)) => Some(held),
            Err(error) => Some(no_votes(range, &error)),
            Ok(None) => {
                self.shared.push_job(Job::Load {
                    token,
                    range,
                    newer_than,
                    completions: Arc::clone(completions),
                });
                None
            }
        }
    }

    fn store(&self, mut requests: Vec<StoreRequest>, completions: &Arc<dyn Completions>) {
        if requests.iter().any(StoreRequest::beyond_volumes) {
            let refused = requests.extract_if(.., |request| request.beyond_volumes());
            let refused = refused.map(|StoreRequest { token, .. }| Completion::Refused { token });
            completions.complete(refused.collect());
        }
        let pending = requests.into_iter().map(|request| Pending {
            request,
            completions: Arc::clone(completions),
            progress: Progress::default(),
            pinned: Vec::new(),
        });
        let mut inbox = self.shared.inbox();
        if inbox.failed.is_some() || inbox.ending == Ending::AtOnce {
            return;
        }
        let sleeping = inbox.arrived.is_empty();
        inbox.arrived.extend(pending);
        drop(inbox);
        if sleeping {
            self.shared.inbox_changed.notify_one();
        }
    }
}

/// Wakes the one who waits for one store.
struct Waiter(SyncSender<()>);

impl Completions for Waiter {
    fn complete(&self, completions: Vec<Completion>) {
        // Of one that is refused the waiting end hears when its sender is dropped.
        let stored = |completion| matches!(completion, &Completion::Stored { .. });
        if completions.iter().any(stored) {
            // Fails when nobody waits any more, who then needs no answer.
            self.0.try_send(()).ok();
        }
    }
}

impl Recorded {
    fn of(identity: &Identity) -> Self {
        Self {
            birth: identity.birth.clone(),
            fences: identity.fences.clone(),
        }
    }
}

impl Threads {
    fn start(shared: &Arc<Shared>, readers: usize) -> Result<Self, StoreError> {
        let spawn = |name: &str, run: Box<dyn FnOnce() + Send>| {
            Builder::new()
                .name(name.to_owned())
                .spawn(run)
                .map_err(StoreError::io("starting a thread of the store"))
        };
        let mut others = Vec::new();
        for _ in 0..readers.max(1) {
            let shared = Arc::clone(shared);
            others.push(spawn("store-read", Box::new(move || run_reader(&shared)))?);
        }
        let check_pointer = Arc::clone(shared);
        others.push(spawn(
            "store-checkpoint",
            Box::new(move || run_check_pointer(&check_pointer)),
        )?);
        let committer = Arc::clone(shared);
        let committer = spawn("store-commit", Box::new(move || run_committer(&committer)))?;
        Ok(Self { committer, others })
    }

    /// Waits for the committing thread to end, and ends the others, who serve it.
    fn join(self, shared: &Shared) {
        assert!(
            self.committer.join().is_ok(),
            "a thread of the store panicked"
        );
        shared.end(Ending::AtOnce);
        shared.jobs().ending = true;
        shared.jobs_changed.notify_all();
        for thread in self.others {
            assert!(thread.join().is_ok(), "a thread of the store panicked");
        }
        // What nobody takes any more is given up, and with it whoever waits for it.
        let mut inbox = shared.inbox();
        let left = std::mem::take(&mut inbox.arrived);
        drop(inbox);
        drop(left);
    }
}
