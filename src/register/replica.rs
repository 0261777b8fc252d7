//! The side that answers: one copy among the others.
//!
//! A question is passed to the store and the store's answer to whoever asked; nothing is
//! remembered but which is which. So an answer never says more than stable storage does, and an
//! acknowledgement is an answer to [`Input::Stored`](super::Input::Stored) and to nothing else.
//!
//! What was passed on before a fence was accepted is refused when the store answers (rule 3 of
//! `ATTACHMENTS.md`): by then the process no longer speaks for the generation that it was asked
//! under.

use rustc_hash::FxHashMap;

use crate::domain::{Answer, Fence, Held, Question, Reply, Request, RequestId};

use super::Output;
use super::token::{LoadPurpose, StorePurpose};

/// What peers have asked and the store has not answered yet.
///
/// A request that comes twice, because its connection broke in between, is answered twice; the
/// store does not write again what it has. How much may be under way for a peer is bounded where
/// requests are taken from its connection.
#[derive(Debug, Default)]
pub(super) struct Replica {
    next_number: u64,
    /// Requests of lower numbers were made under older fences than the accepted one.
    first_number: u64,
    asked: FxHashMap<u64, RequestId>,
}

impl Replica {
    /// Passes on a peer's request, which was checked and is of the accepted fence.
    pub(super) fn ask(&mut self, request: Request, out: &mut Vec<Output>) {
        let number = self.next_number;
        self.next_number += 1;
        self.asked.insert(number, request.id);
        out.push(match request.question {
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
            Question::Fence | Question::Open { .. } => {
                unreachable!("it was checked to be one for a register")
            }
        });
    }

    /// Another fence was accepted: what is under way is of an older one.
    pub(super) fn raise(&mut self) {
        self.first_number = self.next_number;
    }

    /// The number of the next request; those that were passed on have lower ones.
    pub(super) fn next_number(&self) -> u64 {
        self.next_number
    }

    /// The store has read what the peer's request of this number asks for.
    pub(super) fn loaded(&mut self, number: u64, held: Held, fence: Fence, out: &mut Vec<Output>) {
        self.answer(number, Some(Answer::Held(held)), fence, out);
    }

    /// What the peer's request of this number stores is stable.
    pub(super) fn stored(&mut self, number: u64, fence: Fence, out: &mut Vec<Output>) {
        self.answer(number, Some(Answer::Stored), fence, out);
    }

    /// What the peer's request of this number stores will never be stable here.
    pub(super) fn refused(&mut self, number: u64, fence: Fence, out: &mut Vec<Output>) {
        self.answer(number, None, fence, out);
    }

    /// How many requests wait for the store.
    pub(super) fn waiting(&self) -> usize {
        self.asked.len()
    }

    fn answer(&mut self, number: u64, answer: Option<Answer>, fence: Fence, out: &mut Vec<Output>) {
        let id = self
            .asked
            .remove(&number)
            .expect("the store answers each request once");
        let to = id.operation.coordinator;
        out.push(match answer {
            _ if number < self.first_number => refusal(id, fence),
            Some(answer) => Output::Reply {
                to,
                reply: Reply { id, answer },
            },
            None => Output::Decline { to, id },
        });
    }
}

/// Refuses a request, since this is the accepted fence.
pub(super) fn refusal(id: RequestId, fence: Fence) -> Output {
    Output::Reply {
        to: id.operation.coordinator,
        reply: Reply {
            id,
            answer: Answer::Refused { fence },
        },
    }
}
