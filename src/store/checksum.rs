//! Checksums: 64 bits of XXH3, bound to what the bytes are, whose they are and where they lie.
//!
//! Every checksum of the store is `XXH3(binding, XXH3(content))`, where the binding says what makes
//! the content right here and nowhere else: bytes that were meant for another place, another
//! sector, another version of it or another store never pass.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::domain::{STAMP_BYTES, SectorAddress, Stamp, StoreId};

/// What a checked piece of the file is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Identity = 1,
    Root = 2,
    Space = 3,
    Page = 4,
    Batch = 5,
}

impl Kind {
    const fn code(self) -> u8 {
        self as u8
    }
}

/// Makes the checksums of one store.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checksums {
    seed: u64,
}

const CONTENT: usize = 0;
const PLACE: usize = CONTENT + 8;
const STAMP: usize = PLACE + 8;
const DATA_BINDING: usize = STAMP + STAMP_BYTES;
const KIND: usize = PLACE + 8;
const BLOCK_BINDING: usize = KIND + 1;

impl Checksums {
    pub(crate) fn of_store(id: StoreId) -> Self {
        Self {
            seed: xxh3_64(&id.0),
        }
    }

    /// The checksum of a sector's bytes, bound to its address and stamp; not to its slot.
    pub(crate) fn data(self, address: SectorAddress, stamp: Stamp, bytes: &[u8]) -> u64 {
        let mut binding = [0; DATA_BINDING];
        binding[CONTENT..PLACE].copy_from_slice(&xxh3_64(bytes).to_be_bytes());
        binding[PLACE..STAMP].copy_from_slice(&address.to_bits().to_be_bytes());
        binding[STAMP..].copy_from_slice(&stamp.to_bytes());
        xxh3_64_with_seed(&binding, self.seed)
    }

    /// The checksum of what is kept about sectors, bound to the block where it begins.
    pub(crate) fn metadata(self, kind: Kind, block: u64, bytes: &[u8]) -> u64 {
        let mut binding = [0; BLOCK_BINDING];
        binding[CONTENT..PLACE].copy_from_slice(&xxh3_64(bytes).to_be_bytes());
        binding[PLACE..KIND].copy_from_slice(&block.to_be_bytes());
        binding[KIND] = kind.code();
        xxh3_64_with_seed(&binding, self.seed)
    }
}
