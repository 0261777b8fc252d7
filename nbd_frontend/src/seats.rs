//! How many clients there are, and who leaves when there are too many.
//!
//! A connection that has not yet chosen an export costs a socket and nothing is lost with it: when
//! all seats are taken, the oldest of those makes room for the next. A client in transmission is
//! never asked to leave.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::oneshot;

use crate::ending::Close;

/// A client's place, free again when dropped.
#[derive(Debug)]
pub(crate) struct Seat {
    taken: Arc<AtomicUsize>,
    negotiated: Arc<AtomicBool>,
}

impl Seat {
    /// The client chose an export.
    pub(crate) fn negotiated(&self) {
        self.negotiated.store(true, Ordering::Relaxed);
    }

    /// The client could not have the export that it chose, and chooses again.
    pub(crate) fn negotiates(&self) {
        self.negotiated.store(false, Ordering::Relaxed);
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection's number, in the order of arrival.
pub(crate) type ConnectionId = u64;

/// All connections that are not quite gone.
#[derive(Debug)]
pub(crate) struct Seats {
    /// How many clients there may be.
    most: usize,
    taken: Arc<AtomicUsize>,
    next: ConnectionId,
    connections: BTreeMap<ConnectionId, Entry>,
}

#[derive(Debug)]
struct Entry {
    negotiated: Arc<AtomicBool>,
    /// Taken once the connection was told to close.
    close: Option<oneshot::Sender<Close>>,
}

/// What a new connection is given.
pub(crate) struct Admission {
    pub(crate) id: ConnectionId,
    pub(crate) seat: Seat,
    pub(crate) close: oneshot::Receiver<Close>,
}

impl Seats {
    pub(crate) fn new(most: usize) -> Self {
        let taken = Arc::new(AtomicUsize::new(0));
        Self {
            most,
            taken,
            next: 0,
            connections: BTreeMap::new(),
        }
    }

    /// A seat for a new client, or `None` when all are taken by clients in transmission.
    pub(crate) fn admit(&mut self) -> Option<Admission> {
        if self.taken.load(Ordering::Relaxed) >= self.most && !self.make_room() {
            return None;
        }
        let id = self.next;
        self.next += 1;
        self.taken.fetch_add(1, Ordering::Relaxed);
        let negotiated = Arc::new(AtomicBool::new(false));
        let (sender, close) = oneshot::channel();
        let entry = Entry {
            negotiated: Arc::clone(&negotiated),
            close: Some(sender),
        };
        self.connections.insert(id, entry);
        let seat = Seat {
            taken: Arc::clone(&self.taken),
            negotiated,
        };
        Some(Admission { id, seat, close })
    }

    /// Closes the oldest connection that has not chosen an export; whether there was one.
    pub(crate) fn make_room(&mut self) -> bool {
        self.connections
            .values_mut()
            .filter(|entry| !entry.negotiated.load(Ordering::Relaxed))
            // One that cannot be told has just left by itself, and its seat is free already.
            .find_map(|entry| entry.close.take()?.send(Close::MakeRoom).ok())
            .is_some()
    }

    /// Tells every connection to close.
    pub(crate) fn close_all(&mut self, close: Close) {
        for sender in self
            .connections
            .values_mut()
            .filter_map(|entry| entry.close.take())
        {
            // One that has just ended by itself is closed already.
            sender.send(close).ok();
        }
    }

    /// The connection's task has ended.
    pub(crate) fn ended(&mut self, id: ConnectionId) {
        self.connections.remove(&id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_without_an_export_makes_room() {
        let mut seats = Seats::new(2);
        let first = seats.admit().unwrap();
        first.seat.negotiated();
        let mut second = seats.admit().unwrap();
        let mut third = seats.admit().unwrap();
        assert!(matches!(second.close.try_recv(), Ok(Close::MakeRoom)));
        assert!(third.close.try_recv().is_err());
        drop((second, third));
        let fourth = seats.admit().unwrap();
        fourth.seat.negotiated();
        assert!(seats.admit().is_none());
        drop(fourth);
        assert!(seats.admit().is_some());
    }

    #[test]
    fn everybody_is_told_to_close_once() {
        let mut seats = Seats::new(2);
        let mut first = seats.admit().unwrap();
        let second = seats.admit().unwrap();
        seats.ended(second.id);
        seats.close_all(Close::MakeRoom);
        assert!(matches!(first.close.try_recv(), Ok(Close::MakeRoom)));
        seats.close_all(Close::MakeRoom);
    }
}
