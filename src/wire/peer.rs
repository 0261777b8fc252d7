//! The messages of sessions.

use crate::domain::{Birth, StoreId};

/// The most bytes of JSON that a status has.
pub const STATUS_BYTES_MAX: usize = 64 << 10;

/// What a process tells its peers of its store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// Its store's identity.
    pub store: StoreId,
    /// The birth that it has recorded, if it has.
    pub birth: Option<Birth>,
    /// Whether its store has never held anything.
    pub empty: bool,
}

/// What a process lets a peer have under way here at once.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Credit {
    /// How many requests.
    pub requests: u32,
    /// How many bytes they and their replies carry.
    pub bytes: u64,
}
