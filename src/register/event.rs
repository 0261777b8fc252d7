//! What goes into a register and what comes out of it.

use bytes::Bytes;

use crate::domain::{
    Extent, Fence, Generation, Held, OperationId, Rank, Reply, Request, RequestId, Runs,
    SectorRange, Vote,
};

use super::fault::PeerFault;

/// The most sectors that one read or write covers: 1 MiB.
pub const OPERATION_SECTORS_MAX: u32 = 256;

/// The most sectors that one discard covers: 256 MiB.
pub const DISCARD_SECTORS_MAX: u32 = 1 << 16;

/// Names a client's operation in its [`Output::Done`].
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// Names an [`Output::Load`] in its [`Input::Loaded`].
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LoadToken(pub u64);

/// Names an [`Output::Store`] in its [`Input::Stored`].
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StoreToken(pub u64);

/// What a client wants of the sectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The value of each sector; at most [`OPERATION_SECTORS_MAX`] of them.
    Read {
        /// Which sectors.
        range: SectorRange,
    },
    /// A new value for each sector; at most [`OPERATION_SECTORS_MAX`] of them.
    Write {
        /// Which sectors.
        range: SectorRange,
        /// Their bytes, one sector after another.
        data: Bytes,
    },
    /// Zeroes that take no space; at most [`DISCARD_SECTORS_MAX`] sectors.
    Discard {
        /// Which sectors.
        range: SectorRange,
    },
    /// Makes sure of the values of older generations, ahead of need: what a majority agrees on is
    /// settled under the command's authority, at most [`DISCARD_SECTORS_MAX`] sectors of it. What
    /// it does not agree on is left to the reads of it. Runs beside other operations.
    Settle {
        /// Which sectors.
        range: SectorRange,
    },
}

impl Command {
    /// Which sectors.
    pub const fn range(&self) -> SectorRange {
        match self {
            Self::Read { range }
            | Self::Write { range, .. }
            | Self::Discard { range }
            | Self::Settle { range } => *range,
        }
    }
}

/// What can happen to a register.
#[derive(Clone, Debug)]
pub enum Input {
    /// A client's operation begins.
    Command {
        /// Given back with the outcome.
        ticket: Ticket,
        /// The fence of the attachment that wants it: open, and, if exclusive, this process's, but
        /// for reads while nobody holds the volume.
        authority: Fence,
        /// What is wanted.
        command: Command,
    },
    /// Another process asks.
    Request {
        /// Who asks.
        from: Rank,
        /// What it asks.
        request: Request,
    },
    /// Another process answers.
    Reply {
        /// Who answers.
        from: Rank,
        /// What it answers.
        reply: Reply,
    },
    /// The store has read what an [`Output::Load`] asked for.
    Loaded {
        /// Which load.
        token: LoadToken,
        /// What is held, from stable state only.
        held: Held,
    },
    /// An [`Output::Store`] is stable: every sector of it holds this value or a newer one.
    Stored {
        /// Which store.
        token: StoreToken,
    },
    /// An [`Output::Store`] will never be stable: a copy that is lost together with its stamp may
    /// have been newer.
    Refused {
        /// Which store.
        token: StoreToken,
    },
    /// A connection to this process is there, new or again: what it is owed is sent once more.
    PeerConnected {
        /// Which process.
        rank: Rank,
    },
    /// There is no connection to this process: its answers are not worth waiting for.
    PeerDisconnected {
        /// Which process.
        rank: Rank,
    },
    /// What waits for more than a majority, since it would be cheaper with the answers of all, has
    /// waited long enough.
    StopWaiting,
    /// The process has accepted this fence, newer than the one before: whatever is of an older
    /// generation ends, and nothing of it is accepted any more.
    Raise {
        /// The fence.
        fence: Fence,
    },
    /// The fence that was last raised is stable: its record is, and every store that any shard of
    /// this process had accepted before is.
    Stable {
        /// The fence.
        fence: Fence,
    },
}

/// What a register wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Ask another process; never this one.
    Request {
        /// Whom.
        to: Rank,
        /// What.
        request: Request,
    },
    /// Answer another process.
    Reply {
        /// Whom.
        to: Rank,
        /// With what.
        reply: Reply,
    },
    /// Tell another process that this request of its gets no answer.
    Decline {
        /// Whom.
        to: Rank,
        /// What it asked.
        id: RequestId,
    },
    /// Read the local store, from stable state only.
    Load {
        /// Named by [`Input::Loaded`].
        token: LoadToken,
        /// Which sectors.
        range: SectorRange,
        /// `None`: votes only. Otherwise the values too that are newer than these votes, one for
        /// each sector of the range; everything is newer than [`Vote::Lost`].
        newer_than: Option<Runs<Vote>>,
    },
    /// Store values locally, each where its stamp is newer than what is there.
    Store {
        /// Named by [`Input::Stored`].
        token: StoreToken,
        /// The values; they do not overlap.
        extents: Vec<Extent>,
    },
    /// A client's operation is complete.
    Done {
        /// Which operation.
        ticket: Ticket,
        /// How it ended.
        outcome: Result<Outcome, RegisterError>,
    },
    /// A peer speaks of a newer fence than the one accepted here, which the register has accepted by
    /// that; what the peer asked waits until it is stable. Or the keeper has raised another fence of
    /// the same number, which cannot have been opened, since a peer operates under this one. The
    /// keeper accepts it in both cases.
    Raise {
        /// The fence.
        fence: Fence,
    },
    /// Every store that this register had put out before it accepted a fence is stable, or never
    /// will be. Said once after each [`Input::Raise`] that it follows and after each
    /// [`Output::Raise`]. It is true of every fence of the generation: under one that was not opened
    /// nothing is stored.
    Drained {
        /// The generation that was raised to.
        generation: Generation,
    },
    /// This operation needs no more answers: requests of it that are still queued are owed for
    /// redundancy only, and may be dropped when their queue is full.
    Finished {
        /// Which operation.
        operation: OperationId,
    },
    /// Another process has said what no correct one says; it was ignored. Its connection is to be
    /// closed, since nothing more on it can be relied on.
    Faulty {
        /// Which process.
        from: Rank,
        /// What is wrong.
        fault: PeerFault,
    },
}

/// What a completed operation gives back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The values, ascending, covering exactly the range that was read, each under the stamp that it
    /// was found with, however much later it is settled now. Sectors never written are zeroes with a
    /// stamp that nobody wrote.
    Read(Vec<Extent>),
    /// A majority holds the new value on stable storage.
    Written,
    /// What could be settled ahead of need is, at a majority.
    Settled,
}

/// Why an operation failed. Waiting for a majority is not a failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegisterError {
    /// So many copies are damaged that no majority of intact ones is left.
    #[error("no majority of intact copies is left of a sector in {range:?}")]
    Unreadable {
        /// The sectors of the operation.
        range: SectorRange,
    },
    /// The operation's own bounds were broken: empty data, too many sectors.
    #[error("the operation covers {sectors} sectors, more than the {most} that one may")]
    TooLong {
        /// How many it has.
        sectors: u32,
        /// How many it may have.
        most: u32,
    },
    /// A newer generation was opened: the operation ends here, of unknown outcome. It may have
    /// taken effect, and will do so no more than it has.
    #[error("another attachment has taken the disk over (generation {})", .by.generation.0)]
    Fenced {
        /// The newer generation.
        by: Fence,
    },
    /// More operations are queued than the register keeps.
    #[error("too many operations wait for the same sectors")]
    QueueFull,
}
