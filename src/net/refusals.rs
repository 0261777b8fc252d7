//! One line in the log for each reason to refuse someone's connections, but never a flood of them.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::NetError;

const BURST: u32 = 20;
const INTERVAL: Duration = Duration::from_millis(200);

/// After so long the same may be said again: a process with a wrong configuration comes back every
/// second.
const SILENCE: Duration = Duration::from_secs(60);

/// More different reasons than this at once are said as they come.
const REASONS_MAX: usize = 32;

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
    /// What was said of late, of whom.
    said: VecDeque<(Instant, IpAddr, String)>,
}

impl Refusals {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                lines: BURST,
                since: Instant::now(),
                unsaid: 0,
                said: VecDeque::new(),
            }),
        }
    }

    /// Notes that this connection was refused or closed.
    pub(super) fn closed(&self, address: SocketAddr, why: &NetError) {
        let why = why.chain();
        if self.is_news(address.ip(), &why, Instant::now()) && self.may_write() {
            tracing::warn!("closed the connection of {address}: {why}");
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

    /// Whether this was not said of late; from now on it was.
    fn is_news(&self, of: IpAddr, why: &str, now: Instant) -> bool {
        let said = &mut self.lock().said;
        said.retain(|(when, ..)| now.saturating_duration_since(*when) < SILENCE);
        if said
            .iter()
            .any(|(_, other, said)| *other == of && said == why)
        {
            return false;
        }
        if said.len() == REASONS_MAX {
            said.pop_front();
        }
        said.push_back((now, of, why.to_owned()));
        true
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
        let mut state = self.lock();
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

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with the lock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_said_once_a_minute() {
        let refusals = Refusals::new();
        let [one, other] = [[10, 0, 0, 1], [10, 0, 0, 2]].map(IpAddr::from);
        let start = Instant::now();
        assert!(refusals.is_news(one, "wrong key", start));
        assert!(!refusals.is_news(one, "wrong key", start + SILENCE / 2));
        assert!(refusals.is_news(one, "wrong cluster", start));
        assert!(refusals.is_news(other, "wrong key", start));
        assert!(refusals.is_news(one, "wrong key", start + SILENCE));
        for number in 0..2 * REASONS_MAX {
            assert!(refusals.is_news(one, &number.to_string(), start));
        }
        assert_eq!(refusals.lock().said.len(), REASONS_MAX);
    }

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
