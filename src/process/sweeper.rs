//! Settling the whole disk ahead of need, while a process is away.
//!
//! Under a new generation every older sector is settled by its first read, unless all processes
//! agree on it; with one of them away that is a stable write for each. So while one is away the
//! disk is settled from its start to its end, in the background and by whole ranges. A sweep goes on
//! where it stopped when a process goes missing again, and is done once for a generation.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info};

use super::keeper_task::KeeperView;
use super::operations::Operations;
use crate::domain::Fence;
use crate::register::DISCARD_SECTORS_MAX;

/// Sectors that are settled with one command.
const CHUNK_SECTORS: u64 = DISCARD_SECTORS_MAX as u64;

/// The process's sweeper.
pub(crate) struct Sweeper {
    operations: Operations,
    view: watch::Receiver<KeeperView>,
    /// Whether every process is there.
    complete: watch::Receiver<bool>,
    sweep: Option<Sweep>,
}

/// How far a generation's sweep is.
#[derive(Debug)]
struct Sweep {
    fence: Fence,
    /// The first sector that was not swept.
    next: u64,
    chunks: u64,
    took: Duration,
}

/// Why a sweep does not go on.
#[derive(Debug, PartialEq, Eq)]
enum Pause {
    /// Everything is swept.
    Done,
    /// The client has gone, or all processes are back.
    Unwanted,
    /// A newer generation is there, or the process stops.
    Refused,
    /// The keeper's task has ended.
    Stopped,
}

impl Sweeper {
    pub(crate) fn new(
        operations: Operations,
        view: watch::Receiver<KeeperView>,
        complete: watch::Receiver<bool>,
    ) -> Self {
        Self {
            operations,
            view,
            complete,
            sweep: None,
        }
    }

    /// Sweeps whenever there is reason to, until the keeper's task has ended.
    pub(crate) async fn run(mut self) {
        loop {
            if let Some(fence) = self.wanted() {
                match self.sweep_on(fence).await {
                    Pause::Done | Pause::Unwanted => continue,
                    // What this is about is about to change.
                    Pause::Refused => {}
                    Pause::Stopped => return,
                }
            }
            tokio::select! {
                changed = self.view.changed() => if changed.is_err() { return },
                changed = self.complete.changed() => if changed.is_err() { return },
            }
        }
    }

    /// The generation to be swept now.
    fn wanted(&mut self) -> Option<Fence> {
        let fence = self.view.borrow_and_update().runs?;
        let done = |sweep: &Sweep| sweep.fence == fence && sweep.next >= self.operations.sectors();
        let wanted = !*self.complete.borrow_and_update() && !self.sweep.as_ref().is_some_and(done);
        wanted.then_some(fence)
    }

    async fn sweep_on(&mut self, fence: Fence) -> Pause {
        let mut sweep = match self.sweep.take() {
            Some(sweep) if sweep.fence == fence => sweep,
            _ => Sweep {
                fence,
                next: 0,
                chunks: 0,
                took: Duration::ZERO,
            },
        };
        debug!(?fence, next = sweep.next, "settling the disk");
        let since = Instant::now();
        let pause = self.settle(&mut sweep).await;
        sweep.took += since.elapsed();
        let (generation, seconds) = (fence.generation.0, sweep.took.as_secs_f64());
        debug!(
            ?fence,
            next = sweep.next,
            chunks = sweep.chunks,
            ?pause,
            "paused settling"
        );
        if pause == Pause::Done {
            info!("settled the whole disk under generation {generation} in {seconds:.1} s");
        }
        self.sweep = Some(sweep);
        pause
    }

    /// Settles chunk after chunk, two at a time.
    async fn settle(&mut self, sweep: &mut Sweep) -> Pause {
        let end = self.operations.sectors();
        let operations = self.operations.clone();
        while sweep.next < end {
            if *self.complete.borrow() || self.view.borrow().runs != Some(sweep.fence) {
                return Pause::Unwanted;
            }
            let count = (2 * CHUNK_SECTORS).min(end - sweep.next);
            let settling = operations.settle(sweep.fence, sweep.next, count);
            tokio::select! {
                // What is done is done, wanted or not.
                biased;
                settled = settling => match settled {
                    Ok(()) => {
                        sweep.next += count;
                        sweep.chunks += count.div_ceil(CHUNK_SECTORS);
                    }
                    Err(error) => {
                        debug!(%error, "stopped settling");
                        return Pause::Refused;
                    }
                },
                pause = self.unwanted(sweep.fence) => return pause,
            }
        }
        Pause::Done
    }

