//! Crash tests: the engine on a medium that loses what was not synced, cut at every step.
//!
//! A history is run once and its writes and syncs are recorded. Then for each cut the medium is
//! made anew as a crash might leave it: everything up to the last sync, and any subset of the
//! 512-byte pieces written since. The store is recovered from it and held against a model of what
//! was submitted, acknowledged and seen.

#![allow(
    clippy::cast_possible_truncation,
    clippy::needless_for_each,
    reason = "tests count what fits into memory"
)]

mod deep;
mod fences;
mod history;
mod medium;
mod model;
mod rot;
mod settle;
mod states;
mod twin;

pub(crate) use history::formatted;
pub(crate) use medium::CrashMedium;
pub(crate) use model::{extent, range, stamp};
pub(crate) use rot::with_a_lost_page;
