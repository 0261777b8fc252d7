//! The fence of this process, as this register knows it: what passes, what waits, what is refused,
//! and when nothing older is left.
//!
//! # What it guarantees
//! - Nothing passes under another fence than the accepted one, and nothing before that is stable
//!   (rules 2 and 3 of `ATTACHMENTS.md`).
//! - The accepted fence never goes to a lower number. It goes to another fence of its own number
//!   only while nobody is known to operate under it: a number has one owner, so whoever operates
//!   under it has it, and the other fence is of an open that failed.
//! - [`Output::Drained`] is said once for each fence that was accepted, in their order, when every
//!   store that was put out before is completed; and once more whenever the keeper is told again
//!   of the accepted one, since it had accepted another meanwhile.
//!
//! Keeper and register raise each other, and a fence that was not opened may have come to either
//! first. What was not proved open yields to whatever the keeper raises, and the keeper accepts what
//! a register raises, so both come to the same fence; what was proved open stays, and the register
//! says so. By the time that the keeper acknowledges an open, every register has said `Drained` of
//! that number, and from then on raises another fence of it only if that one was proved: so no
//! number is acknowledged to two owners.
//!
//! A fence that failed to open never lets anything pass, so between two fences of one number no
//! store is put out, and whichever of them a `Drained` was said for, it is true of both.

use std::collections::VecDeque;

use crate::domain::{Fence, Generation, Request};

use super::Output;
use super::fault::PeerFault;
use super::token::StorePurpose;

/// Which fence a register has accepted, and what that keeps from being served.
#[derive(Debug)]
pub(super) struct Gate {
    accepted: Fence,
    /// Whether somebody is known to operate under the accepted fence, which is to say that it was
    /// opened at a majority.
    is_open: bool,
    is_stable: bool,
    /// What was asked under the accepted fence before it was stable, in order of arrival.
    parked: Vec<Request>,
    /// The fences whose earlier stores are not all completed, oldest first.
    draining: VecDeque<Draining>,
    /// How many stores are under way that no entry of `draining` counts.
    stores: usize,
}

/// What becomes of a peer's request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Passage {
    /// It is served.
    Open,
    /// It is parked.
    Shut,
    /// It is of a newer fence, which is to be accepted.
    Newer,
    /// It is of an older one.
    Older,
}

/// Which sequence numbers of own pieces and which numbers of peers' requests come next: what was
/// begun before has lower ones.
#[derive(Copy, Clone, Debug)]
pub(super) struct Marks {
    pub(super) sequence: u64,
    pub(super) number: u64,
}

/// A fence that was accepted while stores were under way.
#[derive(Debug)]
struct Draining {
    generation: Generation,
    began: Marks,
    /// How many stores are under way that were put out before it, and after the entry before.
    stores: usize,
}

impl Gate {
    /// The gate of a process whose store has this fence on record.
    pub(super) fn new(fence: Fence) -> Self {
        Self {
            accepted: fence,
            is_open: fence == Fence::INITIAL,
            is_stable: true,
            parked: Vec::new(),
            draining: VecDeque::new(),
            stores: 0,
        }
    }

    /// Whether a client's operation of this authority may begin; if not, what fences it off.
    ///
    /// # Panics
    /// When the authority was not granted: it is newer than what is stable here.
    pub(super) fn admit(&mut self, authority: Fence) -> Result<(), Fence> {
        assert!(
            authority.generation <= self.accepted.generation,
            "an attachment is granted after its fence was raised here"
        );
        if authority != self.accepted {
            return Err(self.accepted);
        }
        assert!(
            self.is_stable,
            "an attachment is granted when its fence is stable here"
        );
        self.is_open = true;
        Ok(())
    }

    /// What becomes of a peer's request of this authority.
    pub(super) fn meet(&mut self, authority: Fence) -> Result<Passage, PeerFault> {
        if authority == self.accepted {
            self.is_open = true;
            return Ok(if self.is_stable {
                Passage::Open
            } else {
                Passage::Shut
            });
        }
        let (theirs, ours) = (authority.generation, self.accepted.generation);
        if theirs == ours && self.is_open {
            return Err(PeerFault::TwoOwners);
        }
        Ok(if theirs < ours {
            Passage::Older
        } else {
            Passage::Newer
        })
    }

