//! When the log says that a peer stays away.
//!
//! Processes start and stop one after another, so that a link that is missing for a moment is no
//! trouble; and one that stays missing is not news at every attempt.

use std::time::Duration;

use tokio::time::Instant;

/// A peer may be away for as long as this without a word.
const PATIENCE: Duration = Duration::from_secs(5);

/// After so long it is said once more.
const INTERVAL: Duration = Duration::from_secs(60);

/// The time since the link to a peer held last.
#[derive(Debug)]
pub(super) struct Absence {
    since: Instant,
    say_at: Instant,
}

impl Absence {
    /// One that begins now.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            say_at: now + PATIENCE,
        }
    }

    /// One more attempt has failed; returns how long the peer has been away if that is to be said.
    pub(super) fn failed(&mut self, now: Instant) -> Option<Duration> {
        if now < self.say_at {
            return None;
        }
        self.say_at = now + INTERVAL;
        Some(now - self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absence_is_said_when_it_lasts_and_then_once_a_minute() {
        let start = Instant::now();
        let mut absence = Absence::new(start);
        let said = (0..=130).filter_map(|second| {
            let said = absence.failed(start + Duration::from_secs(second))?;
            Some((second, said.as_secs()))
        });
        assert_eq!(said.collect::<Vec<_>>(), [(5, 5), (65, 65), (125, 125)]);
    }
}
