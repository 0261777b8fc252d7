//! The identity of stores, and the birth of a cluster.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What tells one store's directory from every other: drawn at random when it is created.
///
/// A directory that was lost and made anew has another identity, and that is how its peers know
/// that it forgot what it acknowledged.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StoreId(pub [u8; 16]);

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// That the cluster is born: recorded once, durably, by every process, before it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Birth {
    /// Every process's store in rank order; `None` for one that had not been met when the operator
    /// vouched for the first start (`--new-cluster`).
    pub stores: Vec<Option<StoreId>>,
}