    /// Returns once the sweep under this fence has no reason any more.
    async fn unwanted(&mut self, fence: Fence) -> Pause {
        let runs_no_more = self.view.wait_for(|view| view.runs != Some(fence));
        let complete = self.complete.wait_for(|complete| *complete);
        tokio::select! {
            ended = runs_no_more => ended.map_or(Pause::Stopped, |_| Pause::Unwanted),
            ended = complete => ended.map_or(Pause::Stopped, |_| Pause::Unwanted),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::{Generation, Mode};
    use crate::process::inbox::Inbox;
    use crate::process::items::Item;
    use crate::register::{Command, Outcome, RegisterError};

    fn fence(generation: u64) -> Fence {
        Fence {
            generation: Generation(generation),
            mode: Mode::Shared,
        }
    }

    /// A sweeper of a disk of five chunks, and what surrounds it.
    struct Swept {
        worker: Arc<Inbox<Item>>,
        view: watch::Sender<KeeperView>,
        complete: watch::Sender<bool>,
        sweeper: tokio::task::JoinHandle<()>,
    }

    impl Swept {
        fn new() -> Self {
            let worker = Arc::new(Inbox::new());
            let operations = Operations::new(5 * CHUNK_SECTORS, vec![Arc::clone(&worker)], None);
            let (view, views) = watch::channel(KeeperView::default());
            let (complete, completes) = watch::channel(true);
            let sweeper = Sweeper::new(operations, views, completes);
            Self {
                worker,
                view,
                complete,
                sweeper: tokio::spawn(sweeper.run()),
            }
        }

        fn runs(&self, fence: Option<Fence>) {
            self.view.send_modify(|view| view.runs = fence);
        }

        /// The chunks that are asked for by now, ended in this way.
        async fn chunks(
            &self,
            end: impl Fn() -> Result<Outcome, RegisterError>,
        ) -> Vec<(u64, u64)> {
            let mut items = Vec::new();
            let taken = tokio::time::timeout(Duration::from_secs(1), self.worker.take(&mut items));
            if taken.await.is_err() {
                return Vec::new();
            }
            let end = |item: Item| {
                let Item::Command {
                    authority,
                    command: Command::Settle { range },
                    done,
                    ..
                } = item
                else {
                    panic!("it settles");
                };
                // It may have been given up.
                done.send(end()).ok();
                let generation = authority.generation.0;
                (generation, range.first().index() / CHUNK_SECTORS)
            };
            let chunks = items.into_iter().map(end).collect();
            // The sweeper takes its next step.
            tokio::time::sleep(Duration::from_millis(1)).await;
            chunks
        }

        async fn settled(&self) -> Vec<(u64, u64)> {
            self.chunks(|| Ok(Outcome::Settled)).await
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_is_done_once_for_a_generation_and_goes_on_where_it_stopped() {
        let swept = Swept::new();
        swept.runs(Some(fence(1)));
        assert_eq!(swept.settled().await, [], "everybody is there");
        swept.complete.send_replace(false);
        assert_eq!(swept.settled().await, [(1, 0), (1, 1)]);
        swept.complete.send_replace(true);
        assert_eq!(swept.settled().await, [(1, 2), (1, 3)], "they had begun");
        assert_eq!(swept.settled().await, []);
        swept.complete.send_replace(false);
        assert_eq!(swept.settled().await, [(1, 4)]);
        assert_eq!(swept.settled().await, []);
        for complete in [true, false] {
            swept.complete.send_replace(complete);
            assert_eq!(swept.settled().await, [], "it is done");
        }
        swept.runs(Some(fence(2)));
        assert_eq!(swept.settled().await, [(2, 0), (2, 1)]);
        swept.runs(None);
        assert_eq!(swept.settled().await, [(2, 2), (2, 3)], "they had begun");
        assert_eq!(swept.settled().await, [], "nobody runs under it");
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_that_is_fenced_waits_for_another_generation() {
        let swept = Swept::new();
        swept.complete.send_replace(false);
        swept.runs(Some(fence(1)));
        let fenced = || Err(RegisterError::Fenced { by: fence(2) });
        assert_eq!(swept.chunks(fenced).await, [(1, 0), (1, 1)]);
        assert_eq!(swept.settled().await, []);
        swept.runs(Some(fence(3)));
        assert_eq!(swept.settled().await, [(3, 0), (3, 1)]);
        drop(swept.view);
        swept.sweeper.await.unwrap();
    }
}
