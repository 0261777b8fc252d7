//! The messages of sessions of clients.
//!
//! The connector asks, and the listener answers in whatever order answers get ready; both say by a
//! heartbeat that they live when there is nothing else to say. What goes before an attachment
//! (status, attachments, release) needs none.
//!
//! Questions of clients
//!
//! | message | size | field |
//! |---|---|---|
//! | status?, attachments?, detach | 0 | |
//! | release | 16 | owner |
//! | attach | 2 | volume, 0 |
//! | | 16 | owner |
//! | | 1, 0 or 32 | kind, and its join key |
//! | | 1 | `01` to take over, else `00` |
//! | | 1, 0 or 8 | `01` and the generation that is continued, or `00` |
//! | read, discard | 8 | number |
//! | | 8, 4 | first sector's index, count |
//! | write | 8 | number |
//! | | 8 | first sector's index |
//! | | rest | whole sectors |
//! | flush | 8 | number |
//!
//! Answers to clients
//!
//! | message | size | field |
//! |---|---|---|
//! | status, attachments | rest | JSON of at most [`STATUS_BYTES_MAX`] bytes |
//! | released | 1 | `01` if there was an attachment, else `00` |
//! | attached | 38 | fence |
//! | | 8 | sectors of the volume |
//! | | 4, 8 | credit: requests, bytes |
//! | attach refused | 1 | reason |
//! | | rest | `00` held: a holder; `01` fenced: 8 generation; `02` elsewhere: 1 rank; nothing for `03` contended and `04` shutting down |
//! | detached | 0 | |
//! | values | 8 | number |
//! | | 2 | parts, and that many of them: 1 kind (`00` zeroes, `01` data that follow), 4 count, and 0 or count * 4096 data |
//! | done | 8 | number |
//! | failed | 8 | number |
//! | | 1 | reason |
//! | | rest | `01` past the end: 8 sectors of the volume; `03` fenced: 38 fence; nothing for `00` unreadable, `02` read-only, `04` timed out and `05` shutting down |
//! | fenced | 38 | fence |
//!
//! Kinds of attachments and holders are those of `holder`. A holder that a client is told of goes
//! without its join key, which would let that client join.

mod answer;
mod question;

use bytes::Bytes;

use super::peer::Credit;
use crate::domain::{Attach, AttachRefusal, Fence, OperationError, OwnerId, SECTOR_SIZE_U64};

/// The most bytes of JSON that a status, or a list of attachments, has.
pub const STATUS_BYTES_MAX: usize = 64 << 10;

/// The most sectors of one read or write.
pub const DATA_SECTORS_MAX: u32 = 256;

/// The most sectors of one discard.
pub const DISCARD_SECTORS_MAX: u32 = 1 << 16;

/// A client's number for one of its requests; no two of a session are the same.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestNumber(pub u64);

/// What a client asks in a session. At most one attachment is bound to a session, and ends with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionQuestion {
    /// Says only that the client lives.
    Heartbeat,
    /// How the process stands.
    Status,
    /// Which attachments the process runs.
    Attachments,
    /// End the attachments of this owner, as if fenced.
    Release {
        /// Whose.
        owner: OwnerId,
    },
    /// Attach; before anything below. Answered by `Attached` or `AttachRefused`, when there is a
    /// majority.
    Attach(Attach),
    /// Give the attachment back. Answered by `Detached`, after everything that was asked before.
    Detach,
    /// The values of sectors; at most 256 of them. Answered by `Values` or `Failed`.
    Read {
        /// Named by the answer.
        number: RequestNumber,
        /// The first sector's index.
        first: u64,
        /// How many sectors.
        count: u32,
    },
    /// New values for sectors; at most 256 of them, and whole ones. Answered by `Done` or `Failed`.
    Write {
        /// Named by the answer.
        number: RequestNumber,
        /// The first sector's index.
        first: u64,
        /// The sectors' bytes, one after another.
        data: Bytes,
    },
    /// Zeroes that take no space; at most 65,536 sectors. Answered by `Done` or `Failed`.
    Discard {
        /// Named by the answer.
        number: RequestNumber,
        /// The first sector's index.
        first: u64,
        /// How many sectors.
        count: u32,
    },
    /// Answered by `Done` once everything that was answered before is on stable storage.
    Flush {
        /// Named by the answer.
        number: RequestNumber,
    },
}

/// What a client is answered in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionAnswer {
    /// Says only that the process lives.
    Heartbeat,
    /// How the process stands, as JSON.
    Status(Bytes),
    /// The attachments that the process runs, as JSON.
    Attachments(Bytes),
    /// Whether there was an attachment to be released.
    Released(bool),
    /// The session is attached.
    Attached {
        /// The generation that it runs under.
        fence: Fence,
        /// How many sectors the volume has.
        sectors: u64,
        /// What the client may have under way in the session: questions without their answers,
        /// other than heartbeats and the detach, and what they cost by
        /// [`SessionQuestion::cost`]. More is a fault; but a question that costs more than all
        /// the credit may be asked when nothing else is under way.
        credit: Credit,
    },
    /// The session is not attached; it may try again.
    AttachRefused(AttachRefusal),
    /// The attachment is given back.
    Detached,
    /// The values that a read asked for: its sectors in order, all of them.
    Values {
        /// Of the request.
        number: RequestNumber,
        /// One after another.
        values: Vec<SectorValues>,
    },
    /// A write, discard or flush is done.
    Done {
        /// Of the request.
        number: RequestNumber,
    },
    /// A request failed.
    Failed {
        /// Of the request.
        number: RequestNumber,
        /// Why.
        error: OperationError,
    },
    /// The attachment has ended by a newer generation: what was not answered is of unknown outcome,
    /// and nothing more is answered. The session may not attach again.
    Fenced {
        /// The newer generation, and whose it is; the attachment's own one if it was released.
        by: Fence,
    },
}

/// A part of what was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SectorValues {
    /// So many sectors of zeroes.
    Zeroes(u32),
    /// Whole sectors.
    Data(Bytes),
}

impl SessionQuestion {
    /// Its number, if its answer names one.
    pub fn number(&self) -> Option<RequestNumber> {
        match self {
            Self::Read { number, .. }
            | Self::Write { number, .. }
            | Self::Discard { number, .. }
            | Self::Flush { number } => Some(*number),
            Self::Heartbeat
            | Self::Status
            | Self::Attachments
            | Self::Release { .. }
            | Self::Attach(_)
            | Self::Detach => None,
        }
    }

    /// What the question counts against a credit's bytes: the data that it carries, or may be
    /// answered with. Both ends reckon with it.
    pub fn cost(&self) -> u64 {
        const JSON_BYTES: u64 = STATUS_BYTES_MAX as u64;
        match self {
            Self::Status | Self::Attachments => JSON_BYTES,
            Self::Read { count, .. } => u64::from(*count) * SECTOR_SIZE_U64,
            Self::Write { data, .. } => u64::try_from(data.len()).expect("memory is below 2^64"),
            Self::Heartbeat
            | Self::Release { .. }
            | Self::Attach(_)
            | Self::Detach
            | Self::Discard { .. }
            | Self::Flush { .. } => 0,
        }
    }
}

#[cfg(test)]
mod tests;
