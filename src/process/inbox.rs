//! The inbox of a worker or of the keeper: everything that waits is taken at once, with one
//! wake-up.
//!
//! It never blocks and never refuses, and is bounded all the same, because everything that can be
//! put in has its place reserved elsewhere: commands by admission ([`super::operations`]),
//! requests of peers by the credit that they were granted, replies by the requests that they
//! answer, and completions by the loads and stores of these.

use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

/// Many senders, one receiver, no order but that of arrival.
#[derive(Debug)]
pub(crate) struct Inbox<T> {
    waiting: Mutex<Waiting<T>>,
    arrived: Notify,
}

#[derive(Debug)]
struct Waiting<T> {
    items: Vec<T>,
    closed: bool,
}

impl<T> Inbox<T> {
    pub(crate) fn new() -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                items: Vec::new(),
                closed: false,
            }),
            arrived: Notify::new(),
        }
    }

    /// Puts an item in; after [`close`](Self::close) it is dropped.
    pub(crate) fn put(&self, item: T) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.closed {
            return;
        }
        waiting.items.push(item);
        let first = waiting.items.len() == 1;
        drop(waiting);
        if first {
            self.arrived.notify_one();
        }
    }

    /// Swaps everything that waits into the empty `items`, once there is something; false once the
    /// inbox is closed and empty.
    pub(crate) async fn take(&self, items: &mut Vec<T>) -> bool {
        loop {
            {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                if !waiting.items.is_empty() {
                    std::mem::swap(&mut waiting.items, items);
                    return true;
                }
                if waiting.closed {
                    return false;
                }
            }
            self.arrived.notified().await;
        }
    }

    /// Lets the receiver finish what waits, and takes nothing more.
    pub(crate) fn close(&self) {
        self.waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .closed = true;
        self.arrived.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn everything_that_waits_is_taken_at_once() {
        let inbox = Inbox::new();
        inbox.put(1);
        inbox.put(2);
        let mut items = Vec::new();
        assert!(inbox.take(&mut items).await);
        assert_eq!(items, [1, 2]);
        inbox.put(3);
        inbox.close();
        inbox.put(4);
        items.clear();
        assert!(
            inbox.take(&mut items).await,
            "what came before the close is still there"
        );
        assert_eq!(items, [3]);
        items.clear();
        assert!(!inbox.take(&mut items).await);
    }

    #[tokio::test]
    async fn a_receiver_that_sleeps_is_woken() {
        let inbox = Arc::new(Inbox::new());
        let receiver = tokio::spawn({
            let inbox = Arc::clone(&inbox);
            async move {
                let mut items = Vec::new();
                inbox.take(&mut items).await;
                items
            }
        });
        tokio::task::yield_now().await;
        inbox.put(7);
        assert_eq!(receiver.await.unwrap(), [7]);
    }
}
