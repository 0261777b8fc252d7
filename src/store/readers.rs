//! The threads that wait for the medium, so that nobody else does.

use std::sync::Arc;

use super::engine::Engine;
use super::error::StoreError;
use super::load::Patience;
use super::manager::Completion;
use super::plan::Pending;
use super::shared::{Job, Shared, no_votes};
use super::tree::{Missing, Pinned};

/// Pages that are fetched for a request at a time. They stay with it until it is planned, so that
/// it gets on however small the cache is.
const PINNED_MAX: usize = 64;

/// How many spans are looked up at a time to find the pages that they need.
const LOOKUP_SPANS: usize = 512;

/// Does what waits for the medium until the store ends.
pub(crate) fn run_reader(shared: &Arc<Shared>) {
    while let Some(job) = next_job(shared) {
        match job {
            Job::Load {
                token,
                range,
                newer_than,
                completions,
            } => {
                let engine = &shared.engine;
                let held = match engine.load(range, newer_than.as_ref(), Patience::Waits) {
                    Ok(held) => held.expect("it may wait"),
                    Err(error) => no_votes(range, &error),
                };
                completions.complete(vec![Completion::Loaded { token, held }]);
            }
            Job::Fetch {
                mut pending,
                missing,
            } => {
                let fetched = shared.engine.pin(&mut pending, missing);
                let mut inbox = shared.inbox();
                inbox.with_readers -= 1;
                match fetched {
                    Ok(()) => inbox.arrived.push_back(pending),
                    Err(error) => {
                        drop(inbox);
                        shared.fail(error);
                        continue;
                    }
                }
                drop(inbox);
                shared.inbox_changed.notify_one();
            }
        }
    }
}

fn next_job(shared: &Shared) -> Option<Job> {
    let mut jobs = shared.jobs();
    loop {
        if let Some(job) = jobs.waiting.pop_front() {
            return Some(job);
        }
        if jobs.ending {
            return None;
        }
        jobs = shared
            .jobs_changed
            .wait(jobs)
            .expect("nothing panics under the lock");
    }
}

impl Engine {
    /// Fetches the page that a request needs next, and those behind it as far as is sensible.
    pub(crate) fn pin(&self, pending: &mut Pending, missing: Missing) -> Result<(), StoreError> {
        pending.pinned.clear();
        let mut next = Some(missing);
        while let Some(missing) = next
            && pending.pinned.len() < PINNED_MAX
        {
            let found = self.fetch(missing)?;
            pending.pinned.push((missing.page, found));
            next = self.first_missing(pending);
        }
        Ok(())
    }

    /// The next page that planning the request would miss.
    fn first_missing(&self, pending: &Pending) -> Option<Missing> {
        let pages = Pinned {
            cache: &self.cache,
            pages: &pending.pinned,
        };
        let index = self.index();
        for (mut first, last) in pending.lookups_left() {
            while first <= last {
                match index.lookup(&pages, (first, last), LOOKUP_SPANS) {
                    Err(missing) => return Some(missing),
                    Ok(spans) => {
                        let reached = spans.last().expect("a range has a span").last;
                        let Some(behind) = reached.checked_add(1) else {
                            break;
                        };
                        first = behind;
                    }
                }
            }
        }
        None
    }
}
