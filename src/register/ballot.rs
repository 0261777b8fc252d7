//! The round that asks for stamps only: of writes, discards and settling ahead of need.

use crate::domain::{Held, Question, Rank, Runs, Vote};

use super::Output;
use super::coordinator::{Coordinator, Piece};
use super::fault::{self, PeerFault};
use super::token::LoadPurpose;

/// The votes on a piece's sectors, by who has cast them.
#[derive(Debug)]
pub(super) struct Ballot {
    votes: Vec<(Rank, Runs<Vote>)>,
}

impl Ballot {
    /// Nobody has voted.
    pub(super) fn new(coordinator: &Coordinator) -> Self {
        Self {
            votes: Vec::with_capacity(usize::from(coordinator.majority())),
        }
    }

    /// Asks everybody, the own store as well.
    pub(super) fn begin(&self, piece: Piece, coordinator: &Coordinator, out: &mut Vec<Output>) {
        for to in coordinator.others() {
            self.resend(to, piece, coordinator, out);
        }
        out.push(Output::Load {
            token: LoadPurpose::Votes(piece.sequence).token(),
            range: piece.range,
            newer_than: None,
        });
    }

    /// Asks another process, unless it has voted.
    pub(super) fn resend(
        &self,
        to: Rank,
        piece: Piece,
        coordinator: &Coordinator,
        out: &mut Vec<Output>,
    ) {
        if !self.has_voted(to) {
            let question = Question::Stamps { range: piece.range };
            coordinator.ask(to, piece, question, out);
        }
    }

    /// Counts the own votes.
    pub(super) fn count_own(&mut self, piece: Piece, held: Held, coordinator: &Coordinator) {
        fault::check_held(piece.range, piece.generation(), None, &held)
            .expect("the store answers what it was asked");
        self.votes.push((coordinator.own(), held.votes));
    }

    /// Counts another process's votes; false if it had voted.
    pub(super) fn count(
        &mut self,
        piece: Piece,
        from: Rank,
        held: Held,
    ) -> Result<bool, PeerFault> {
        fault::check_held(piece.range, piece.generation(), None, &held)?;
        let first = !self.has_voted(from);
        if first {
            self.votes.push((from, held.votes));
        }
        Ok(first)
    }

    /// Whether the process has voted.
    pub(super) fn has_voted(&self, rank: Rank) -> bool {
        self.votes_of(rank).is_some()
    }

    /// What the process has voted.
    pub(super) fn votes_of(&self, rank: Rank) -> Option<&Runs<Vote>> {
        let found = self.votes.iter().find(|&&(voter, _)| voter == rank);
        found.map(|(_, votes)| votes)
    }

    /// All votes, in the order in which they came.
    pub(super) fn votes(&self) -> impl ExactSizeIterator<Item = (Rank, &Runs<Vote>)> + Clone {
        self.votes.iter().map(|(rank, votes)| (*rank, votes))
    }
}
