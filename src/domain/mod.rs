//! The words that every layer shares: addresses, stamps, extents and the messages of the register.
//!
//! Nothing here does I/O or knows a format, but for the fixed encodings of [`Stamp`] and
//! [`SectorAddress`], which the wire and the disk have in common. `wire`, `register` and `store`
//! speak to one another only in these types.

mod address;
mod birth;
mod cluster;
mod extent;
mod message;
mod runs;
mod stamp;
mod status;

pub use address::{INDEX_LIMIT, SECTOR_SIZE, SECTOR_SIZE_U64, SectorAddress, SectorRange, Volume};
pub use birth::{Birth, StoreId};
pub use cluster::{ClusterId, ClusterIdError};
pub use extent::{Content, Extent, Held, Vote};
pub use message::{Answer, OperationId, Question, Reply, Request, RequestId};
pub use runs::Runs;
pub use stamp::{Generation, Incarnation, Rank, STAMP_BYTES, Stamp};
pub use status::{PeerStatus, ProcessState, StatusReport};
