//! What a load or store was for, packed into its token.
//!
//! The lower two bits say what for, the others which operation, or which request of a peer.

use super::{LoadToken, StoreToken};

/// What a load was for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum LoadPurpose {
    /// The own votes in the operation of this sequence number.
    Votes(u64),
    /// The own values in the read of this sequence number.
    Values(u64),
    /// A peer's question, by the replica's number for it.
    Peer(u64),
}

/// What a store was for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum StorePurpose {
    /// The own copy in the operation of this sequence number.
    Operation(u64),
    /// A damaged own copy, found by the read of this sequence number.
    Heal(u64),
    /// A peer's store, by the replica's number for it.
    Peer(u64),
}

const KINDS: u64 = 4;
const OWN: u64 = 0;
const OWN_MORE: u64 = 1;
const PEER: u64 = 2;

impl LoadPurpose {
    pub(super) fn token(self) -> LoadToken {
        LoadToken(match self {
            Self::Votes(sequence) => pack(sequence, OWN),
            Self::Values(sequence) => pack(sequence, OWN_MORE),
            Self::Peer(number) => pack(number, PEER),
        })
    }

    /// # Panics
    /// When no register made this token.
    pub(super) fn of(LoadToken(token): LoadToken) -> Self {
        let number = token / KINDS;
        match token % KINDS {
            OWN => Self::Votes(number),
            OWN_MORE => Self::Values(number),
            PEER => Self::Peer(number),
            _ => panic!("the store names loads that it was asked for"),
        }
    }
}

impl StorePurpose {
    pub(super) fn token(self) -> StoreToken {
        StoreToken(match self {
            Self::Operation(sequence) => pack(sequence, OWN),
            Self::Heal(sequence) => pack(sequence, OWN_MORE),
            Self::Peer(number) => pack(number, PEER),
        })
    }

    /// # Panics
    /// When no register made this token.
    pub(super) fn of(StoreToken(token): StoreToken) -> Self {
        let number = token / KINDS;
        match token % KINDS {
            OWN => Self::Operation(number),
            OWN_MORE => Self::Heal(number),
            PEER => Self::Peer(number),
            _ => panic!("the store names stores that it was asked for"),
        }
    }
}

fn pack(number: u64, kind: u64) -> u64 {
    number * KINDS + kind
}
