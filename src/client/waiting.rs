//! Saying that the disk waits: a missing majority is no error, and a silent wait looks like a
//! fault.

use std::time::Duration;

use tokio::time::Instant;

/// How long something is waited for until the log says so.
const WARN_AFTER: Duration = Duration::from_secs(2);

/// Whether something is waited for, and whether that was said.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    since: Option<Instant>,
    /// What the last attempt ended in, for the log.
    why: Option<String>,
    said: bool,
}

impl Waiting {
    /// Something is waited for; again or still.
    pub(super) fn begin(&mut self) {
        self.since.get_or_insert_with(Instant::now);
    }

    /// What stands in the way, as far as is known.
    pub(super) fn because(&mut self, why: String) {
        self.why = Some(why);
    }

    /// Something that was waited for has come; `busy` if more is waited for.
    pub(super) fn progress(&mut self, busy: bool) {
        let now = Instant::now();
        if let Some(since) = self.since.filter(|_| self.said) {
            let seconds = (now - since).as_secs();
            tracing::info!(seconds, "the disk goes on");
        }
        *self = Self {
            since: busy.then_some(now),
            ..Self::default()
        };
    }

    /// Since when something is waited for, and nothing of it has come.
    pub(super) fn since(&self) -> Option<Instant> {
        self.since
    }

    /// When the log is to be told.
    pub(super) fn due(&self) -> Option<Instant> {
        Some(self.since.filter(|_| !self.said)? + WARN_AFTER)
    }

    /// Tells the log, if it is time; where no attempt has failed, what is `waited_for`.
    pub(super) fn say(&mut self, waited_for: impl FnOnce() -> String) {
        if self.due().is_some_and(|due| due <= Instant::now()) {
            self.said = true;
            let why = self.why.take().unwrap_or_else(waited_for);
            tracing::warn!(
                why,
                "the disk waits for processes to answer; `atdd status --config …` says how they are"
            );
        }
    }
}
