//! Attachments: a client bound to a volume (`ATTACHMENTS.md`).

use std::fmt;

use super::{Generation, OwnerId, Rank};

/// What tells the gateways of one device from everyone else: derived from the attachment's name
/// and secret, so that neither travels.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JoinKey(pub [u8; 32]);

impl fmt::Debug for JoinKey {
    /// It is as good as the secret, and no log needs it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinKey")
    }
}

/// How a client wants to use the volume.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum AttachKind {
    /// Alone.
    Exclusive {
        /// Or as one of the gateways that know this key: the first of them attaches exclusively,
        /// the others join it.
        join: Option<JoinKey>,
    },
    /// Beside other hosts, which coordinate themselves.
    Shared,
    /// Without ever writing: fences nobody, and holds nothing.
    ReadOnly,
}

/// What a client asks for when it attaches.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Attach {
    /// Whose attachment it is.
    pub owner: OwnerId,
    /// How it wants to use the volume.
    pub kind: AttachKind,
    /// Whether to fence whoever holds the volume, instead of being refused.
    pub take_over: bool,
    /// The generation that this owner was attached under before: it goes on after a failover, if
    /// no other owner's generation came in between. Only then may it repeat what was unanswered.
    pub continues: Option<Generation>,
}

/// An attachment as the process that runs its operations reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub process: Rank,
    /// Whose it is.
    pub owner: OwnerId,
    /// How it uses the volume.
    pub kind: AttachKind,
    /// Under which generation.
    pub generation: Generation,
    /// Where the client is, for people: an address, or what the process calls it.
    pub client: String,
    /// When it was granted, in seconds since 1970 by the process's clock; for people only.
    pub since: u64,
}

/// The most bytes of [`Holder::client`].
pub const CLIENT_NAME_BYTES_MAX: usize = 64;

/// Why an attach was not granted. A missing majority is no reason: it is waited for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachRefusal {
    /// Somebody holds the volume. Attaching again with `take_over` fences them.
    #[error(
        "the disk is held by {} through process {}",
        .0.client, .0.process
    )]
    Held(Box<Holder>),
    /// Another owner's generation came in between: what was unanswered is of unknown outcome and
    /// must not be repeated. Final for this attachment.
    #[error("another attachment has taken the disk over (generation {})", .by.0)]
    Fenced {
        /// The generation that came in between.
        by: Generation,
    },
    /// The attachment to be joined, or the disk's only writer, is at this process: attach there.
    #[error("the attachment is served by process {process}")]
    Elsewhere {
        /// Which process.
        process: Rank,
    },
    /// Another attach was under way at the same time. Try again after a random pause.
    #[error("another attach was under way at the same time")]
    Contended,
    /// The process is going away: try another.
    #[error("the process is shutting down")]
    ShuttingDown,
}

/// Why an operation of an attachment failed. A missing majority is no reason: it is waited for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// So many copies are damaged that no majority of intact ones is left.
    #[error("no majority of intact copies is left of a sector")]
    Unreadable,
    /// It reaches past the end of the volume.
    #[error("it reaches past the end of the disk of {sectors} sectors")]
    PastEnd {
        /// How many sectors the volume has.
        sectors: u64,
    },
    /// A change, and the attachment is read-only.
    #[error("the disk is attached read-only")]
    ReadOnly,
    /// A newer generation was opened: the outcome is unknown.
    #[error("another attachment has taken the disk over (generation {})", .by.0)]
    Fenced {
        /// The newer generation.
        by: Generation,
    },
    /// The operator's deadline of this process passed; what it was about may still take effect.
    #[error("no majority of processes answered in time")]
    TimedOut,
    /// The process is going away; the outcome is unknown.
    #[error("the process is shutting down")]
    ShuttingDown,
}
