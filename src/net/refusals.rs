//! One line in the log for each connection that is refused, but never a flood of them.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::NetError;

const BURST: u32 = 20;
/// A process with a wrong configuration comes back every second: six lines a minute will do.
const INTERVAL: Duration = Duration::from_secs(10);

/// The log of refused connections.
#[derive(Debug)]
pub(super) struct Refusals {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Lines that may be written at once, and since when that is so.
    lines: u32,
    since: Instant,
    unsaid: u64,
}

impl Refusals {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                lines: BURST,
                since: Instant::now(),
                unsaid: 0,
            }),
        }
    }

    /// Notes that this connection was refused or closed.
    pub(super) fn closed(&self, address: impl fmt::Display, why: &NetError) {
        if self.may_write() {
            tracing::warn!("closed the connection of {address}: {}", why.chain());
        }
    }

    /// Notes that this connection sends requests with wrong tags.
    pub(super) fn wrong_tag(&self, address: SocketAddr) {
        if self.may_write() {
            tracing::warn!(
                "a request of {address} has a wrong tag: is its client key another one?"
            );
        }
    }

    fn may_write(&self) -> bool {
        let unsaid = self.take_turn(Instant::now());
        if let Some(unsaid @ 1..) = unsaid {
            tracing::warn!("refused connections {unsaid} more times, without a line for each");
        }
        unsaid.is_some()
    }

    /// Whether a line may be written now, and how many were not since the last.
    fn take_turn(&self, now: Instant) -> Option<u64> {
        let mut state = self.state.lock().expect("nobody panics with the lock");
        while state.lines < BURST && state.since + INTERVAL <= now {
            state.lines += 1;
            state.since += INTERVAL;
        }
        if state.lines == 0 {
            state.unsaid += 1;
            return None;
        }
        if state.lines == BURST {
            state.since = now;
        }
        state.lines -= 1;
        Some(std::mem::take(&mut state.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_rather_than_written() {
        let refusals = Refusals::new();
        let start = Instant::now();
        let written = (0..1000)
            .filter(|_| refusals.take_turn(start) == Some(0))
            .count();
        assert_eq!(written, 20);
        assert_eq!(refusals.take_turn(start + INTERVAL), Some(980));
        assert_eq!(refusals.take_turn(start + INTERVAL), None);
        let later = start + 100 * INTERVAL;
        let written = (0..1000)
            .filter(|_| refusals.take_turn(later).is_some())
            .count();
        assert_eq!(written, 20);
    }
}
