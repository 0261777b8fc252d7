//! The program as its users meet it: what it writes, says and returns.

#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking; the lint spares only functions marked as tests"
)]

mod clients;
mod configuration;
mod dev;
mod init;
mod nbd_client;
mod program;
mod serve;
mod status;
mod store_check;
mod usage;
mod volume;
