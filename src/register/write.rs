//! Writes and discards: a stamp above every other, then the value to all.
//!
//! A write under an exclusive generation asks nobody first (rule 7 of `ATTACHMENTS.md`): all stamps
//! of that generation are this register's own, and all others are lower. Under a shared one others
//! write as well, so it asks which stamps there are (rule 8). Discards always ask: most of what is
//! discarded was never written, and needs no tombstones.

use crate::domain::{Answer, Content, Extent, Held, Rank, Runs};

use super::Output;
use super::ballot::Ballot;
use super::coordinator::{Coordinator, Piece};
use super::extents;
use super::fault::PeerFault;
use super::operation::Progress;
use super::quorum::{self, Agreed, Standing, Verdict};
use super::store_round::StoreRound;

/// A write, or a discard, which is a write of zeroes.
#[derive(Debug)]
pub(super) struct Write {
    /// What is still to be written, from the piece's first sector on.
    content: Content,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Which stamps do you hold?
    Query {
        ballot: Ballot,
        /// Whether it waits only for those who have not answered, since with their votes there
        /// might be nothing to store.
        waits_for_more: bool,
    },
    /// Store this.
    Store(StoreRound),
}

impl Write {
    /// Begins with the first piece.
    pub(super) fn start(
        content: Content,
        piece: Piece,
        coordinator: &mut Coordinator,
        out: &mut Vec<Output>,
    ) -> Self {
        let mut write = Self {
            content,
            phase: Phase::query(coordinator),
        };
        write.begin_piece(piece, coordinator, out);
        write
    }

    /// Begins with a piece, right behind the one before.
    pub(super) fn begin_piece(
        &mut self,
        piece: Piece,
        coordinator: &mut Coordinator,
        out: &mut Vec<Output>,
    ) {
        if piece.authority.is_exclusive()
            && let Content::Data(rest) = &mut self.content
        {
            let data = rest.split_to(extents::bytes_of(piece.range.count()));
            let stamp = coordinator.next_stamp(piece.authority, 0);
            let extents = vec![Extent::new(piece.range, stamp, Content::Data(data))];
            self.store(StoreRound::same(extents), piece, coordinator, out);
            return;
        }
        let ballot = Ballot::new(coordinator);
        ballot.begin(piece, coordinator, out);
        self.phase = Phase::Query {
            ballot,
            waits_for_more: false,
        };
    }

    /// The own votes.
    pub(super) fn votes_loaded(
        &mut self,
        piece: &mut Piece,
        held: Held,
        coordinator: &mut Coordinator,
        out: &mut Vec<Output>,
    ) -> Progress {
        let Phase::Query { ballot, .. } = &mut self.phase else {
            return Progress::Waiting;
        };
        ballot.count_own(*piece, held, coordinator);
        self.decide(piece, coordinator, out)
    }

    /// The own copy is stable.
    pub(super) fn stored(&mut self, coordinator: &Coordinator) -> Progress {
        match &mut self.phase {
            Phase::Query { .. } => Progress::Waiting,
            Phase::Store(round) => round.stored(coordinator),
        }
    }

    /// Another process's answer to the present round.
    pub(super) fn answered(
        &mut self,
        piece: &mut Piece,
        from: Rank,
        answer: Answer,
        coordinator: &mut Coordinator,
        out: &mut Vec<Output>,
    ) -> Result<Progress, PeerFault> {
        match (&mut self.phase, answer) {
            (Phase::Query { ballot, .. }, Answer::Held(held)) => {
                if ballot.count(*piece, from, held)? {
                    Ok(self.decide(piece, coordinator, out))
                } else {
                    Ok(Progress::Waiting)
                }
            }
            (Phase::Store(round), Answer::Stored) => round.answered(from, coordinator),
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
        match &self.phase {
            Phase::Query { ballot, .. } => ballot.resend(to, piece, coordinator, out),
            Phase::Store(round) => round.resend(to, piece, coordinator, out),
        }
    }

    /// Whether it has a majority, and waits for this process all the same.
    pub(super) fn waits_for(&self, rank: Rank) -> bool {
        match &self.phase {
            Phase::Query {
                ballot,
                waits_for_more,
            } => *waits_for_more && !ballot.has_voted(rank),
            Phase::Store(_) => false,
        }
    }

    /// On a majority of votes for every sector, chooses the stamp and sends the values.
    pub(super) fn decide(
        &mut self,
        piece: &mut Piece,
        coordinator: &mut Coordinator,
        out: &mut Vec<Output>,
    ) -> Progress {
        let Phase::Query {
            ballot,
            waits_for_more,
        } = &mut self.phase
        else {
            return Progress::Waiting;
        };
        *waits_for_more = false;
        let (processes, generation) = (coordinator.processes(), piece.generation());
        let votes = ballot.votes().map(|(_, votes)| votes);
        let decided = match quorum::judge(processes, piece.range.count(), votes) {
            Verdict::Undecided => return Progress::Waiting,
            Verdict::Unreadable => return Progress::Unreadable,
            Verdict::Decided(decided) => decided,
        };
        let range = piece.range.part(0, decided.count());
        let round = match &mut self.content {
            Content::Data(rest) => {
                let data = rest.split_to(extents::bytes_of(decided.count()));
                let seen = quorum::highest_timestamp(&decided, generation);
                let stamp = coordinator.next_stamp(piece.authority, seen);
                StoreRound::same(vec![Extent::new(range, stamp, Content::Data(data))])
            }
            Content::Zeroes => {
                let goal = discarded(&decided, *piece, coordinator);
                let answers = ballot.votes().len();
                match quorum::standing(processes, generation, answers, &goal) {
                    Standing::Stands => {
                        piece.range = range;
                        let everyone = answers == usize::from(processes);
                        return Progress::PieceDone { everyone };
                    }
                    Standing::MayStand
                        if coordinator.awaits_more(|rank| ballot.has_voted(rank)) =>
                    {
                        *waits_for_more = true;
                        return Progress::Waiting;
                    }
                    Standing::MayStand | Standing::Lacks => {}
                }
                let values = extents::zeroes(range, &goal);
                let votes_of = |rank| ballot.votes_of(rank);
                StoreRound::of_lacking(*piece, &goal, &values, votes_of, coordinator)
            }
            Content::Unchanged => unreachable!("no client writes it"),
        };
        piece.range = range;
        piece.round += 1;
        self.store(round, *piece, coordinator, out);
        Progress::Waiting
    }

    fn store(
        &mut self,
        mut round: StoreRound,
        piece: Piece,
        coordinator: &Coordinator,
        out: &mut Vec<Output>,
    ) {
        round.begin(piece, coordinator, out);
        self.phase = Phase::Store(round);
    }
}

impl Phase {
    fn query(coordinator: &Coordinator) -> Self {
        Self::Query {
            ballot: Ballot::new(coordinator),
            waits_for_more: false,
        }
    }
}

/// What a discard wants to be agreed on. Where anyone has a value that is a tombstone of a new
/// stamp, which nobody holds yet; where nobody has, it is what they did agree on: there the discard
/// is a read that returns the initial zeroes.
fn discarded(decided: &Runs<Agreed>, piece: Piece, coordinator: &mut Coordinator) -> Runs<Agreed> {
    let mut tombstone = None;
    decided.map(|agreed| {
        if !agreed.highest.is_written() {
            return agreed;
        }
        let highest = *tombstone.get_or_insert_with(|| {
            let seen = quorum::highest_timestamp(decided, piece.generation());
            coordinator.next_stamp(piece.authority, seen)
        });
        Agreed {
            highest,
            holders: 0,
        }
    })
}
