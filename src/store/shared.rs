//! What the threads of a store share.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::checkpoint::Moment;
use super::engine::Engine;
use super::error::StoreError;
use super::manager::Completions;
use super::plan::Pending;
use super::tree::Missing;
use crate::domain::{Held, Runs, SectorRange, Vote};

/// Called once, by whichever thread finds that the store can not go on.
pub type OnFailure = Box<dyn FnOnce(StoreError) + Send>;

/// The engine and the queues around it.
///
/// The queues have no bound of their own: whoever asks has at most so many requests under way (see
/// [`Completions`]), and each is in one queue at a time.
pub(crate) struct Shared {
    pub(crate) engine: Engine,
    inbox: Mutex<Inbox>,
    /// Wakes the thread that commits.
    pub(crate) inbox_changed: Condvar,
    /// Wakes the thread that makes checkpoints.
    pub(crate) checkpoint_changed: Condvar,
    jobs: Mutex<Jobs>,
    pub(crate) jobs_changed: Condvar,
    on_failure: Mutex<Option<OnFailure>>,
}

/// What the committing thread is told.
#[derive(Default)]
pub(crate) struct Inbox {
    pub(crate) arrived: VecDeque<Pending>,
    /// Requests that a reader has, and will bring back.
    pub(crate) with_readers: usize,
    pub(crate) checkpoint: CheckpointState,
    pub(crate) ending: Ending,
    /// Requests wait for space in the file system.
    pub(crate) waits_for_space: bool,
    /// Why nothing is acknowledged any more.
    pub(crate) failed: Option<StoreError>,
}

/// How far a checkpoint is.
#[derive(Default)]
pub(crate) enum CheckpointState {
    #[default]
    None,
    Wanted(Moment),
    Running,
}

/// Whether the store is to end.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Ending {
    #[default]
    No,
    /// With everything done that was asked for.
    Orderly,
    /// As it is.
    AtOnce,
}

/// What readers have to do.
#[derive(Default)]
pub(crate) struct Jobs {
    pub(crate) waiting: VecDeque<Job>,
    pub(crate) ending: bool,
}

/// Something that waits for the medium.
pub(crate) enum Job {
    Load {
        token: u64,
        range: SectorRange,
        newer_than: Option<Runs<Vote>>,
        completions: Arc<dyn Completions>,
    },
    /// A request whose stamps can not be compared before a page is there.
    Fetch { pending: Pending, missing: Missing },
}

impl Shared {
    pub(crate) fn new(engine: Engine, on_failure: OnFailure) -> Self {
        Self {
            engine,
            inbox: Mutex::default(),
            inbox_changed: Condvar::new(),
            checkpoint_changed: Condvar::new(),
            jobs: Mutex::default(),
            jobs_changed: Condvar::new(),
            on_failure: Mutex::new(Some(on_failure)),
        }
    }

    pub(crate) fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().expect("nothing panics under the lock")
    }

    pub(crate) fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().expect("nothing panics under the lock")
    }

    /// Nothing is acknowledged from here on.
    pub(crate) fn fail(&self, error: StoreError) {
        let given_up = {
            let mut inbox = self.inbox();
            if inbox.failed.is_some() {
                return;
            }
            inbox.failed = Some(error.clone());
            std::mem::take(&mut inbox.arrived)
        };
        drop(given_up);
        tracing::error!(%error, "the store failed: nothing is acknowledged any more");
        self.inbox_changed.notify_one();
        self.checkpoint_changed.notify_one();
        let on_failure = self
            .on_failure
            .lock()
            .expect("nothing panics under the lock")
            .take();
        if let Some(on_failure) = on_failure {
            on_failure(error);
        }
    }

    pub(crate) fn end(&self, ending: Ending) {
        let mut inbox = self.inbox();
        if inbox.ending != Ending::AtOnce {
            inbox.ending = ending;
        }
        drop(inbox);
        self.inbox_changed.notify_one();
        self.checkpoint_changed.notify_one();
    }

    pub(crate) fn push_job(&self, job: Job) {
        self.jobs().waiting.push_back(job);
        self.jobs_changed.notify_one();
    }
}

/// What a load is told when the store can not be asked: no vote.
pub(crate) fn no_votes(range: SectorRange, error: &StoreError) -> Held {
    tracing::error!(%error, ?range, "sectors can not be read, and have no vote");
    Held {
        votes: Runs::uniform(range.count(), Vote::Lost),
        values: Vec::new(),
    }
}
