//! Generations: which one a process has accepted, and how a client gets one of its own.
//!
//! [`AttachmentKeeper`] is a pure state machine for one volume of one process, above the process's
//! registers: [`AttachmentKeeper::step`] takes an [`Input`] and appends the [`Output`]s that follow
//! from it. The rules and the failing histories behind them are in `ATTACHMENTS.md`.
// The keeper's helper completes this: guarantees, what it relies on, invariants, departures.

mod attaches;
mod event;
mod fencing;
mod holders;
mod keeper;
mod opening;
mod target;

#[cfg(test)]
mod tests;

pub use event::{AttachmentId, Input, Output};
pub use keeper::{AttachmentKeeper, Config};
