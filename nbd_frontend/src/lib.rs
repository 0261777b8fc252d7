//! An NBD server over any device of 4096-byte sectors.
//!
//! Implement [`SectorDevice`], and [`Server`] serves it to the Linux kernel, qemu, libnbd and
//! everything else that speaks NBD, on TCP or on a unix socket. The server knows NBD and nothing of
//! what is behind the device.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use nbd_frontend::memory::MemoryDevice;
//! use nbd_frontend::{Address, AlwaysOpen, Options, Server};
//!
//! # async fn main_as_in_examples_memory() -> Result<(), Box<dyn std::error::Error>> {
//! let device = Arc::new(MemoryDevice::new(1 << 18)); // a gibibyte
//! let export = Arc::new(AlwaysOpen::new(device));
//! let address: Address = "127.0.0.1:10809".parse()?;
//! let options = Options { description: "a disk in memory".into(), ..Options::default() };
//! let server = Server::bind(&address, options, export).await?;
//! println!("serving {}", server.uri()); // nbdinfo nbd://127.0.0.1:10809
//! server.run(async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await;
//! # Ok(())
//! # }
//! ```
//!
//! # From a request to the device
//!
//! ```text
//!  socket     bytes <-> connections: TCP, or a unix socket whose stale file is replaced
//!    |
//!  server     seats (who may stay), one task per client, shutdown
//!    |
//!  handshake  options until an export is chosen            \
//!    |                                                       proto: the bytes
//!  connection reads requests, runs them, writes replies    /
//!    |    \__ incoming (requests from bytes, within the memory budget) -> command (checked)
//!    |    \__ outgoing (replies to bytes, gathered)
//!  export     a device under a name
//!    |
//!  byte_device  any offset and length, over whole sectors; sector_locks keep changes apart
//!    |
//!  device     SectorDevice: yours
//! ```
//!
//! # What it does
//!
//! Fixed newstyle handshake with EXPORT_NAME, LIST, INFO, GO, ABORT and STRUCTURED_REPLY; simple
//! and structured replies, holes as holes; READ, WRITE, FLUSH, TRIM, WRITE_ZEROES, CACHE and DISC
//! with FUA, NO_HOLE, FAST_ZERO and DF; many clients of one device at once (CAN_MULTI_CONN).
//! Requests may begin anywhere and have any length: the sizes advertised (at least 1, best 4096, at
//! most 32 MiB) are recommendations. Requests of one client run side by side and are answered as
//! they get done.
//!
//! # What never happens
//!
//! - A byte that a client did not write is never changed by a write next to it, and no
//!   acknowledged write is lost to one, whatever other clients *of this server* do at the same
//!   time. Two servers over one shared device do not know of one another: a write of less than a
//!   sector through one is not atomic against writes of the same sector through the other.
//! - A request that arrived is never left without an answer as long as the connection is there:
//!   only the device may take its time. At shutdown, requests that were not yet taken get no answer
//!   but the end of the connection, upon which clients with another connection go on there; an
//!   error would reach the filesystem.
//! - Memory is never given for what a header claims, only within the budget of all connections.
//! - A request that was taken is never abandoned half-way because its client left.
//!
//! # Why not the crate `nbd`
//!
//! `nbd` 0.3.1 has a server, which is no use here: its LIST always answers one fixed name, an
//! unknown option drops the connection, and there is no GO or INFO, no FUA, no second connection,
//! no structured reply, no TLS; its constants, but the default port, are private. It serves as an
//! independent client in the tests (EXPORT_NAME without NO_ZEROES, a path that few clients still
//! take), and [`DEFAULT_PORT`] is asserted equal to its constant.

#![allow(
    clippy::doc_markdown,
    reason = "the protocol's names stand as in its specification"
)]

mod address;
mod budget;
mod byte_device;
mod command;
mod connection;
mod device;
mod ending;
mod export;
mod handshake;
mod incoming;
pub mod memory;
mod outgoing;
mod proto;
mod read_ahead;
mod seats;
mod sector_locks;
mod server;
mod socket;

pub use address::{Address, AddressError, DEFAULT_PORT};
pub use device::{
    AlwaysOpen, DeviceError, Piece, SECTOR_SIZE, SectorDevice, SectorExport, Unavailable,
};
pub use server::{Options, Server, ServerError};
pub use socket::ListenError;
