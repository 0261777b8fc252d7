//! Atomic Disk Drive: a replicated block device without a leader.
//!
//! Every 4096-byte sector is one linearizable register, kept by N processes over TCP with the
//! (N,N)-AtomicRegister algorithm in the crash-recovery model. Any process coordinates any
//! operation, a majority suffices, and a write is on stable storage at a majority before it is
//! acknowledged.
//!
//! # The way of a write
//!
//! ```text
//!   NBD client     client library, gateway    kernel driver, any classic client
//!       │                   │                        │
//!  nbd_frontend     net::listener (session)   net::listener (classic connection)
//!       └─────────┬─────────┘                        │
//!      process::AttachedDisk                    process::Disk    under the shared generation
//!                └────────────┬──────────────────────┘
//!         process::Operations       cut to size, admitted
//!                │
//!         process::Worker ────────── owns one shard:
//!                │                   register::AtomicRegister, pure
//!       ┌────────┼──────────────┐
//!   store::…   net::RegisterClient  ──TCP──►  net::listener (session) ─► its Worker ─► its store
//!  (own disk)   (one link a peer)  ◄─────────  stamps, then "stable"
//!       │                │
//!       └── a majority ──┘
//!                │
//!             answered
//! ```
//!
//! 1. Without an exclusive attachment, the register asks every process for the sector's stamp; a
//!    majority's answers give the highest, and the write takes the next. An exclusive attachment is
//!    the only writer of its generation: it counts for itself, and this round is not needed.
//! 2. It sends the value to all, its own store included, at the same time. Each says *stored* once
//!    its disk has synced; a majority of these completes the write.
//!
//! A read asks for stamps in the same way while it reads the local copy, and returns at once when
//! a majority agrees; otherwise it first writes the newest value back. What an older generation
//! left it returns only when all agree, or after it was settled under the present one.
//!
//! # The way of an attach
//!
//! [`attachment::AttachmentKeeper`], one for each process, asks all for their fences, takes the
//! next number, and sends it to all; once a majority has it on stable storage, behind everything
//! that was stored before, the generation is open, and nothing older is accepted by that majority
//! any more.
//!
//! # The map
//!
//! | module | what it is | knows nothing of |
//! |---|---|---|
//! | [`domain`] | the words: addresses, stamps, extents, messages | any I/O |
//! | [`config`] | `cluster.toml` to a [`config::Configuration`] that cannot be wrong | the running cluster |
//! | [`wire`] | bytes to messages and back: classic protocol and its extension, sessions | sockets, clocks, randomness |
//! | [`register`] | the algorithm | files, sockets, clocks, threads |
//! | [`store`] | crash-safe sectors on a local directory | other processes |
//! | [`attachment`] | generations: who may write, and how that changes hands | files, sockets, clocks |
//! | [`net`] | listener, classic connections, sessions, links to peers | the algorithm |
//! | [`process`] | workers, attachments, birth of the cluster, start and stop | formats |
//! | [`client`] | attachments that fail over; what the command line asks of a running cluster | the store |
//!
//! `wire`, `register` and `store` never see one another; they meet in the types of `domain`. A
//! test reads the sources and enforces it (`tests/tidy/imports.rs`).
//!
//! # What never happens
//!
//! - A write is acknowledged before a majority holds it on stable storage: acknowledgements are
//!   made by [`register::Input::Stored`] alone.
//! - A process answers from a value that a crash could take back.
//! - A damaged copy is returned, taken for zeroes, or given an older stamp: it is no vote at all.
//! - Anything of an older generation is stored by a process that has accepted a newer one.
//! - An empty directory votes in a cluster that was born with another in its place.
//! - Anything is decoded before it is authenticated.
//! - A queue grows without bound: what is admitted or credited bounds everything behind it.
//! - A lock is held across an await or a system call.

pub mod attachment;
pub mod client;
pub mod config;
pub mod domain;
pub mod net;
pub mod process;
pub mod register;
pub mod store;
pub mod wire;
