//! The round that stores: until a majority has acknowledged.
//!
//! Writes, discards, reads that write back or settle, and settling ahead of need all end with it.
//! An acknowledgement says that the process holds all that it was sent, or newer, on stable
//! storage. Whoever is owed nothing has voted for all of it, and counts from the start; whoever is
//! to settle what it voted for does not count before it says that it has.

use crate::domain::{Extent, Question, Rank, Runs, Vote};

use super::Output;
use super::coordinator::{Coordinator, Piece};
use super::extents;
use super::fault::PeerFault;
use super::operation::Progress;
use super::quorum::{self, Agreed, Ranks};

/// A round that stores.
#[derive(Debug)]
pub(super) struct StoreRound {
    owed: Portions,
    /// Who holds all that it was owed on stable storage.
    acknowledged: Ranks,
}

#[derive(Debug)]
enum Portions {
    /// Every process is owed the same.
    Same(Vec<Extent>),
    /// Each its own, by rank; those that are not there are owed nothing.
    Each(Vec<(Rank, Vec<Extent>)>),
}

impl StoreRound {
    /// Everybody is to store the same.
    pub(super) fn same(extents: Vec<Extent>) -> Self {
        Self {
            owed: Portions::Same(extents),
            acknowledged: Ranks::default(),
        }
    }

    /// These processes, the own one among them, are to store the same, and no others.
    pub(super) fn among(processes: impl Iterator<Item = Rank>, extents: &[Extent]) -> Self {
        Self {
            owed: Portions::Each(processes.map(|rank| (rank, extents.to_vec())).collect()),
            acknowledged: Ranks::default(),
        }
    }

    /// Each is to store what it lacks, by its votes, of the values that were decided on.
    pub(super) fn of_lacking<'a>(
        piece: Piece,
        decided: &Runs<Agreed>,
        values: &[Extent],
        votes_of: impl Fn(Rank) -> Option<&'a Runs<Vote>>,
        coordinator: &Coordinator,
    ) -> Self {
        let (processes, generation) = (coordinator.processes(), piece.generation());
        let mut owed = Vec::new();
        let mut acknowledged = Ranks::default();
        for rank in Rank::all(processes) {
            let lacks = quorum::owed(processes, generation, decided, votes_of(rank));
            let portion = extents::select(values, &lacks, generation);
            if portion.is_empty() {
                acknowledged.insert(rank);
            } else {
                owed.push((rank, portion));
            }
        }
        Self {
            owed: Portions::Each(owed),
            acknowledged,
        }
    }

    /// Sends what is owed; to the own store last, since others can work meanwhile.
    pub(super) fn begin(&mut self, piece: Piece, coordinator: &Coordinator, out: &mut Vec<Output>) {
        for to in coordinator.others() {
            self.resend(to, piece, coordinator, out);
        }
        let of_own = match &mut self.owed {
            Portions::Same(extents) => Some(extents.clone()),
            Portions::Each(owed) => {
                let own = coordinator.own();
                let at = owed.iter().position(|&(rank, _)| rank == own);
                at.map(|at| owed.swap_remove(at).1)
            }
        };
        if let Some(extents) = of_own {
            Coordinator::store(piece, extents, out);
        }
    }

    /// Sends what is owed to another process, unless it has acknowledged it.
    pub(super) fn resend(
        &self,
        to: Rank,
        piece: Piece,
        coordinator: &Coordinator,
        out: &mut Vec<Output>,
    ) {
        if self.acknowledged.contains(to) {
            return;
        }
        let extents = match &self.owed {
            Portions::Same(extents) => extents,
            Portions::Each(owed) => match owed.iter().find(|&&(rank, _)| rank == to) {
                Some((_, extents)) => extents,
                None => return,
            },
        };
        let extents = extents.clone();
        coordinator.ask(to, piece, Question::Store { extents }, out);
    }

    /// Another process says that it holds all that it was sent on stable storage.
    pub(super) fn answered(
        &mut self,
        from: Rank,
        coordinator: &Coordinator,
    ) -> Result<Progress, PeerFault> {
        let was_asked = match &self.owed {
            Portions::Same(_) => true,
            Portions::Each(owed) => owed.iter().any(|&(rank, _)| rank == from),
        };
        if was_asked {
            Ok(self.acknowledge(from, coordinator))
        } else {
            Err(PeerFault::NeverAsked)
        }
    }

    /// The own store does.
    pub(super) fn stored(&mut self, coordinator: &Coordinator) -> Progress {
        self.acknowledge(coordinator.own(), coordinator)
    }

    fn acknowledge(&mut self, from: Rank, coordinator: &Coordinator) -> Progress {
        if self.acknowledged.insert(from) && self.acknowledged.count() == coordinator.majority() {
            let everyone = self.acknowledged.count() == coordinator.processes();
            Progress::PieceDone { everyone }
        } else {
            Progress::Waiting
        }
    }
}
