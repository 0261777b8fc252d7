//! The side that answers: one copy among the others.
//!
//! A question is passed to the store and the store's answer to whoever asked; nothing is
//! remembered but which is which. So an answer never says more than stable storage does, and an
//! acknowledgement is an answer to [`Input::Stored`](super::Input::Stored) and to nothing else.

use rustc_hash::FxHashMap;

use crate::domain::{Answer, Held, Question, Rank, Reply, Request, RequestId};

use super::Output;
use super::fault::{self, PeerFault};
use super::token::{LoadPurpose, StorePurpose};

/// What peers have asked and the store has not answered yet.
///
/// A request that comes twice, because its connection broke in between, is answered twice; the
/// store does not write again what it has. How much may be under way for a peer is bounded where
/// requests are taken from its connection.
#[derive(Debug, Default)]
pub(super) struct Replica {
    next_number: u64,
    asked: FxHashMap<u64, RequestId>,
}

impl Replica {
    /// Takes a peer's request.
    pub(super) fn request(
        &mut self,
        from: Rank,
        request: Request,
        out: &mut Vec<Output>,
    ) -> Result<(), PeerFault> {
        let Request { id, question, .. } = request;
        if id.operation.coordinator != from {
            return Err(PeerFault::ForeignOperation);
        }
        fault::check_question(&question)?;
        let number = self.next_number;
        self.next_number += 1;
        self.asked.insert(number, id);
        out.push(match question {
            Question::Stamps { range } => Output::Load {
                token: LoadPurpose::Peer(number).token(),
                range,
                newer_than: None,
            },
            Question::Values { range, held } => Output::Load {
                token: LoadPurpose::Peer(number).token(),
                range,
                newer_than: Some(held),
            },
            Question::Store { extents } => Output::Store {
                token: StorePurpose::Peer(number).token(),
                extents,
            },
            Question::Fence | Question::Open { .. } => todo!("register"),
        });
        Ok(())
    }

    /// The store has read what the peer's request of this number asks for.
    pub(super) fn loaded(&mut self, number: u64, held: Held, out: &mut Vec<Output>) {
        self.answer(number, Answer::Held(held), out);
    }

    /// What the peer's request of this number stores is stable.
    pub(super) fn stored(&mut self, number: u64, out: &mut Vec<Output>) {
        self.answer(number, Answer::Stored, out);
    }

    /// What the peer's request of this number stores will never be stable here.
    pub(super) fn refused(&mut self, number: u64, out: &mut Vec<Output>) {
        let id = self.take(number);
        let to = id.operation.coordinator;
        out.push(Output::Decline { to, id });
    }

    /// How many requests wait for the store.
    pub(super) fn waiting(&self) -> usize {
        self.asked.len()
    }

    fn answer(&mut self, number: u64, answer: Answer, out: &mut Vec<Output>) {
        let id = self.take(number);
        let to = id.operation.coordinator;
        let reply = Reply { id, answer };
        out.push(Output::Reply { to, reply });
    }

    fn take(&mut self, number: u64) -> RequestId {
        self.asked
            .remove(&number)
            .expect("the store answers each request once")
    }
}
