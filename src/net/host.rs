//! What the network needs of the process that it serves.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

use super::PeerSession;
use crate::domain::{
    Attach, AttachRefusal, Content, Extent, Fence, Incarnation, OperationError, OwnerId, Rank,
    Reply, Request, SectorAddress,
};
use crate::wire::Introduction;

/// The links' side of the process: what comes back from the peers that it asks.
///
/// Called on tasks of the runtime, in the order of events of each rank; must not block.
pub trait PeerEvents: Send + Sync + 'static {
    /// The link is up: what unfinished operations owe to this peer is to be sent (again), now.
    fn connected(&self, peer: Rank, incarnation: Incarnation, introduction: Introduction);

    /// The peer has news of itself, such as its birth.
    fn introduced(&self, peer: Rank, introduction: Introduction);

    /// The link is down, and everything that was queued or under way on it is dropped.
    fn disconnected(&self, peer: Rank);

    /// Answers to what was asked of this peer; each fits its request.
    fn replies(&self, from: Rank, replies: Vec<Reply>);
}

/// The listener's side of the process: what peers and clients ask.
pub trait Host: Send + Sync + 'static {
    /// A client's attachment, given back when it is dropped.
    type Attached: Attached;

    /// A peer asks. Each request is answered once by [`PeerSession::reply`], or given up by
    /// [`PeerSession::decline`], at any time and from any thread. There are never more requests
    /// under way than the credit of [`Settings`](super::Settings), so their queue is bounded by it.
    ///
    /// Must not block.
    fn requests(&self, from: &Arc<PeerSession>, requests: Vec<Request>);

    /// A peer has opened a session to this process, or has news of itself. Must not block.
    fn introduced(&self, from: &Arc<PeerSession>, introduction: Introduction);

    /// What `atdd status` shows of this process: JSON of at most
    /// [`STATUS_BYTES_MAX`](crate::wire::STATUS_BYTES_MAX).
    fn status(&self) -> impl Future<Output = Bytes> + Send;

    /// Attaches a client. Dropped when its session ends first, and with it the attach.
    fn attach(
        &self,
        attach: Attach,
        client: String,
    ) -> impl Future<Output = Result<Self::Attached, AttachRefusal>> + Send;

    /// What `atdd attachments` shows of this process: JSON of at most
    /// [`STATUS_BYTES_MAX`](crate::wire::STATUS_BYTES_MAX).
    fn attachments(&self) -> impl Future<Output = Bytes> + Send;

    /// Ends the attachments of this owner, as if fenced; whether there was one.
    fn release(&self, owner: OwnerId) -> impl Future<Output = bool> + Send;
}

/// What an attached client asks. Operations run side by side; those that are dropped go on to
/// their end, but nobody hears of it.
pub trait Attached: Send + Sync + 'static {
    /// The generation that operations run under.
    fn fence(&self) -> Fence;

    /// How many sectors the volume has.
    fn sectors(&self) -> u64;

    /// The values of `count` sectors from `first` on, ascending and without a gap.
    fn read(
        &self,
        first: u64,
        count: u32,
    ) -> impl Future<Output = Result<Vec<Extent>, OperationError>> + Send;

    /// Writes whole sectors from `first` on, to stable storage.
    fn write(
        &self,
        first: u64,
        data: Bytes,
    ) -> impl Future<Output = Result<(), OperationError>> + Send;

    /// Makes sectors read as zeroes and frees their space.
    fn discard(
        &self,
        first: u64,
        count: u32,
    ) -> impl Future<Output = Result<(), OperationError>> + Send;

    /// Returns once a newer generation has ended the attachment; its operations fail by then.
    fn fenced(&self) -> impl Future<Output = Fence> + Send;
}

/// The disk that classic clients read and write, one sector at a time.
pub trait Disk: Send + Sync + 'static {
    /// How many sectors there are now.
    fn sectors(&self) -> u64;

    /// What the sector holds. Cancelled when the client's connection ends.
    fn read(
        &self,
        sector: SectorAddress,
    ) -> impl Future<Output = Result<Content, DiskError>> + Send;

    /// Makes the sector hold these bytes, exactly a sector of them, on stable storage. When the
    /// client's connection ends it is dropped, but the write may still happen.
    fn write(
        &self,
        sector: SectorAddress,
        data: Bytes,
    ) -> impl Future<Output = Result<(), DiskError>> + Send;
}

/// Why a classic request is not answered: no status of the protocol fits.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// Somebody holds the volume for himself: the connection is closed, and the log says why.
    #[error("{0}")]
    Held(AttachRefusal),
    /// This request fails, others may not: it stays without an answer, and the log says why.
    #[error("the request stays without an answer")]
    Unanswered(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The process is going away: the connection is closed, and the client turns to another.
    #[error("the process is going away")]
    Closing,
}

/// The attachment of a host that grants none.
#[derive(Debug)]
pub enum NeverAttached {}

impl Attached for NeverAttached {
    fn fence(&self) -> Fence {
        match *self {}
    }

    fn sectors(&self) -> u64 {
        match *self {}
    }

    async fn read(&self, _first: u64, _count: u32) -> Result<Vec<Extent>, OperationError> {
        match *self {}
    }

    async fn write(&self, _first: u64, _data: Bytes) -> Result<(), OperationError> {
        match *self {}
    }

    async fn discard(&self, _first: u64, _count: u32) -> Result<(), OperationError> {
        match *self {}
    }

    async fn fenced(&self) -> Fence {
        match *self {}
    }
}
