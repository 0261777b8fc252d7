//! The store from outside: what every implementation promises, and what a directory goes through.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    reason = "tests end at the first surprise, and count what fits into memory"
)]

mod conformance;
mod directory;
mod disk_usage;
mod measure;
mod settling;
mod support;
