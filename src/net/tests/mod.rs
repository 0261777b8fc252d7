//! Tests over sockets on this machine, and over pipes where time is to stand still.

mod attached;
mod classic;
mod intruders;
mod links;
mod operators;
mod peers;
mod sessions;
pub(super) mod support;
mod volume;
