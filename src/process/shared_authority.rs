//! The generation that clients without an attachment run under, all those of a process together.
//!
//! A volume that nobody ever attached is shared and open: they run under generation 0 from the
//! start, and to find that out costs one load. A newer generation is used only once this process
//! has seen that it is shared and open, which [`super::keeper_task`] confirms at a majority, as an
//! attach does, when somebody asks. They hold nothing all the same: whoever wants the volume for
//! himself gets it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;

use super::disk::DiskError;
use super::inbox::Inbox;
use super::items::KeeperItem;
use crate::domain::{Fence, Generation, Mode};

/// A handle to it; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct SharedAuthority {
    /// Which shared generation is known to be open and not known to be over, or [`NONE`].
    generation: Arc<AtomicU64>,
    keeper: Arc<Inbox<KeeperItem>>,
}

const NONE: u64 = u64::MAX;

impl SharedAuthority {
    /// Of a process whose store has this fence on record.
    pub(crate) fn new(recorded: Fence, keeper: Arc<Inbox<KeeperItem>>) -> Self {
        let authority = Self {
            generation: Arc::new(AtomicU64::new(NONE)),
            keeper,
        };
        if recorded == Fence::INITIAL {
            authority.open(recorded);
        }
        authority
    }

    /// The authority of an operation that begins now; waits for a majority where it has to be
    /// confirmed.
    pub(crate) async fn current(&self) -> Result<Fence, DiskError> {
        match self.now() {
            Some(fence) => Ok(fence),
            None => self.confirmed().await,
        }
    }

    /// The authority, if it needs no confirming.
    pub(crate) fn now(&self) -> Option<Fence> {
        let generation = self.generation.load(Ordering::Acquire);
        (generation != NONE).then_some(shared(generation))
    }

    /// An operation under it was refused: it is over.
    pub(crate) fn end(&self, refused: Fence) {
        let Generation(generation) = refused.generation;
        // Another generation in its place is a newer one, and stays.
        self.generation
            .compare_exchange(generation, NONE, Ordering::AcqRel, Ordering::Acquire)
            .ok();
    }

    /// This shared generation is open. Only the keeper's task calls this and the next one.
    pub(crate) fn open(&self, fence: Fence) {
        assert_eq!(fence.mode, Mode::Shared, "it is everybody's");
        self.generation.store(fence.generation.0, Ordering::Release);
    }

    /// The process has accepted this fence.
    pub(crate) fn raise(&self, fence: Fence) {
        if self.now() != Some(fence) {
            self.generation.store(NONE, Ordering::Release);
        }
    }

    async fn confirmed(&self) -> Result<Fence, DiskError> {
        let (answer, answered) = oneshot::channel();
        self.keeper.put(KeeperItem::Confirm { answer });
        let confirmed = answered.await.map_err(|_| DiskError::ShuttingDown)?;
        Ok(confirmed?)
    }
}

const fn shared(generation: u64) -> Fence {
    Fence {
        generation: Generation(generation),
        mode: Mode::Shared,
    }
}
