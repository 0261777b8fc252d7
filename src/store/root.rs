//! The root: from where everything that was stable at a checkpoint can be reached.
//!
//! There are two, of even and of odd sequence, each written twice; a checkpoint overwrites the
//! older. Nothing that the newest whole root refers to is ever overwritten.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | checksum of the rest of the block, bound to the block |
//! | 8 | 8 | `atddroot` |
//! | 16 | 8 | sequence |
//! | 24 | 8 | *covered*: the last batch that the map contains |
//! | 32 | 8 | sectors with data |
//! | 40 | 8 | sectors that are tombstones |
//! | 48 | 8 | leaves of the map |
//! | 56 | 8 | inner pages of the map |
//! | 64 | 1 | 1 if there is a map |
//! | 65 | 8 | its first page |
//! | 73 | 8 | that page's checksum |
//! | 81 | 29 | the highest stamp of the map |
//! | 110 | 20 | free map and journal: first chunk of the first copy (block 8, blocks 4, checksum 8) |
//! | 130 | 20 | the same of the second copy |
//! | 150 | 8 | spans of the floor in the map; never 0 again once there was one |

use std::io::IoSlice;

use bytes::{Buf, BufMut};

use super::block::{BLOCK_SIZE, Block};
use super::checksum::{Checksums, Kind};
use super::error::StoreError;
use super::free_map::ChunkRef;
use super::layout::root_places;
use super::medium::{Medium, read_tolerant};
use super::page::PageRef;
use crate::domain::{STAMP_BYTES, Stamp};

/// How much is stored.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Sectors that hold data: one slot each.
    pub(crate) data: u64,
    /// Sectors that were trimmed.
    pub(crate) tombstones: u64,
}

/// How large the map is.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MapSize {
    pub(crate) leaves: u64,
    pub(crate) inner: u64,
    /// Spans of the floor; where pages were damaged, those that they had are counted still.
    pub(crate) floors: u64,
}

/// What a root block says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root {
    pub(crate) sequence: u64,
    pub(crate) covered: u64,
    pub(crate) totals: Totals,
    pub(crate) map_size: MapSize,
    pub(crate) map: Option<PageRef>,
    /// The two copies of the free map.
    pub(crate) space: [ChunkRef; 2],
}

const MAGIC: &[u8; 8] = b"atddroot";
const CONTENT: usize = 8;

impl Root {
    /// The newest whole root.
    pub(crate) fn read(medium: &dyn Medium, checksums: Checksums) -> Result<Self, StoreError> {
        let mut newest: Option<Self> = None;
        for place in [root_places(0), root_places(1)].concat() {
            let mut block = [Block::ZERO];
            read_tolerant(medium, place, &mut block)?;
            if let Some(root) = Self::decode(checksums, place, &block[0])
                && newest
                    .as_ref()
                    .is_none_or(|known| known.sequence < root.sequence)
            {
                newest = Some(root);
            }
        }
        newest.ok_or(StoreError::RootDamaged)
    }

    /// Writes both copies in the place of the root before the last; not synced.
    pub(crate) fn write(
        &self,
        medium: &dyn Medium,
        checksums: Checksums,
    ) -> Result<(), StoreError> {
        for place in root_places(self.sequence) {
            let block = self.encode(checksums, place);
            medium
                .write(place, &[IoSlice::new(&block)])
                .map_err(StoreError::io("writing a root"))?;
        }
        Ok(())
    }

    pub(crate) fn encode(&self, checksums: Checksums, place: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BLOCK_SIZE);
        bytes.put_u64(0);
        bytes.put_slice(MAGIC);
        bytes.put_u64(self.sequence);
        bytes.put_u64(self.covered);
        bytes.put_u64(self.totals.data);
        bytes.put_u64(self.totals.tombstones);
        bytes.put_u64(self.map_size.leaves);
        bytes.put_u64(self.map_size.inner);
        bytes.put_u8(u8::from(self.map.is_some()));
        let none = PageRef {
            block: 0,
            checksum: 0,
            bound: Stamp::ZERO,
        };
        let map = self.map.unwrap_or(none);
        bytes.put_u64(map.block);
        bytes.put_u64(map.checksum);
        bytes.put_slice(&map.bound.to_bytes());
        for copy in self.space {
            copy.encode(&mut bytes);
        }
        bytes.put_u64(self.map_size.floors);
        bytes.resize(BLOCK_SIZE, 0);
        let checksum = checksums.metadata(Kind::Root, place, &bytes[CONTENT..]);
        bytes[..CONTENT].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(checksums: Checksums, place: u64, block: &Block) -> Option<Self> {
        let mut rest = &block.0[..];
        let checksum = rest.get_u64();
        if checksum != checksums.metadata(Kind::Root, place, &block.0[CONTENT..]) {
            return None;
        }
        let mut magic = [0; MAGIC.len()];
        rest.copy_to_slice(&mut magic);
        if magic != *MAGIC {
            return None;
        }
        let sequence = rest.get_u64();
        let covered = rest.get_u64();
        let totals = Totals {
            data: rest.get_u64(),
            tombstones: rest.get_u64(),
        };
        let (leaves, inner) = (rest.get_u64(), rest.get_u64());
        let has_map = rest.get_u8() == 1;
        let block = rest.get_u64();
        let checksum = rest.get_u64();
        let mut stamp = [0; STAMP_BYTES];
        rest.copy_to_slice(&mut stamp);
        let bound = Stamp::from_bytes(&stamp)?;
        let map = has_map.then_some(PageRef {
            block,
            checksum,
            bound,
        });
        let space = [ChunkRef::decode(&mut rest), ChunkRef::decode(&mut rest)];
        let map_size = MapSize {
            leaves,
            inner,
            floors: rest.get_u64(),
        };
        Some(Self {
            sequence,
            covered,
            totals,
            map_size,
            map,
            space,
        })
    }
}
