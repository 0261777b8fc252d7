//! What the network needs of the process that it serves.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

use super::PeerSession;
use crate::domain::{Content, Incarnation, Rank, Reply, Request, SectorAddress};
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
    /// This request fails, others may not: it stays without an answer, and the log says why.
    #[error("the request stays without an answer")]
    Unanswered(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The process is going away: the connection is closed, and the client turns to another.
    #[error("the process is going away")]
    Closing,
}
