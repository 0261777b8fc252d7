//! What clients were not answered.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts the changes that have not been answered: those under way, and those that never will be.
/// A kernel that connects again sends them again, however long that takes it.
#[derive(Clone, Debug, Default)]
pub struct Unanswered(Arc<AtomicUsize>);

/// A change, which counts as unanswered until it is [`answered`](Self::answered).
#[derive(Debug)]
pub struct Change(Arc<AtomicUsize>);

impl Unanswered {
    /// A change begins.
    pub fn begin(&self) -> Change {
        self.0.fetch_add(1, Ordering::Relaxed);
        Change(Arc::clone(&self.0))
    }

    /// Whether there are any.
    pub fn is_any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Change {
    /// It is done, or certain never to happen.
    pub fn answered(self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_is_never_answered() {
        let unanswered = Unanswered::default();
        let (first, second) = (unanswered.begin(), unanswered.begin());
        first.answered();
        assert!(unanswered.is_any());
        second.answered();
        assert!(!unanswered.is_any());
        drop(unanswered.begin());
        assert!(unanswered.is_any());
    }
}
