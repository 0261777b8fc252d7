//! What is owed to one peer: requests that wait for its credit, and those under way.
//!
//! Bounds: what is under way is bounded by the peer's credit. What waits belongs to operations
//! that are not finished, whose number is bounded by the admission of client requests, and to
//! finished ones, of which the oldest are dropped as soon as the queue is over its limits. A
//! dropped store is left to catch-up: its operation has its majority without this peer.
//!
//! Stores leave a part of the credit to questions. A peer whose disk is full, or slow, answers
//! questions all the same, and those must not wait behind the stores that it can not do.

use std::collections::{BTreeMap, BTreeSet};

use super::NetError;
use crate::domain::{Answer, OperationId, Question, Reply, Request, RequestId};
use crate::wire::{Credit, cost};

/// The queue of a link that is connected.
#[derive(Debug)]
pub(super) struct LinkQueue {
    limits: Credit,
    credit: Credit,
    /// By their places in the order of sending.
    waiting: BTreeMap<u64, Waiting>,
    /// The places of those that are no stores.
    questions: BTreeSet<u64>,
    /// The places of requests that may be dropped.
    finished: BTreeSet<u64>,
    known: BTreeMap<RequestId, Known>,
    next_place: u64,
    waiting_bytes: u64,
    under_way: Credit,
    /// Of it, the stores.
    stores_under_way: Credit,
    dropped: u64,
}

#[derive(Debug)]
struct Waiting {
    request: Request,
    cost: u64,
}

#[derive(Debug)]
enum Known {
    Waiting { place: u64 },
    UnderWay { cost: u64, asked: Asked },
}

/// What a request under way asks, as far as its answer has to fit.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Asked {
    Held,
    Store,
    Fence,
    Open,
}

impl LinkQueue {
    /// An empty queue, to a peer that grants this credit. The limits are for what waits.
    pub(super) fn new(limits: Credit, credit: Credit) -> Self {
        Self {
            limits,
            credit,
            waiting: BTreeMap::new(),
            questions: BTreeSet::new(),
            finished: BTreeSet::new(),
            known: BTreeMap::new(),
            next_place: 0,
            waiting_bytes: 0,
            under_way: NOTHING,
            stores_under_way: NOTHING,
            dropped: 0,
        }
    }

    /// Appends requests, but for those that wait or are under way already.
    pub(super) fn push(&mut self, requests: Vec<Request>) {
        for request in requests {
            if self.known.contains_key(&request.id) {
                continue;
            }
            let place = self.next_place;
            self.next_place += 1;
            let cost = cost(&request);
            self.known.insert(request.id, Known::Waiting { place });
            self.waiting_bytes += cost;
            if !is_store(&request) {
                self.questions.insert(place);
            }
            self.waiting.insert(place, Waiting { request, cost });
        }
        self.drop_excess();
    }

    /// The operation needs no more answers. Its questions that wait are dropped at once; its
    /// stores are still worth sending, while there is room.
    pub(super) fn finish(&mut self, operation: OperationId) {
        let round = |round| RequestId { operation, round };
        let waiting = self.known.range(round(0)..=round(u8::MAX));
        let places = waiting.filter_map(|(_, known)| match known {
            Known::Waiting { place } => Some(*place),
            Known::UnderWay { .. } => None,
        });
        let places: Vec<u64> = places.collect();
        for place in places {
            if is_store(&self.waiting[&place].request) {
                self.finished.insert(place);
            } else {
                self.forget(place);
            }
        }
        self.drop_excess();
    }

    /// Takes what goes out next, as far as the credit allows and until it is about `bytes`; it
    /// counts as under way. A request that is greater than the whole credit goes when nothing else
    /// is under way.
    pub(super) fn take(&mut self, bytes: u64) -> Vec<Request> {
        let mut taken = Vec::new();
        let mut taken_bytes = 0;
        while taken_bytes < bytes
            && let Some(place) = self.next()
        {
            let next = &self.waiting[&place];
            let (cost, id) = (next.cost, next.request.id);
            let asked = Asked::of(&next.request.question);
            taken.push(self.forget(place));
            taken_bytes += cost;
            self.under_way.requests += 1;
            self.under_way.bytes += cost;
            if asked == Asked::Store {
                self.stores_under_way.requests += 1;
                self.stores_under_way.bytes += cost;
            }
            self.known.insert(id, Known::UnderWay { cost, asked });
        }
        taken
    }

