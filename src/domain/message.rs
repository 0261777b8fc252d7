//! The messages of the register: questions to a process, and its answers.
//!
//! | here | in the classic algorithm |
//! |---|---|
//! | [`Question::Stamps`], [`Question::Values`] | `READ_PROC` |
//! | [`Answer::Held`] | `VALUE` |
//! | [`Question::Store`] | `WRITE_PROC` |
//! | [`Answer::Stored`] | `ACK` |

use super::{Extent, Generation, Held, Incarnation, Rank, Runs, SectorRange, Vote};

/// An operation of a register, unique for ever: no incarnation uses a sequence number twice.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId {
    /// The process that runs the operation.
    pub coordinator: Rank,
    /// The coordinator's incarnation.
    pub incarnation: Incarnation,
    /// The worker of the coordinator that runs it; replies find their way back by it.
    pub shard: u8,
    /// The operation's number among all of that worker and incarnation.
    pub sequence: u64,
}

/// One broadcast of an operation: a reply counts only for the round that is under way.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    /// The operation that asks.
    pub operation: OperationId,
    /// Which of its broadcasts, from 0 on.
    pub round: u8,
}

/// What a coordinator asks of another process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Named by the reply.
    pub id: RequestId,
    /// The fence of the attachment that the operation runs under; 0 while there is none.
    pub authority: Generation,
    /// What is asked.
    pub question: Question,
}

/// The two kinds of broadcast of the classic algorithm, the first split by what is needed back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// Which stamps do you hold? The first round of a write, which needs no values.
    Stamps {
        /// Of these sectors.
        range: SectorRange,
    },
    /// Which stamps do you hold, and which values newer than mine? The first round of a read.
    Values {
        /// Of these sectors.
        range: SectorRange,
        /// What the asker holds, a vote for each sector of the range; a lost one asks for any
        /// value.
        held: Runs<Vote>,
    },
    /// Store these values where their stamps are newer than yours, and say when what you hold is
    /// stable and at least as new. The second round of a write, and the write-back of a read.
    Store {
        /// The values; they do not overlap.
        extents: Vec<Extent>,
    },
}

impl Question {
    /// The lowest range that covers every sector asked about.
    ///
    /// # Panics
    /// When a store has no extent, or extents of two volumes.
    pub fn range(&self) -> SectorRange {
        match self {
            Self::Stamps { range } | Self::Values { range, .. } => *range,
            Self::Store { extents } => {
                let first = extents.iter().map(|extent| extent.range.first()).min();
                let last = extents.iter().map(|extent| extent.range.last()).max();
                let (first, last) = first.zip(last).expect("a store has an extent");
                let count = u32::try_from(last.to_bits() - first.to_bits() + 1);
                SectorRange::new(first, count.expect("extents lie within one operation"))
                    .expect("extents lie within one volume")
            }
        }
    }
}

/// What a process answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The request that is answered.
    pub id: RequestId,
    /// The answer; its variant fits the question.
    pub answer: Answer,
}

/// The two kinds of answer of the classic algorithm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Question::Stamps`] (without values) and [`Question::Values`]: from stable state only.
    Held(Held),
    /// To [`Question::Store`]: for every sector, this process holds a value on stable storage that
    /// is at least as new.
    Stored,
}
