//! Wrong tags of one connection: answered at full speed at first, slower and slower read then.

use std::future::pending;

use tokio::time::{Duration, Instant, sleep_until};

use super::Settings;

/// The wrong tags that a connection has sent since its last right one.
#[derive(Debug)]
pub(super) struct Failures {
    count: u32,
    burst: u32,
    pause: Duration,
    until: Option<Instant>,
}

impl Failures {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            count: 0,
            burst: settings.auth_failures_burst,
            pause: settings.auth_failure_pause,
            until: None,
        }
    }

    /// One more.
    pub(super) fn note(&mut self) {
        self.count = self.count.saturating_add(1);
        if self.count > self.burst {
            self.until = Some(Instant::now() + self.pause);
        }
    }

    /// A right one.
    pub(super) fn forget(&mut self) {
        self.count = 0;
    }

    /// Whether nothing is to be read until the [`pause`](Self::pause) is over.
    pub(super) fn are_too_many(&self) -> bool {
        self.until.is_some()
    }

    /// Returns when reading may go on.
    pub(super) async fn pause(&mut self) {
        match self.until {
            Some(until) => sleep_until(until).await,
            None => pending().await,
        }
        self.until = None;
    }
}
