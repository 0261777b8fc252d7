//! Atomic Disk Drive: a replicated block device without a leader.

pub mod client;
pub mod config;
pub mod domain;
pub mod process;
pub mod register;
pub mod store;
pub mod wire;
