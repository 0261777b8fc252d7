//! Tests over sockets on this machine, and over pipes where time is to stand still.

mod classic;
mod intruders;
mod links;
mod peers;
pub(super) mod support;
