//! What a peer asks of this process in a session, and what it is answered.
//!
//! A request takes a place under the credit that was granted, and keeps it until its reply is
//! taken to be sent. So there are never more replies here than the credit has places, and a reply
//! never waits for room; a peer that asks for more than its credit is closed.

use std::fmt;
use std::sync::{Mutex, MutexGuard};

use rustc_hash::FxHashMap;
use tokio::sync::Notify;

use super::NetError;
use super::link_queue::fits;
use crate::domain::{Incarnation, Rank, Reply, Request, RequestId};
use crate::wire::{Asker, Credit, Introduction, cost};

/// A peer that asks this process.
pub struct PeerSession {
    asker: Asker,
    credit: Credit,
    outbox: Mutex<Outbox>,
    introduction: Mutex<Introduction>,
    /// There is something to send.
    pub(super) wake: Notify,
    /// The session is to be closed.
    pub(super) closing: Notify,
}

#[derive(Default)]
struct Outbox {
    outgoing: Outgoing,
    /// One for each request whose reply has not been taken to be sent.
    places: FxHashMap<RequestId, Place>,
    bytes: u64,
    ended: bool,
    fault: Option<NetError>,
}

struct Place {
    cost: u64,
    answered: bool,
}

/// What is to be sent next.
#[derive(Default)]
pub(super) struct Outgoing {
    pub(super) replies: Vec<Reply>,
    pub(super) declined: Vec<RequestId>,
}

impl PeerSession {
    pub(super) fn new(asker: Asker, credit: Credit, introduction: Introduction) -> Self {
        Self {
            asker,
            credit,
            outbox: Mutex::default(),
            introduction: Mutex::new(introduction),
            wake: Notify::new(),
            closing: Notify::new(),
        }
    }

    /// The process that asks.
    pub fn rank(&self) -> Rank {
        self.asker.rank
    }

    /// Its incarnation.
    pub fn incarnation(&self) -> Incarnation {
        self.asker.incarnation
    }

    /// What it said of itself last.
    pub fn introduction(&self) -> Introduction {
        let introduction = self.introduction.lock();
        introduction.expect("nobody panics with the lock").clone()
    }

    /// Answers the peer. Never blocks; from any thread. What the peer has not asked in this
    /// session, or was answered already, is left out; after the session's end everything is.
    pub fn reply(&self, replies: Vec<Reply>) {
        self.answer(|outbox| {
            for reply in replies {
                if outbox.take_place(reply.id) {
                    outbox.outgoing.replies.push(reply);
                }
            }
        });
    }

    /// Tells the peer that these requests are never answered, so that they no longer count
    /// against its credit. Never blocks; from any thread.
    pub fn decline(&self, requests: &[RequestId]) {
        self.answer(|outbox| {
            for &id in requests {
                if outbox.take_place(id) {
                    outbox.outgoing.declined.push(id);
                }
            }
        });
    }

    /// Ends the session, since the peer said what no correct process says.
    pub fn close(&self, fault: String) {
        self.end(NetError::Fault(fault));
    }

    pub(super) fn end(&self, why: NetError) {
        let mut outbox = self.lock();
        if !outbox.ended {
            outbox.ended = true;
            outbox.fault = Some(why);
            outbox.outgoing = Outgoing::default();
            drop(outbox);
            self.closing.notify_one();
        }
    }

    /// Why [`Self::end`] was called, if it was.
    pub(super) fn take_fault(&self) -> Option<NetError> {
        self.lock().fault.take()
    }

    pub(super) fn asker(&self) -> Asker {
        self.asker
    }

    pub(super) fn credit(&self) -> Credit {
        self.credit
    }

    pub(super) fn introduced(&self, introduction: Introduction) {
        let mut present = self
            .introduction
            .lock()
            .expect("nobody panics with the lock");
        *present = introduction;
    }

    /// Gives the requests their places, if the credit has as many.
    pub(super) fn admit(&self, requests: &[Request]) -> Result<(), NetError> {
        let mut outbox = self.lock();
        for request in requests {
            let cost = cost(request);
            let under_way = Credit {
                requests: u32::try_from(outbox.places.len()).unwrap_or(u32::MAX),
                bytes: outbox.bytes,
            };
            if !fits(self.credit, under_way, cost) {
                return Err(NetError::Fault("it asked for more than its credit".into()));
            }
            let place = Place {
                cost,
                answered: false,
            };
            if outbox.places.insert(request.id, place).is_some() {
                return Err(NetError::Fault("it asked the same twice at once".into()));
            }
            outbox.bytes += cost;
        }
        Ok(())
    }

    /// What waits to be sent; its places are free from now on.
    pub(super) fn take_outgoing(&self) -> Outgoing {
        let mut outbox = self.lock();
        let outgoing = std::mem::take(&mut outbox.outgoing);
        let answered = outgoing.replies.iter().map(|reply| reply.id);
        for id in answered.chain(outgoing.declined.iter().copied()) {
            let place = outbox
                .places
                .remove(&id)
                .expect("what is answered has a place");
            outbox.bytes -= place.cost;
        }
        outgoing
    }

    fn answer(&self, answer: impl FnOnce(&mut Outbox)) {
        let mut outbox = self.lock();
        if outbox.ended {
            return;
        }
        let idle = outbox.outgoing.is_empty();
        answer(&mut outbox);
        let wake = idle && !outbox.outgoing.is_empty();
        drop(outbox);
        // Whoever found it not empty has woken the writer already.
        if wake {
            self.wake.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Outbox> {
        self.outbox.lock().expect("nobody panics with the lock")
    }
}

impl fmt::Debug for PeerSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerSession({:?})", self.asker)
    }
}

impl Outbox {
    /// Whether there is a request that waits for this answer; from now on it does not.
    fn take_place(&mut self, id: RequestId) -> bool {
        match self.places.get_mut(&id) {
            Some(place) if !place.answered => {
                place.answered = true;
                true
            }
            _ => false,
        }
    }
}

impl Outgoing {
    pub(super) fn is_empty(&self) -> bool {
        self.replies.is_empty() && self.declined.is_empty()
    }
}
