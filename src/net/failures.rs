//! Wrong tags of one connection: answered at full speed at first, slower and slower read then.

use std::future::pending;
use std::net::SocketAddr;

use tokio::time::{Instant, sleep_until};

use super::Settings;
use super::refusals::Refusals;

/// The wrong tags that a connection has sent since its last right one.
#[derive(Debug, Default)]
pub(super) struct Failures {
    count: u32,
    until: Option<Instant>,
}

impl Failures {
    /// One more, of the connection from this address.
    pub(super) fn note(&mut self, settings: &Settings, refusals: &Refusals, address: SocketAddr) {
        if self.count == 0 {
            refusals.wrong_tag(address);
        }
        self.count = self.count.saturating_add(1);
        if self.count > settings.auth_failures_burst {
            self.until = Some(Instant::now() + settings.auth_failure_pause);
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
