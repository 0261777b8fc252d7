//! Who this process is to the others.

use crate::domain::{ClusterId, Incarnation, Rank};
use crate::wire::{ClientKey, SystemKey};

/// Who this process is: known once its store is recovered, and fixed from then on.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// Its rank.
    pub rank: Rank,
    /// How many processes the cluster has.
    pub processes: u8,
    /// Its incarnation, already raised for this start.
    pub incarnation: Incarnation,
    /// The key that processes share.
    pub system_key: SystemKey,
    /// The key that clients share with processes.
    pub client_key: ClientKey,
}
