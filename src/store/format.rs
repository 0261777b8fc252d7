//! A new store.

use super::block::Run;
use super::budget::Budget;
use super::checksum::Checksums;
use super::error::StoreError;
use super::fences::Fences;
use super::free_map::{FreeMap, write_chunks};
use super::identity::Identity;
use super::layout::FIXED_BLOCKS;
use super::medium::Medium;
use super::root::{MapSize, Root, Totals};
use super::space::FreeBlocks;
use crate::domain::{ClusterId, Incarnation, Rank, StoreId};

/// Writes an empty store; durable on return, but not to be used before its file has its name.
pub(crate) fn format(
    medium: &dyn Medium,
    store: StoreId,
    cluster: ClusterId,
    rank: Rank,
) -> Result<(), StoreError> {
    let checksums = Checksums::of_store(store);
    let journal = Run::new(FIXED_BLOCKS, Budget::new(0).journal());
    let copies = [journal.end(), journal.end() + 1].map(Run::single);
    let blocks = FreeBlocks {
        end: journal.end() + 2,
        ..FreeBlocks::default()
    };
    medium
        .allocate(Run::new(0, blocks.end))
        .map_err(StoreError::io("allocating a new store"))?;
    let stream = FreeMap::encode(&[journal], &blocks);
    let root = Root {
        sequence: 0,
        covered: 0,
        totals: Totals::default(),
        map_size: MapSize::default(),
        map: None,
        space: [
            write_chunks(medium, checksums, &stream, &copies[..1])?,
            write_chunks(medium, checksums, &stream, &copies[1..])?,
        ],
    };
    root.write(medium, checksums)?;
    let identity = Identity {
        store,
        cluster,
        rank,
        revision: 0,
        incarnation: Incarnation(0),
        believed: 0,
        first_sequence: 1,
        root_sequence: 0,
        birth: None,
        fences: Fences::default(),
    };
    identity.write(medium, 0)
}
