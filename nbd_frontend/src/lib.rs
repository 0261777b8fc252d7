//! An NBD server over any device of 4096-byte sectors.
//!
//! Implement [`SectorDevice`], and [`Server`] serves it to the Linux kernel, qemu, libnbd and
//! everything else that speaks NBD, on TCP or on a unix socket. The server knows NBD and nothing of
//! what is behind the device. A device that is always there is served as [`AlwaysOpen`]; one that
//! clients attach to, each for itself, is a [`SectorExport`] (see below).
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
//!  handshake  options until an export is chosen and open   \
//!    |    \__ read_ahead (is the client still there?)       proto: the bytes
//!  connection reads requests, runs them, writes replies    /
//!    |    \__ incoming (requests from bytes, within the memory budget) -> command (checked)
//!    |    \__ outgoing (replies to bytes, gathered)
//!    |    \__ ending (the server closes, or the device is lost)
//!  export     what clients open, under a name
//!    |
//!  byte_device  any offset and length, over whole sectors; sector_locks keep changes apart
//!    |
//!  device     SectorExport and SectorDevice: yours
//! ```
//!
//! Beside that, [`Unsettled`] counts for an export which of its clients may come back with changes.
//!
//! # An export that clients open
//!
//! A client that chooses the export (GO, EXPORT_NAME) opens it, and gets a device of its own; one
//! that only asks (LIST, INFO) does not. It waits for [`open`](SectorExport::open) as long as that
//! takes, and has taken its seat meanwhile. Either side may give up: when the client closes its
//! side, or the server shuts down, the future is dropped. An export that is [`Unavailable`] is
//! refused with its text: GO is answered with ERR_POLICY, after which the client may go on
//! negotiating; EXPORT_NAME allows no error, and the connection is closed. qemu shows the text to
//! its user, libnbd only while it debugs, and the log has it in any case.
//!
//! A client has one device until it has gone and its last request is done; then the device is
//! dropped, at shutdown as well. When a device is [`lost`](SectorDevice::lost), its client's
//! connection takes no more requests, those under way get their second to fail in, and the
//! connection is closed: to the client it looks as if the server had gone, so that it goes on over
//! another connection if it has one, and does not trust what it cached.
//!
//! Tools that only want to know the size may well choose the export to learn it (`nbdinfo` does),
//! and so open it; `nbdinfo --list` does not.
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
//!   time, each through a device of its own. Two servers over one shared device do not know of one
//!   another: a write of less than a sector through one is not atomic against writes of the same
//!   sector through the other.
//! - A request that arrived is never left without an answer as long as the connection is there:
//!   only the device may take its time. At shutdown, requests that were not yet taken get no answer
//!   but the end of the connection, upon which clients with another connection go on there; an
//!   error would reach the filesystem.
//! - Memory is never given for what a header claims, only within the budget of all connections.
//! - A request that was taken is never abandoned half-way because its client left, and no device
//!   is dropped under it.
//! - A client that was told a size is never held to another one: it is that of its own device.
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
mod unsettled;

pub use address::{Address, AddressError, DEFAULT_PORT};
pub use device::{
    AlwaysOpen, DeviceError, Piece, SECTOR_SIZE, SectorDevice, SectorExport, Unavailable,
};
pub use server::{Options, Server, ServerError};
pub use socket::ListenError;
pub use unsettled::{Account, Unsettled};
