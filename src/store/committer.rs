//! The thread that commits, and the one that check points.

use std::collections::VecDeque;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use super::budget::OVERLAY_SPANS_MAX;
use super::commit::{Blocked, Done};
use super::error::StoreError;
use super::manager::Completion;
use super::plan::Pending;
use super::shared::{CheckpointState, Ending, Inbox, Job, Shared};

/// Quiet for so long, the last batch is marked stable.
const IDLE_MARK_AFTER: Duration = Duration::from_millis(4);
/// Quiet for so long, what the journal holds goes into the map, if it is worth it.
const IDLE_CHECKPOINT_AFTER: Duration = Duration::from_secs(2);
/// Overlay entries that are worth a checkpoint when nothing else happens.
const IDLE_CHECKPOINT_SPANS: usize = 10_000;
/// How often a full file system is asked again.
const SPACE_PAUSE: Duration = Duration::from_secs(1);

/// Commits what arrives until the store ends or fails.
pub(crate) fn run_committer(shared: &Shared) {
    let mut committer = Committer {
        shared,
        queue: VecDeque::new(),
        last_batch: Instant::now(),
        marked: true,
        settled: true,
        blocked: None,
    };
    if let Err(error) = committer.run() {
        shared.fail(error);
    }
}

struct Committer<'a> {
    shared: &'a Shared,
    queue: VecDeque<Pending>,
    last_batch: Instant,
    /// The last batch is marked stable, or needs no mark.
    marked: bool,
    /// Nothing is left to do when idle.
    settled: bool,
    blocked: Option<Blocked>,
}

