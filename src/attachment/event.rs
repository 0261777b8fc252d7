//! What goes into a keeper and what comes out of it.

use crate::domain::{
    Attach, AttachRefusal, Fence, Generation, Holder, OwnerId, Rank, Reply, Request,
};

/// Names an attach of a client of this process, from [`Input::Attach`] to its end.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttachmentId(pub u64);

/// What can happen to a keeper.
#[derive(Clone, Debug)]
pub enum Input {
    /// A client of this process wants to attach.
    Attach {
        /// Given back with the outcome; never used before.
        id: AttachmentId,
        /// What it wants.
        attach: Attach,
        /// Where the client is, for people.
        client: String,
        /// Seconds since 1970, for people.
        now: u64,
    },
    /// The client has detached or gone: its attach is dropped wherever it got to, and so is its
    /// attachment. Operations that are under way for it go on to their end.
    Detach {
        /// Which one.
        id: AttachmentId,
    },
    /// An operator wants the attachments of this owner ended, as if fenced: those of all gateways, if
    /// it is a device's.
    Release {
        /// Whose.
        owner: OwnerId,
    },
    /// An attach that waits for the answer of a process that others say is alive has waited long
    /// enough, and decides without it.
    StopWaiting {
        /// Which one.
        id: AttachmentId,
    },
    /// Another process asks: [`Question::Fence`](crate::domain::Question::Fence) or
    /// [`Question::Open`](crate::domain::Question::Open).
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
    /// A connection to this process is there, new or again: what it is owed is sent once more.
    PeerConnected {
        /// Which process.
        rank: Rank,
    },
    /// There is no connection to this process; what it said of its holders is forgotten.
    PeerDisconnected {
        /// Which process.
        rank: Rank,
    },
    /// What a connected process says of the attachments that it runs.
    PeerHolders {
        /// Which process.
        rank: Rank,
        /// They replace what it said before.
        holders: Vec<Holder>,
    },
    /// A register has met this newer fence in what a peer asked or refused; or one of the accepted
    /// number in what a peer asked, which shows that it is the one that is open.
    Raise {
        /// The fence.
        fence: Fence,
    },
    /// A register has nothing unstable left of the generations before the one that was raised to.
    Drained {
        /// Which register.
        shard: u8,
        /// The generation.
        generation: Generation,
    },
    /// An [`Output::Record`] is durable.
    Recorded {
        /// The fence.
        fence: Fence,
    },
}

/// What a keeper wants done.
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
    /// Tell every register of the process: `Input::Raise`.
    Raise {
        /// The fence that is accepted from now on.
        fence: Fence,
    },
    /// Make the fence durable in the process's store.
    Record {
        /// Named by [`Input::Recorded`].
        fence: Fence,
    },
    /// Tell every register of the process: `Input::Stable`.
    Stable {
        /// The fence.
        fence: Fence,
    },
    /// The client is attached: its operations run under this fence, in this process alone if it is
    /// exclusive.
    Granted {
        /// Which one.
        id: AttachmentId,
        /// The authority of its operations.
        fence: Fence,
    },
    /// The client is not attached.
    Refused {
        /// Which one.
        id: AttachmentId,
        /// Why.
        refusal: AttachRefusal,
    },
    /// A granted attachment has ended, by a newer generation or by [`Input::Release`]: the registers
    /// drop its operations, or have. Nothing more is heard of it.
    Fenced {
        /// Which one.
        id: AttachmentId,
        /// The newer fence; its own if it was released.
        by: Fence,
    },
    /// What peers are to be told of the attachments that this process runs.
    Holders {
        /// All of them, oldest first.
        holders: Vec<Holder>,
    },
}
