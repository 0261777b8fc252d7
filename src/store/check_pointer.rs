//! The thread that makes checkpoints, while batches go on.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::checkpoint::Moment;
use super::error::StoreError;
use super::shared::{CheckpointState, Ending, Shared};

/// How often a full file system is asked again.
const SPACE_PAUSE: Duration = Duration::from_secs(1);

/// Makes checkpoints until the store ends or fails.
pub(crate) fn run_check_pointer(shared: &Shared) {
    while let Some(moment) = next_moment(shared) {
        let began = Instant::now();
        let told = Cell::new(false);
        let wait = |error: &StoreError| error.is_full() && wait_for_space(shared, error, &told);
        match shared.engine.checkpoint(&moment, &wait) {
            Ok(()) => tracing::debug!(elapsed = ?began.elapsed(), "checkpoint"),
            Err(error) if error.is_full() => {
                tracing::warn!(%error, "no checkpoint at the end: the next start replays more");
            }
            Err(error) => return shared.fail(error),
        }
        shared.inbox().checkpoint = CheckpointState::None;
        shared.inbox_changed.notify_one();
    }
}

fn next_moment(shared: &Shared) -> Option<Moment> {
    let mut inbox = shared.inbox();
    loop {
        if inbox.failed.is_some() || inbox.ending == Ending::AtOnce {
            return None;
        }
        match std::mem::replace(&mut inbox.checkpoint, CheckpointState::Running) {
            CheckpointState::Wanted(moment) => return Some(moment),
            other => inbox.checkpoint = other,
        }
        inbox = shared
            .checkpoint_changed
            .wait(inbox)
            .expect("nothing panics under the lock");
    }
}

/// Waits a while for space, and says so the first time. False when the store ends.
fn wait_for_space(shared: &Shared, error: &StoreError, told: &Cell<bool>) -> bool {
    if !told.replace(true) {
        tracing::error!(%error, "no space for a checkpoint: it waits until there is some");
    }
    let until = Instant::now() + SPACE_PAUSE;
    let mut inbox = shared.inbox();
    loop {
        if inbox.ending != Ending::No || inbox.failed.is_some() {
            return false;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        inbox = shared
            .checkpoint_changed
            .wait_timeout(inbox, left)
            .expect("nothing panics under the lock")
            .0;
    }
}
