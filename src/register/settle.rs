//! Settling ahead of need: what a majority agrees on is settled before anyone reads it.
//!
//! With a process down, the first read of every sector of an older generation has to settle it,
//! which costs a stable write. This does so for whole ranges, one record each. It takes part in
//! nothing that operations decide: what the processes asked do not all hold is left to the reads of
//! it.
//!
//! It needs no lock. Only what a majority holds under one stamp is settled: every reader of this
//! generation has met one of them, or will, so no older value is ever settled beside it, and what
//! these processes hold when the request arrives is what they voted for or something newer. (A value
//! that some have settled further than others is left alone: there a reader may have met only
//! another one.) To raise the settled generation of whatever they hold is right, then: a process
//! votes under a generation after that is stable there, and stores nothing that is settled less
//! far from then on.

use crate::domain::{Answer, Extent, Held, Rank, Vote};

use super::Output;
use super::ballot::Ballot;
use super::coordinator::{Coordinator, Piece};
use super::extents;
use super::fault::PeerFault;
use super::operation::Progress;
use super::store_round::StoreRound;

/// A range that is being settled.
#[derive(Debug)]
pub(super) enum Settle {
    /// Which stamps do you hold?
    Query(Ballot),
    /// What you hold is settled.
    Store(StoreRound),
}

impl Settle {
    /// Begins with a piece, the first or one right behind the one before.
    pub(super) fn start(piece: Piece, coordinator: &Coordinator, out: &mut Vec<Output>) -> Self {
        let ballot = Ballot::new(coordinator);
        ballot.begin(piece, coordinator, out);
        Self::Query(ballot)
    }

    /// The own votes.
    pub(super) fn votes_loaded(
        &mut self,
        piece: &mut Piece,
        held: Held,
        coordinator: &Coordinator,
        out: &mut Vec<Output>,
    ) -> Progress {
        let Self::Query(ballot) = self else {
            return Progress::Waiting;
        };
        ballot.count_own(*piece, held, coordinator);
        self.decide(piece, coordinator, out)
    }

    /// The own copy is stable.
    pub(super) fn stored(&mut self, coordinator: &Coordinator) -> Progress {
        match self {
            Self::Query(_) => Progress::Waiting,
            Self::Store(round) => round.stored(coordinator),
        }
    }

    /// The own copy never will be. Without it the processes that are asked are no majority, so the
    /// piece is left as it is.
    pub(super) fn refused(&self) -> Progress {
        match self {
            Self::Query(_) => Progress::Waiting,
            Self::Store(_) => Progress::PieceDone { everyone: false },
        }
    }

    /// Another process's answer to the present round.
    pub(super) fn answered(
        &mut self,
        piece: &mut Piece,
        from: Rank,
        answer: Answer,
        coordinator: &Coordinator,
        out: &mut Vec<Output>,
    ) -> Result<Progress, PeerFault> {
        match (&mut *self, answer) {
            (Self::Query(ballot), Answer::Held(held)) => {
                ballot.count(*piece, from, held)?;
                Ok(self.decide(piece, coordinator, out))
            }
            (Self::Store(round), Answer::Stored) => round.answered(from, coordinator),
            _ => Err(PeerFault::WrongAnswer),
        }
    }

    /// Sends again what the process has not answered.
    pub(super) fn resend(
        &self,
        to: Rank,
        piece: Piece,
        coordinator: &Coordinator,
        out: &mut Vec<Output>,
    ) {
        match self {
            Self::Query(ballot) => ballot.resend(to, piece, coordinator, out),
            Self::Store(round) => round.resend(to, piece, coordinator, out),
        }
    }

    /// With the own votes and those of the first others that make it a majority, settles what all
    /// of these hold, as far as their answers go. It waits for nobody else.
    fn decide(
        &mut self,
        piece: &mut Piece,
        coordinator: &Coordinator,
        out: &mut Vec<Output>,
    ) -> Progress {
        let Self::Query(ballot) = self else {
            return Progress::Waiting;
        };
        let Some(own_votes) = ballot.votes_of(coordinator.own()) else {
            return Progress::Waiting;
        };
        let others_needed = usize::from(coordinator.majority()) - 1;
        let others = ballot
            .votes()
            .filter(|&(rank, _)| rank != coordinator.own());
        let others: Vec<_> = others.take(others_needed).collect();
        if others.len() < others_needed {
            return Progress::Waiting;
        }
        // The stamp of each sector that all agree on.
        let mut agreed = own_votes.map(Vote::stamp);
        for (_, votes) in &others {
            agreed = agreed.zip(votes, |stamp, vote| stamp.filter(|_| vote.stamp() == stamp));
        }
        piece.range = piece.range.part(0, agreed.count());
        let generation = piece.generation();
        let due = agreed.map(|stamp| stamp.is_some_and(|stamp| stamp.settled < generation));
        let due = due.spans().filter(|&(_, _, due)| due);
        let extents: Vec<Extent> = due
            .map(|(offset, count, _)| {
                extents::unchanged(piece.range.part(offset, count), generation)
            })
            .collect();
        if extents.is_empty() {
            let everyone = ballot.votes().len() == usize::from(coordinator.processes());
            return Progress::PieceDone { everyone };
        }
        let own = std::iter::once(coordinator.own());
        let voters = own.chain(others.iter().map(|&(rank, _)| rank));
        let mut round = StoreRound::among(voters, &extents);
        piece.round += 1;
        round.begin(*piece, coordinator, out);
        *self = Self::Store(round);
        Progress::Waiting
    }
}
