//! The messages of the register: questions to a process, and its answers.
//!
//! | here | in the classic algorithm |
//! |---|---|
//! | [`Question::Stamps`], [`Question::Values`] | `READ_PROC` |
//! | [`Answer::Held`] | `VALUE` |
//! | [`Question::Store`] | `WRITE_PROC` |
//! | [`Answer::Stored`] | `ACK` |

use super::{Extent, Fence, Generation, Held, Holder, Incarnation, Rank, Runs, SectorRange, Vote};

/// An operation of a register, unique for ever: no incarnation uses a sequence number twice.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperationId {
    /// The process that runs the operation.
    pub coordinator: Rank,
    /// The coordinator's incarnation.
    pub incarnation: Incarnation,
    /// The worker of the coordinator that runs it, or [`ATTACH_SHARD`]; replies find their way
    /// back by it.
    pub shard: u8,
    /// The operation's number among all of that worker and incarnation.
    pub sequence: u64,
}

/// The shard of an attach's questions, which belongs to no worker.
pub const ATTACH_SHARD: u8 = u8::MAX;

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
    /// The fence of the attachment that the operation runs under. Whoever is asked under an older
    /// fence than the one that it has accepted refuses.
    pub authority: Fence,
    /// What is asked.
    pub question: Question,
}

/// The two kinds of broadcast of the classic algorithm, the first split by what is needed back; and
/// those of an attach.
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
    /// What is your fence, and who holds the volume? The first round of an attach; its authority
    /// does not count.
    Fence,
    /// Take the authority of this request as your fence, and say when it is stable. The second
    /// round of an attach.
    Open {
        /// Only if no generation after this one is another owner's.
        continues: Option<Generation>,
    },
}

impl Question {
    /// The lowest range that covers every sector asked about; `None` where it is about the volume.
    ///
    /// # Panics
    /// When a store has no extent, or extents of two volumes.
    pub fn range(&self) -> Option<SectorRange> {
        match self {
            Self::Fence | Self::Open { .. } => None,
            Self::Stamps { range } | Self::Values { range, .. } => Some(*range),
            Self::Store { extents } => {
                let first = extents.iter().map(|extent| extent.range.first()).min();
                let last = extents.iter().map(|extent| extent.range.last()).max();
                let (first, last) = first.zip(last).expect("a store has an extent");
                let count = u32::try_from(last.to_bits() - first.to_bits() + 1);
                let range =
                    SectorRange::new(first, count.expect("extents lie within one operation"));
                Some(range.expect("extents lie within one volume"))
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

/// The two kinds of answer of the classic algorithm, and those that attachments add.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Question::Stamps`] (without values) and [`Question::Values`]: from stable state only.
    Held(Held),
    /// To [`Question::Store`]: for every sector, this process holds a value on stable storage that
    /// is at least as new.
    Stored,
    /// To [`Question::Fence`]: once the fence is stable.
    Fence {
        /// The newest generation that is known here.
        fence: Fence,
        /// Who holds the volume, by what this process and those that it is connected to say.
        holders: Vec<Holder>,
    },
    /// To [`Question::Open`]: the fence is stable, and so is every store that was accepted before
    /// it.
    Opened,
    /// To any question but [`Question::Fence`]: its authority is older than this fence, or it asks
    /// to open a generation that is another's. Nothing is done about it from now on; a store that
    /// was under way when the fence came may have taken effect.
    Refused {
        /// The newest generation that is known here.
        fence: Fence,
    },
}
