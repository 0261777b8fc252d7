//! The client library: a disk over sessions with the processes of a cluster.
//!
//! [`Client::attach`] gives an [`Attachment`]: reads, writes, discards and flushes of sectors, many
//! at a time. When its process dies it goes on through another within two seconds, and repeats what
//! was unanswered only where `ATTACHMENTS.md` allows it.
// The client's helper completes this, with an example that is a test.

mod attachment;
mod client;
mod driver;
mod error;
mod failover;
mod network;
mod options;
mod overlaps;
mod ring;
mod status;
mod ticket;
mod waiting;
mod work;

pub use attachment::Attachment;
pub use client::Client;
pub use error::ClientError;
pub use options::AttachOptions;
pub use status::{StatusError, status};
