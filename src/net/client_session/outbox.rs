//! What a client is answered in a session, and what it has under way there.
//!
//! Every question takes a place under the credit, and keeps it until its answer is taken to be
//! sent. So there are never more answers here than the credit has places, whether the client reads
//! them or not, and an answer never waits for room.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use rustc_hash::FxHashSet;
use tokio::sync::Notify;

use super::super::NetError;
use super::super::link_queue::fits;
use crate::wire::{Credit, RequestNumber, SessionAnswer};

/// The answers of one session that are ready, in the order in which they got ready.
#[derive(Debug)]
pub(super) struct Outbox {
    credit: Credit,
    state: Mutex<State>,
    /// There is something to send, or the end.
    pub(super) wake: Notify,
}

#[derive(Debug)]
struct State {
    ready: VecDeque<(SessionAnswer, Option<Place>)>,
    under_way: Credit,
    numbers: FxHashSet<RequestNumber>,
    over: bool,
}

/// A question's place under the credit; [`Outbox::answer`] takes it back.
#[derive(Debug)]
pub(super) struct Place {
    cost: u64,
    number: Option<RequestNumber>,
}

impl Outbox {
    pub(super) fn new(credit: Credit) -> Self {
        let under_way = Credit {
            requests: 0,
            bytes: 0,
        };
        Self {
            credit,
            state: Mutex::new(State {
                ready: VecDeque::new(),
                under_way,
                numbers: FxHashSet::default(),
                over: false,
            }),
            wake: Notify::new(),
        }
    }

    /// What the client may have under way.
    pub(super) fn credit(&self) -> Credit {
        self.credit
    }

    /// Gives a question of this cost and number its place, if the credit has one.
    pub(super) fn admit(
        &self,
        cost: u64,
        number: Option<RequestNumber>,
    ) -> Result<Place, NetError> {
        let mut state = self.lock();
        if !fits(self.credit, state.under_way, cost) {
            return Err(NetError::Fault("it asked for more than its credit".into()));
        }
        if let Some(number) = number
            && !state.numbers.insert(number)
        {
            return Err(NetError::Fault(
                "it gave two requests at once the same number".into(),
            ));
        }
        state.under_way.requests += 1;
        state.under_way.bytes += cost;
        Ok(Place { cost, number })
    }

    /// The answer to the question of this place.
    pub(super) fn answer(&self, answer: SessionAnswer, place: Place) {
        self.push(answer, Some(place));
    }

    /// What the client is told without having taken a place.
    pub(super) fn tell(&self, answer: SessionAnswer) {
        self.push(answer, None);
    }

    /// Nothing comes any more: what is ready is the last.
    pub(super) fn end(&self) {
        self.lock().over = true;
        self.wake.notify_one();
    }

    /// The next answer; its place is free from now on.
    pub(super) fn next(&self) -> Option<SessionAnswer> {
        let mut state = self.lock();
        let (answer, place) = state.ready.pop_front()?;
        if let Some(Place { cost, number }) = place {
            state.under_way.requests -= 1;
            state.under_way.bytes -= cost;
            if let Some(number) = number {
                state.numbers.remove(&number);
            }
        }
        Some(answer)
    }

    /// Whether everything was taken, and nothing comes any more.
    pub(super) fn is_over(&self) -> bool {
        let state = self.lock();
        state.over && state.ready.is_empty()
    }

    fn push(&self, answer: SessionAnswer, place: Option<Place>) {
        self.lock().ready.push_back((answer, place));
        self.wake.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with the lock")
    }
}
