//! Atomic Disk Drive: a replicated block device without a leader.

pub mod domain;
pub mod net;
pub mod register;
pub mod store;
pub mod wire;
