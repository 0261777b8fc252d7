//! The server as clients see it: raw bytes on sockets, an independent client, stock tools.

#![allow(
    clippy::unwrap_used,
    reason = "a test that meets a surprise ends with it"
)]

mod client;
mod desk;
mod handshake;
mod independent;
mod lifecycle;
mod limits;
mod log;
mod lost;
mod model;
mod opening;
mod read_modify_write;
mod served;
mod structured;
mod tools;
mod transmission;
