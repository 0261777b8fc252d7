//! Which process is tried next, and after what pause: pure, with times passed out.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::Rank;

/// The processes in turn. It stays at the one that works; after one that did not it goes on at
/// once, and only after a whole round without success it pauses.
#[derive(Debug)]
pub(super) struct Ring {
    processes: u8,
    at: Rank,
    /// Attempts in a row that did not lead to an attachment.
    failures: u32,
    /// Which of them turned this client away, as their last word, and why.
    rejections: BTreeMap<Rank, String>,
}

/// The pause after the first round, and that after many.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// How long a process may take to grant an attachment before another is asked, in the first
/// round and after many: it may be the one that reaches no majority.
const PATIENCE_MIN: Duration = Duration::from_secs(3);
const PATIENCE_MAX: Duration = Duration::from_secs(30);

impl Ring {
    /// Begins with the process `start` places after the first.
    pub(super) fn new(processes: u8, start: u8) -> Self {
        Self {
            processes,
            at: Rank::new(start % processes + 1).expect("a cluster has from 1 to 254 processes"),
            failures: 0,
            rejections: BTreeMap::new(),
        }
    }

    /// The process to try now.
    pub(super) fn current(&self) -> Rank {
        self.at
    }

    /// How long it may take to grant an attachment; `None` for ever, since there is no other.
    pub(super) fn patience(&self) -> Option<Duration> {
        let patience = PATIENCE_MIN.saturating_mul(1 << self.rounds().min(5));
        (self.processes > 1).then_some(patience.min(PATIENCE_MAX))
    }

    /// The attachment was granted: a later failure begins a new round.
    pub(super) fn succeeded(&mut self) {
        self.failures = 0;
        self.rejections.clear();
    }

    /// Goes on to the next process, after the longest pause that it returns.
    pub(super) fn failed(&mut self) -> Option<Duration> {
        self.rejections.remove(&self.at);
        self.advance()
    }

    /// Goes on after this one turned the client away. `Err` with its reason when all have.
    pub(super) fn rejected(&mut self, why: String) -> Result<Option<Duration>, String> {
        self.rejections.insert(self.at, why.clone());
        if self.rejections.len() == usize::from(self.processes) {
            return Err(why);
        }
        Ok(self.advance())
    }

    /// Goes on to the process that was named. Names that lead nowhere count as failures, or two
    /// processes that name one another would keep a client busy.
    pub(super) fn go_to(&mut self, process: Rank) -> Option<Duration> {
        let pause = self.failed();
        if process.number() <= self.processes {
            self.at = process;
        }
        pause
    }

    fn advance(&mut self) -> Option<Duration> {
        let next = self.at.number() % self.processes + 1;
        self.at = Rank::new(next).expect("no more than there are processes");
        self.failures = self.failures.saturating_add(1);
        let whole_round = self.failures.is_multiple_of(u32::from(self.processes));
        let pause = PAUSE_MIN.saturating_mul(1 << (self.rounds().max(1) - 1).min(5));
        whole_round.then_some(pause.min(PAUSE_MAX))
    }

    /// Rounds without success.
    fn rounds(&self) -> u32 {
        self.failures / u32::from(self.processes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(number: u8) -> Rank {
        Rank::new(number).unwrap()
    }

    #[test]
    fn processes_are_tried_in_turn_with_a_growing_pause_after_each_round() {
        let mut ring = Ring::new(3, 2);
        let mut pauses = Vec::new();
        for expected in [3, 1, 2].into_iter().cycle().take(24) {
            assert_eq!(ring.current(), rank(expected));
            pauses.extend(ring.failed());
        }
        let pauses: Vec<_> = pauses.iter().map(Duration::as_millis).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1000, 1000, 1000]);
        assert_eq!(ring.patience(), Some(PATIENCE_MAX));
        ring.succeeded();
        assert_eq!(ring.failed(), None);
        assert_eq!(ring.patience(), Some(PATIENCE_MIN));
        assert_eq!(Ring::new(1, 200).patience(), None);
    }

    #[test]
    fn only_when_all_turn_the_client_away_it_gives_up() {
        let mut ring = Ring::new(3, 0);
        let why = || "another cluster".to_owned();
        assert_eq!(ring.rejected(why()), Ok(None));
        assert_eq!(ring.rejected(why()), Ok(None));
        ring.failed();
        assert_eq!(ring.rejected(why()), Ok(None));
        assert_eq!(ring.failed(), None);
        assert!(ring.rejected(why()).is_ok(), "the second was only away");
        assert_eq!(ring.rejected(why()), Ok(None));
        assert_eq!(ring.rejected(why()), Err(why()));
    }

    #[test]
    fn processes_that_name_one_another_cost_pauses() {
        let mut ring = Ring::new(2, 0);
        assert_eq!(ring.go_to(rank(2)), None);
        assert_eq!(ring.current(), rank(2));
        assert!(ring.go_to(rank(1)).is_some());
        assert_eq!(ring.current(), rank(1));
        ring.go_to(rank(9));
        assert_eq!(ring.current(), rank(2), "there is no such process");
    }
}