    /// Whether [`Self::take`] would give anything.
    pub(super) fn is_ready(&self) -> bool {
        self.next().is_some()
    }

    /// The place of what goes out next: the oldest, but questions pass by stores that have used up
    /// their part of the credit. (Not those that only wait for their turn, or questions might keep
    /// a large store out for ever.)
    fn next(&self) -> Option<u64> {
        let (&oldest, next) = self.waiting.first_key_value()?;
        let of_stores = Credit {
            requests: self.credit.requests - self.credit.requests / QUESTIONS_PART,
            bytes: self.credit.bytes - self.credit.bytes / u64::from(QUESTIONS_PART),
        };
        let passed = is_store(&next.request) && !fits(of_stores, self.stores_under_way, next.cost);
        let place = if passed {
            *self.questions.first()?
        } else {
            oldest
        };
        fits(self.credit, self.under_way, self.waiting[&place].cost).then_some(place)
    }

    /// Checks that a reply answers something that is under way, which it then no longer is.
    pub(super) fn answered(&mut self, reply: &Reply) -> Result<(), NetError> {
        if self.end(reply.id)?.fits(&reply.answer) {
            Ok(())
        } else {
            Err(NetError::Fault("a reply does not fit its request".into()))
        }
    }

    /// The peer will not answer this request.
    pub(super) fn declined(&mut self, id: RequestId) -> Result<(), NetError> {
        self.end(id).map(|_| ())
    }

    /// The peer grants another credit.
    pub(super) fn grant(&mut self, credit: Credit) {
        self.credit = credit;
    }

    /// How many requests wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// How many requests are under way.
    pub(super) fn under_way(&self) -> u32 {
        self.under_way.requests
    }

    /// How many stores of finished operations were dropped.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped
    }

    fn end(&mut self, id: RequestId) -> Result<Asked, NetError> {
        let Some(&Known::UnderWay { cost, asked }) = self.known.get(&id) else {
            return Err(NetError::Fault(
                "a reply answers nothing that was asked".into(),
            ));
        };
        self.known.remove(&id);
        self.under_way.requests -= 1;
        self.under_way.bytes -= cost;
        if asked == Asked::Store {
            self.stores_under_way.requests -= 1;
            self.stores_under_way.bytes -= cost;
        }
        Ok(asked)
    }

    fn drop_excess(&mut self) {
        let requests_max = usize::try_from(self.limits.requests).unwrap_or(usize::MAX);
        while (self.waiting.len() > requests_max || self.waiting_bytes > self.limits.bytes)
            && let Some(&oldest) = self.finished.first()
        {
            self.forget(oldest);
            self.dropped += 1;
        }
    }

    fn forget(&mut self, place: u64) -> Request {
        let waiting = self.waiting.remove(&place).expect("the place is taken");
        self.finished.remove(&place);
        self.questions.remove(&place);
        self.known.remove(&waiting.request.id);
        self.waiting_bytes -= waiting.cost;
        waiting.request
    }
}

impl Asked {
    fn of(question: &Question) -> Self {
        match question {
            Question::Stamps { .. } | Question::Values { .. } => Self::Held,
            Question::Store { .. } => Self::Store,
            Question::Fence => Self::Fence,
            Question::Open { .. } => Self::Open,
        }
    }

    /// Whether this answer is one to the question. To be refused may happen to every one.
    fn fits(self, answer: &Answer) -> bool {
        match answer {
            Answer::Held(_) => self == Self::Held,
            Answer::Stored => self == Self::Store,
            Answer::Fence { .. } => self == Self::Fence,
            Answer::Opened => self == Self::Open,
            Answer::Refused { .. } => true,
        }
    }
}

/// One part in so many of the credit is for questions alone.
const QUESTIONS_PART: u32 = 4;

const NOTHING: Credit = Credit {
    requests: 0,
    bytes: 0,
};

fn is_store(request: &Request) -> bool {
    Asked::of(&request.question) == Asked::Store
}

/// Whether one more request of this cost may be under way. The one that grants the credit reckons
/// the same way.
pub(super) fn fits(credit: Credit, under_way: Credit, cost: u64) -> bool {
    under_way.requests == 0
        || (under_way.requests < credit.requests
            && under_way.bytes.saturating_add(cost) <= credit.bytes)
}

#[cfg(test)]
mod tests;
