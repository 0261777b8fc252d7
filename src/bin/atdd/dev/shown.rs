//! What has been shown not long ago, so that trouble that lasts does not fill the screen.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The lines shown of late. They are all in the log.
#[derive(Default)]
pub(super) struct Shown {
    lines: VecDeque<(Instant, String)>,
}

impl Shown {
    /// Whether this line was not shown of late; from now on it was.
    pub(super) fn is_news(&mut self, line: &str, now: Instant) -> bool {
        self.lines
            .retain(|(when, _)| now.saturating_duration_since(*when) < SILENCE);
        if self.lines.iter().any(|(_, shown)| shown == line) {
            return false;
        }
        if self.lines.len() == LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back((now, line.to_owned()));
        true
    }
}

/// After so long the same line is worth showing again.
const SILENCE: Duration = Duration::from_secs(60);

/// More different lines than this at once are shown as they come.
const LINES_MAX: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_repeats_is_shown_once_in_a_while() {
        let mut shown = Shown::default();
        let begin = Instant::now();
        assert!(shown.is_news("a", begin));
        assert!(shown.is_news("b", begin));
        assert!(!shown.is_news("a", begin + SILENCE / 2));
        assert!(shown.is_news("a", begin + SILENCE));
        assert!(!shown.is_news("a", begin + SILENCE * 3 / 2));
    }

    #[test]
    fn little_is_remembered() {
        let mut shown = Shown::default();
        let now = Instant::now();
        for number in 0..=LINES_MAX {
            assert!(shown.is_news(&number.to_string(), now));
        }
        assert_eq!(shown.lines.len(), LINES_MAX);
        assert!(shown.is_news("0", now));
        assert!(!shown.is_news("2", now));
    }
}
