//! The client library: a disk over sessions with the processes of a cluster.
//!
//! [`Client::attach`] gives an [`Attachment`]: reads, writes, discards and flushes of sectors, many
//! at a time. When its process dies it goes on through another within two seconds, and repeats what
//! was unanswered only where `ATTACHMENTS.md` allows it. One that joined others ends instead: they go
//! on for it.
//!
//! ```no_run
//! use atdd::client::{AttachOptions, Client, ClientError};
//! use atdd::config::ClusterFile;
//! use atdd::domain::SECTOR_SIZE;
//! use bytes::Bytes;
//!
//! # async fn main_as_in_a_program() -> Result<(), Box<dyn std::error::Error>> {
//! let cluster = ClusterFile::load("/etc/atdd/cluster.toml".as_ref())?.cluster()?;
//! let disk = match Client::new(cluster).attach(AttachOptions::exclusive()).await {
//!     Ok(disk) => disk,
//!     Err(ClientError::Held(holder)) => return Err(format!("in use by {}", holder.client).into()),
//!     Err(error) => return Err(error.into()),
//! };
//! disk.write(8, Bytes::from(vec![1; 2 * SECTOR_SIZE])).await?;
//! for part in disk.read(8, 2).await? {
//!     println!("{part:?}");
//! }
//! disk.detach().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Inside
//!
//! ```text
//!  Gateway       an NBD export; all its clients share an attachment
//!      |
//!  Attachment    cuts ranges into requests (work), waits for room, keeps deadlines
//!      |  commands          ^  answers, and how the attachment stands (ticket)
//!  driver        a task: one session after another; heartbeats, pauses, giving back
//!      |    \__ failover (pure): what is unanswered, what is repeated, what waits (overlaps)
//!      |    \__ ring (pure): which process is tried next
//!  network       net's ClientConnection, or in tests a cluster that is played
//! ```
//!
//! # What never happens
//!
//! - A change is never sent twice but under a newer generation that this very owner opened, and
//!   never after a later change of its sectors was sent. Where that cannot be, its outcome is
//!   unknown, and it is never sent again. A caller that does not wait for it any more changes
//!   nothing of that: it is still sent, and sent again.
//! - Two changes of one sector are never under way at once, whatever their callers do.
//! - Memory for what is pending is bounded; whoever asks for more waits.
//! - Without a majority nothing fails, unless a deadline was set: it waits, and the log says so.

mod attachment;
mod cluster;
mod driver;
mod error;
mod failover;
mod gateway;
mod network;
mod options;
mod overlaps;
mod ring;
mod status;
#[cfg(test)]
mod tests;
mod ticket;
mod utc;
mod waiting;
mod work;

pub use attachment::Attachment;
pub use cluster::Client;
pub use error::ClientError;
pub use gateway::{Gateway, GatewayDevice};
pub use options::AttachOptions;
pub use status::{StatusError, attachments, release, status};
pub use utc::Utc;