impl Committer<'_> {
    fn run(&mut self) -> Result<(), StoreError> {
        loop {
            match self.wait() {
                Wake::Stop => return Ok(()),
                Wake::Finish => return self.finish(),
                Wake::Work => self.commit()?,
                Wake::Idle => self.idle()?,
            }
            self.begin_checkpoint_if_due();
        }
    }

    /// Waits for requests, or for what the queued ones wait for.
    fn wait(&mut self) -> Wake {
        let shared = self.shared;
        let mut inbox = shared.inbox();
        let began = Instant::now();
        loop {
            if inbox.failed.is_some() || inbox.ending == Ending::AtOnce {
                return Wake::Stop;
            }
            if !inbox.arrived.is_empty() {
                self.queue.append(&mut inbox.arrived);
                return Wake::Work;
            }
            let (ready, pause) = match (&self.blocked, self.queue.is_empty()) {
                (_, true) => (false, self.idle_pause()),
                (None, false) => (true, None),
                (Some(Blocked::Journal), false) => (inbox.checkpoint.is_none(), None),
                (Some(Blocked::Space(_)), false) => {
                    let waited = began.elapsed();
                    (
                        waited >= SPACE_PAUSE,
                        Some(SPACE_PAUSE.saturating_sub(waited)),
                    )
                }
            };
            if ready {
                return Wake::Work;
            }
            let stuck = self.queue.is_empty() || matches!(self.blocked, Some(Blocked::Space(_)));
            if inbox.ending == Ending::Orderly && stuck && inbox.with_readers == 0 {
                return Wake::Finish;
            }
            if pause.is_some_and(|pause| pause.is_zero()) {
                return Wake::Idle;
            }
            inbox = sleep(shared, inbox, pause);
        }
    }

    /// How long until there is something to do although nothing arrives.
    fn idle_pause(&self) -> Option<Duration> {
        let after = match (self.marked, self.settled) {
            (false, _) => IDLE_MARK_AFTER,
            (true, false) => IDLE_CHECKPOINT_AFTER,
            (true, true) => return None,
        };
        Some(after.saturating_sub(self.last_batch.elapsed()))
    }

    fn idle(&mut self) -> Result<(), StoreError> {
        if !self.marked {
            self.shared.engine.mark_idle()?;
            self.marked = true;
            return Ok(());
        }
        self.settled = true;
        if self.shared.engine.index().active_spans() >= IDLE_CHECKPOINT_SPANS {
            self.begin_checkpoint();
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let engine = &self.shared.engine;
        let prepared = engine.prepare(&mut self.queue);
        complete(prepared.done);
        refuse(prepared.refused);
        self.hand_to_readers(prepared.missing);
        if let Some(batch) = prepared.batch {
            if let Err(error) = engine.write(&batch) {
                // Said before the batch is given up: whoever waits for it then learns why.
                self.shared.fail(error.clone());
                return Err(error);
            }
            complete(engine.publish(batch));
            self.last_batch = Instant::now();
            self.marked = false;
            self.settled = false;
        }
        self.tell_of_space(prepared.blocked.as_ref());
        if matches!(prepared.blocked, Some(Blocked::Journal)) {
            self.begin_checkpoint();
        }
        self.blocked = prepared.blocked;
        Ok(())
    }

    fn hand_to_readers(&self, missing: Vec<(Pending, super::tree::Missing)>) {
        if missing.is_empty() {
            return;
        }
        self.shared.inbox().with_readers += missing.len();
        for (pending, missing) in missing {
            self.shared.push_job(Job::Fetch { pending, missing });
        }
    }

    /// Says once that the file system is full, and once that it is not any more.
    fn tell_of_space(&self, blocked: Option<&Blocked>) {
        let mut inbox = self.shared.inbox();
        match blocked {
            Some(Blocked::Space(error)) if !inbox.waits_for_space => {
                inbox.waits_for_space = true;
                drop(inbox);
                tracing::error!(
                    %error,
                    "no space for new sectors: writes wait until there is some, reads go on"
                );
            }
            None if inbox.waits_for_space => {
                inbox.waits_for_space = false;
                drop(inbox);
                tracing::info!("there is space again, writes go on");
            }
            _ => {}
        }
    }

    fn begin_checkpoint_if_due(&self) {
        let engine = &self.shared.engine;
        let spans = engine.index().active_spans();
        let due = {
            let state = engine.state();
            let half_full = 2 * state.journal.filled() >= state.journal.blocks();
            spans > 0 && (half_full || spans >= OVERLAY_SPANS_MAX)
        };
        if due {
            self.begin_checkpoint();
        }
    }

    /// Freezes for a checkpoint, unless one is under way.
    fn begin_checkpoint(&self) {
        let under_way = !self.shared.inbox().checkpoint.is_none();
        if under_way || self.shared.engine.index().is_frozen() {
            return;
        }
        let moment = self.shared.engine.freeze();
        self.shared.inbox().checkpoint = CheckpointState::Wanted(moment);
        self.shared.checkpoint_changed.notify_one();
    }

    /// Puts everything into the map, so that the next start has nothing to replay.
    fn finish(&self) -> Result<(), StoreError> {
        if !self.queue.is_empty() {
            tracing::warn!(
                requests = self.queue.len(),
                "ending without space for these"
            );
        }
        self.shared.engine.mark_idle()?;
        if !self.wait_for_checkpoint() {
            return Ok(());
        }
        if self.shared.engine.index().active_spans() > 0 {
            self.begin_checkpoint();
            self.wait_for_checkpoint();
        }
        Ok(())
    }

    /// False when the store failed.
    fn wait_for_checkpoint(&self) -> bool {
        let mut inbox = self.shared.inbox();
        while !inbox.checkpoint.is_none() && inbox.failed.is_none() {
            inbox = sleep(self.shared, inbox, None);
        }
        inbox.failed.is_none()
    }
}

/// Sleeps until the inbox changed or the pause is over.
fn sleep<'a>(
    shared: &'a Shared,
    inbox: MutexGuard<'a, Inbox>,
    pause: Option<Duration>,
) -> MutexGuard<'a, Inbox> {
    let changed = &shared.inbox_changed;
    let slept = match pause {
        Some(pause) => changed
            .wait_timeout(inbox, pause)
            .map(|(inbox, _)| inbox)
            .ok(),
        None => changed.wait(inbox).ok(),
    };
    slept.expect("nothing panics under the lock")
}

/// Why the committing thread wakes.
enum Wake {
    Work,
    Idle,
    /// The store ends in order, and nothing is left to commit.
    Finish,
    /// The store failed, or ends as it is.
    Stop,
}

impl CheckpointState {
    const fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

/// Tells those who wait, each once for all that is theirs.
fn complete(done: Vec<Done>) {
    let mut done = done.into_iter().peekable();
    while let Some(first) = done.next() {
        let mut completions = vec![Completion::Stored { token: first.token }];
        while let Some(next) =
            done.next_if(|next| Arc::ptr_eq(&next.completions, &first.completions))
        {
            completions.push(Completion::Stored { token: next.token });
        }
        first.completions.complete(completions);
    }
}

/// Tells those who wait in vain.
fn refuse(refused: Vec<Done>) {
    for Done { token, completions } in refused {
        completions.complete(vec![Completion::Refused { token }]);
    }
}
