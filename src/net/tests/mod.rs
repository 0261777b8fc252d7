//! Tests over sockets on this machine, and over pipes where time is to stand still.

mod attached;
mod attached_silence;
mod attaching;
mod classic;
mod classic_client;
mod driver_client;
mod intruders;
mod link;
mod links;
pub(crate) mod log;
mod operators;
mod peers;
mod session;
mod session_operations;
mod session_silence;
mod sessions;
pub(super) mod support;
mod volume;
