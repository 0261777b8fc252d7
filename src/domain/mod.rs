//! The words that every layer shares: addresses, stamps, extents and the messages of the register.
//!
//! Nothing here does I/O or knows a format, but for the fixed encodings of [`Stamp`], [`Fence`]
//! and [`SectorAddress`], which the wire and the disk have in common. `wire`, `register` and `store`
//! speak to one another only in these types.

mod address;
mod attachment;
mod birth;
mod cluster;
mod extent;
mod fence;
mod message;
mod runs;
mod stamp;
mod status;

pub use address::{INDEX_LIMIT, SECTOR_SIZE, SECTOR_SIZE_U64, SectorAddress, SectorRange, Volume};
pub use attachment::{
    Attach, AttachKind, AttachRefusal, AttachmentReport, AttachmentsReport, CLIENT_NAME_BYTES_MAX,
    Holder, JoinKey, OperationError, ReportedKind,
};
pub use birth::{Birth, StoreId};
pub use cluster::{ClusterId, ClusterIdError};
pub use extent::{Content, Extent, Held, Vote};
pub use fence::{FENCE_BYTES, Fence, Mode, OwnerId, OwnerIdError, Tag};
pub use message::{ATTACH_SHARD, Answer, OperationId, Question, Reply, Request, RequestId};
pub use runs::Runs;
pub use stamp::{Generation, Incarnation, Rank, STAMP_BYTES, Stamp, TIMESTAMP_MAX};
pub use status::{PeerStatus, ProcessState, StatusReport};