    /// Keeps a request of the accepted fence until that is stable.
    pub(super) fn park(&mut self, request: Request) {
        self.parked.push(request);
    }

    /// Whether the fence is to take the place of the accepted one, when there is no other proof of
    /// it than that some process has accepted it.
    pub(super) fn yields_to(&self, fence: Fence) -> bool {
        let (theirs, ours) = (fence.generation, self.accepted.generation);
        theirs > ours || theirs == ours && fence != self.accepted && !self.is_open
    }

    /// Whether the fence cannot have been opened, since another one of its number was.
    pub(super) fn excludes(&self, fence: Fence) -> bool {
        self.is_open && fence.generation == self.accepted.generation && fence != self.accepted
    }

    /// Accepts another fence, known to be open or not, when so much has begun; what was parked
    /// under the one before is to be refused.
    pub(super) fn raise(&mut self, fence: Fence, is_open: bool, began: Marks) -> Vec<Request> {
        assert!(fence.generation >= self.accepted.generation, "fences go up");
        self.accepted = fence;
        self.is_open = is_open;
        self.is_stable = false;
        self.drain(began);
        std::mem::take(&mut self.parked)
    }

    /// Has it said when everything is drained that has begun so far, for the accepted fence.
    pub(super) fn drain(&mut self, began: Marks) {
        self.draining.push_back(Draining {
            generation: self.accepted.generation,
            began,
            stores: std::mem::take(&mut self.stores),
        });
    }

    /// The keeper says that the fence is stable: what is now to be served. That is nothing if
    /// another one was accepted meanwhile.
    ///
    /// # Panics
    /// When it was never raised here, or stores of older generations are still under way.
    pub(super) fn stabilize(&mut self, fence: Fence) -> Vec<Request> {
        assert!(
            fence.generation <= self.accepted.generation,
            "a fence is raised here before it is stable"
        );
        if fence != self.accepted {
            return Vec::new();
        }
        assert!(
            self.draining.is_empty(),
            "a fence is stable after every store that was put out before it"
        );
        self.is_stable = true;
        std::mem::take(&mut self.parked)
    }

    /// A store is completed, one way or the other.
    pub(super) fn completed(&mut self, store: StorePurpose) {
        let count = self.count_of(store);
        *count = count
            .checked_sub(1)
            .expect("a store is completed once, after it was put out");
    }

    /// Takes account of a step that has put out these outputs from `first` on, and says what has
    /// drained by it.
    pub(super) fn account(&mut self, first: usize, out: &mut Vec<Output>) {
        for output in &out[first..] {
            if let Output::Store { token, .. } = output {
                *self.count_of(StorePurpose::of(*token)) += 1;
            }
        }
        while let Some(&Draining {
            generation,
            stores: 0,
            ..
        }) = self.draining.front()
        {
            self.draining.pop_front();
            out.push(Output::Drained { generation });
        }
    }

    /// The newest fence.
    pub(super) fn accepted(&self) -> Fence {
        self.accepted
    }

    /// How many requests are parked.
    pub(super) fn waiting(&self) -> usize {
        self.parked.len()
    }

    fn count_of(&mut self, store: StorePurpose) -> &mut usize {
        let older = |draining: &&mut Draining| draining.began.is_after(store);
        match self.draining.iter_mut().find(older) {
            Some(draining) => &mut draining.stores,
            None => &mut self.stores,
        }
    }
}

impl Marks {
    fn is_after(self, store: StorePurpose) -> bool {
        match store {
            StorePurpose::Operation(sequence) | StorePurpose::Heal(sequence) => {
                sequence < self.sequence
            }
            StorePurpose::Peer(number) => number < self.number,
        }
    }
}

#[cfg(test)]
mod tests;
