//! Which clients may come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

/// Counts the clients of one export that have asked for a change and have not said goodbye: those
/// that are there, and those that left otherwise. A kernel that connects again sends again whatever
/// it has no answer to, however long that takes it; that its request was carried out and answered
/// says nothing, since the answer may not have reached it. Only a client that says goodbye has
/// nothing left to send.
#[derive(Clone, Debug, Default)]
pub struct Unsettled(Arc<AtomicUsize>);

/// What is known of one client; dropped, it changes no more.
#[derive(Debug)]
pub struct Account {
    clients: Unsettled,
    state: AtomicU8,
}

/// It has changed nothing.
const QUIET: u8 = 0;
/// It counts.
const CHANGING: u8 = 1;
/// It won't send anything again.
const GONE: u8 = 2;

impl Unsettled {
    /// The account of a client that has just come.
    pub fn open(&self) -> Account {
        Account {
            clients: self.clone(),
            state: AtomicU8::new(QUIET),
        }
    }

    /// Whether there are any.
    pub fn is_any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Account {
    /// The client has asked for a change.
    pub fn asked_for_change(&self) {
        let was = self.state.load(Ordering::Relaxed);
        if was == QUIET && self.becomes(CHANGING) == QUIET {
            self.clients.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The client has said goodbye.
    pub fn said_goodbye(&self) {
        if self.becomes(GONE) == CHANGING {
            self.clients.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn becomes(&self, state: u8) -> u8 {
        self.state.fetch_max(state, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_changes_something_counts_until_its_goodbye() {
        let clients = Unsettled::default();
        let (first, second) = (clients.open(), clients.open());
        first.asked_for_change();
        first.asked_for_change();
        second.asked_for_change();
        first.said_goodbye();
        assert!(clients.is_any());
        second.said_goodbye();
        second.said_goodbye();
        assert!(!clients.is_any());
        second.asked_for_change();
        assert!(!clients.is_any(), "it was under way at the goodbye");
    }

    #[test]
    fn whoever_leaves_otherwise_counts_for_ever() {
        let clients = Unsettled::default();
        drop(clients.open());
        assert!(!clients.is_any(), "it has changed nothing");
        clients.open().asked_for_change();
        assert!(clients.is_any());
    }
}
