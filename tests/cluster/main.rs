//! Clusters of real processes on this machine: what survives what.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod attachments;
mod classic;
mod drivers;
mod failover;
mod faults;
mod gateway;
mod joined;
mod library;
mod limits;
mod machine;
mod nbd;
mod returning;
mod service;
mod tools;
