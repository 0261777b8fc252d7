//! What the inboxes of the workers and of the keeper carry.

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::attached_clients::Granted;
use crate::attachment::AttachmentId;
use crate::domain::{
    Attach, AttachRefusal, Fence, Generation, Holder, OwnerId, Rank, Reply, Request,
};
use crate::register::{Command, Outcome, RegisterError};
use crate::store::Completion;

/// What a worker is given to do.
#[derive(Debug)]
pub(crate) enum Item {
    /// A client's operation, admitted.
    Command {
        /// The fence of the attachment that wants it.
        authority: Fence,
        /// What is wanted.
        command: Command,
        /// Told the outcome; dropped when the process stops first.
        done: oneshot::Sender<Result<Outcome, RegisterError>>,
        /// Given back when the operation is complete.
        permit: OwnedSemaphorePermit,
    },
    /// Another process asks.
    Requests {
        /// Who.
        from: Rank,
        /// What it asks.
        requests: Vec<Request>,
    },
    /// Another process answers.
    Replies {
        /// Who.
        from: Rank,
        /// With what.
        replies: Vec<Reply>,
    },
    /// The store has done something.
    Completions(Vec<Completion>),
    /// The link to this process is up, new or again.
    PeerConnected(Rank),
    /// It is down.
    PeerDisconnected(Rank),
    /// The process has accepted this fence.
    Raise(Fence),
    /// It is stable.
    Stable(Fence),
}

/// What the keeper's task is given to do.
#[derive(Debug)]
pub(crate) enum KeeperItem {
    /// A client of this process wants to attach.
    Attach {
        /// Never used before.
        id: AttachmentId,
        /// What it wants.
        attach: Attach,
        /// Where it is, for people.
        client: String,
        /// Told the outcome; dropped when the process stops first.
        answer: oneshot::Sender<Result<Granted, AttachRefusal>>,
    },
    /// It has gone, attached or not.
    Detach(AttachmentId),
    /// A client without an attachment wants to know what it runs under.
    Confirm {
        /// Told the shared generation that is open.
        answer: oneshot::Sender<Result<Fence, AttachRefusal>>,
    },
    /// An operator ends attachments.
    Release {
        /// Whose.
        owner: OwnerId,
        /// Told whether there was one.
        answer: oneshot::Sender<bool>,
    },
    /// Another process asks.
    Requests {
        /// Who.
        from: Rank,
        /// What it asks.
        requests: Vec<Request>,
    },
    /// Another process answers.
    Replies {
        /// Who.
        from: Rank,
        /// With what.
        replies: Vec<Reply>,
    },
    /// The link to this process is up, new or again.
    PeerConnected(Rank),
    /// It is down.
    PeerDisconnected(Rank),
    /// What a connected process says of the attachments that it runs.
    PeerHolders(Rank, Vec<Holder>),
    /// A register has met a newer fence.
    Raise(Fence),
    /// A register has nothing unstable left of what was before this generation.
    Drained {
        /// Which register.
        shard: u8,
        /// Before which generation.
        generation: Generation,
    },
}
