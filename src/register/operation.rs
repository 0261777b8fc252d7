//! One client's operation under way.

use crate::domain::{Answer, Content, Fence, Held, Rank, SectorRange};

use super::coordinator::{Coordinator, Piece};
use super::extents::remainder;
use super::fault::PeerFault;
use super::range_locks::LockId;
use super::read::Read;
use super::settle::Settle;
use super::write::Write;
use super::{Command, Outcome, Output, Ticket};

/// What a client wants, under the fence of its attachment.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) ticket: Ticket,
    pub(super) authority: Fence,
    pub(super) command: Command,
}

/// An operation under way.
///
/// It is done piece by piece: where the answers of a majority end before the range does, what they
/// cover is done first, and the rest as a new piece under a new name.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) ticket: Ticket,
    /// What keeps its sectors for it; settling ahead of need takes none.
    pub(super) lock: Option<LockId>,
    /// All of the operation's sectors.
    pub(super) whole: SectorRange,
    /// Those it is at.
    piece: Piece,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Read(Read),
    Write(Write),
    Settle(Settle),
}

/// What an input has made of an operation.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// It waits for more.
    Waiting,
    /// Its piece is done; whether every process had answered the last round of it.
    PieceDone { everyone: bool },
    /// It cannot be done.
    Unreadable,
}

impl Operation {
    /// Begins.
    pub(super) fn start(
        wanted: Wanted,
        lock: Option<LockId>,
        coordinator: &mut Coordinator,
        out: &mut Vec<Output>,
    ) -> Self {
        let whole = wanted.command.range();
        let piece = coordinator.piece(whole, wanted.authority);
        let work = match wanted.command {
            Command::Read { .. } => Work::Read(Read::start(piece, out)),
            Command::Write { data, .. } => {
                Work::Write(Write::start(Content::Data(data), piece, coordinator, out))
            }
            Command::Discard { .. } => {
                Work::Write(Write::start(Content::Zeroes, piece, coordinator, out))
            }
            Command::Settle { .. } => Work::Settle(Settle::start(piece, coordinator, out)),
        };
        Self {
            ticket: wanted.ticket,
            lock,
            whole,
            piece,
            work,
        }
    }

    /// The name of the piece under way.
    pub(super) fn sequence(&self) -> u64 {
        self.piece.sequence
    }

    /// Begins with the next piece, if the one before did not reach the end.
    pub(super) fn begin_next(
        &mut self,
        coordinator: &mut Coordinator,
        out: &mut Vec<Output>,
    ) -> bool {
        let done = self.whole.offset_of(self.piece.range.last()) + 1;
        let Some(rest) = remainder(self.whole, done) else {
            return false;
        };
        self.piece = coordinator.piece(rest, self.piece.authority);
        match &mut self.work {
            Work::Read(read) => read.begin_piece(self.piece, out),
            Work::Write(write) => write.begin_piece(self.piece, coordinator, out),
            Work::Settle(settle) => *settle = Settle::start(self.piece, coordinator, out),
        }
        true
    }

    /// What the client gets, after the last piece.
    pub(super) fn into_outcome(self) -> Outcome {
        match self.work {
            Work::Read(read) => Outcome::Read(read.into_values()),
            Work::Write(_) => Outcome::Written,
            Work::Settle(_) => Outcome::Settled,
        }
    }

    /// The own votes are loaded.
    pub(super) fn votes_loaded(
        &mut self,
        held: Held,
        coordinator: &mut Coordinator,
        out: &mut Vec<Output>,
    ) -> Progress {
        match &mut self.work {
            Work::Read(read) => read.votes_loaded(&mut self.piece, held, coordinator, out),
            Work::Write(write) => write.votes_loaded(&mut self.piece, held, coordinator, out),
            Work::Settle(settle) => settle.votes_loaded(&mut self.piece, held, coordinator, out),
        }
    }

    /// The own values are loaded.
    pub(super) fn values_loaded(
        &mut self,
        held: Held,
        coordinator: &mut Coordinator,
        out: &mut Vec<Output>,
    ) -> Progress {
        match &mut self.work {
            Work::Read(read) => read.values_loaded(&mut self.piece, held, coordinator, out),
            Work::Write(_) | Work::Settle(_) => Progress::Waiting,
        }
    }

    /// The own copy is stable.
    pub(super) fn stored(&mut self, coordinator: &Coordinator) -> Progress {
        match &mut self.work {
            Work::Read(read) => read.stored(coordinator),
            Work::Write(write) => write.stored(coordinator),
            Work::Settle(settle) => settle.stored(coordinator),
        }
    }

    /// The own copy will never be stable. Reads and writes go on without it.
    pub(super) fn refused(&self) -> Progress {
        match &self.work {
            Work::Read(_) | Work::Write(_) => Progress::Waiting,
            Work::Settle(settle) => settle.refused(),
        }
    }

    /// Another process has answered a request of this round.
    pub(super) fn answered(
        &mut self,
        from: Rank,
        round: u8,
        answer: Answer,
        coordinator: &mut Coordinator,
        out: &mut Vec<Output>,
    ) -> Result<Progress, PeerFault> {
        if round > self.piece.round {
            return Err(PeerFault::NeverAsked);
        }
        if round < self.piece.round {
            return Ok(Progress::Waiting);
        }
        let piece = &mut self.piece;
        match &mut self.work {
            Work::Read(read) => read.answered(piece, from, answer, coordinator, out),
            Work::Write(write) => write.answered(piece, from, answer, coordinator, out),
            Work::Settle(settle) => settle.answered(piece, from, answer, coordinator, out),
        }
    }

    /// Sends again what the process has not answered.
    pub(super) fn resend(&self, to: Rank, coordinator: &Coordinator, out: &mut Vec<Output>) {
        match &self.work {
            Work::Read(read) => read.resend(to, self.piece, coordinator, out),
            Work::Write(write) => write.resend(to, self.piece, coordinator, out),
            Work::Settle(settle) => settle.resend(to, self.piece, coordinator, out),
        }
    }

    /// Whether it has a majority, and waits for this process all the same.
    pub(super) fn waits_for(&self, rank: Rank) -> bool {
        match &self.work {
            Work::Read(read) => read.waits_for(rank),
            Work::Write(write) => write.waits_for(rank),
            Work::Settle(_) => false,
        }
    }

    /// Fewer processes are worth waiting for than before.
    pub(super) fn reconsider(
        &mut self,
        coordinator: &mut Coordinator,
        out: &mut Vec<Output>,
    ) -> Progress {
        match &mut self.work {
            Work::Read(read) => read.decide(&mut self.piece, coordinator, out),
            Work::Write(write) => write.decide(&mut self.piece, coordinator, out),
            Work::Settle(_) => Progress::Waiting,
        }
    }
}
