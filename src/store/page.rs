//! Pages of the map: one block each, packed in key order.
//!
//! A page is never changed in place. Whoever points to it holds its checksum, so a page that was
//! overwritten, misplaced or rotten is known as soon as it is read.
//!
//! | offset | size | header of every page |
//! |---|---|---|
//! | 0 | 8 | checksum of the rest, bound to the block |
//! | 8 | 1 | 1 for a leaf, 2 for an inner page |
//! | 9 | 1 | leaf: origins; inner: 0 |
//! | 10 | 2 | items |
//! | 12 | 4 | 0 |
//! | 16 | 8 | sequence of the root that it was written for |
//!
//! A leaf goes on with its *origins*, what the stamps of many sectors share, and its items:
//!
//! | size | origin | | size | item of a leaf |
//! |---|---|---|---|---|
//! | 8 | settled generation | | 8 | first address |
//! | 8 | generation | | 5 | slot; 0 for a tombstone, 1 for lost |
//! | 1 | rank, 0 for none | | 1 | which origin |
//! | 4 | incarnation | | 8 | timestamp |
//! | | | | 8 | checksum of the data; tombstone and lost: how many sectors more |
//!
//! Floors ([`floor`](super::floor)) are tombstones whose address has its top bit set: they lie behind
//! all sectors.
//!
//! An inner page goes on with its children. The stamp is the highest in the child, or higher: it
//! is all that is known of a child that is damaged.
//!
//! | size | child |
//! |---|---|
//! | 8 | first address; the next child's is the end |
//! | 8 | block |
//! | 8 | its checksum |
//! | 29 | highest stamp |

use bytes::BufMut;

use super::block::{BLOCK_SIZE, Block};
use super::checksum::{Checksums, Kind};
use super::entry::Entry;
use super::spans::Span;
use crate::domain::{Generation, Incarnation, Rank, STAMP_BYTES, Stamp};

const CHECKSUM: usize = 0;
const LEVEL: usize = CHECKSUM + 8;
const ORIGINS: usize = LEVEL + 1;
const ITEMS: usize = ORIGINS + 1;
const SEQUENCE: usize = ITEMS + 2 + 4;
const HEADER_BYTES: usize = SEQUENCE + 8;
const _: () = assert!(HEADER_BYTES == 24);

const ORIGIN_BYTES: usize = 8 + 8 + 1 + 4;
const ITEM_BYTES: usize = 8 + 5 + 1 + 8 + 8;
const CHILD_BYTES: usize = 8 + 8 + 8 + STAMP_BYTES;
const _: () = assert!(ITEM_BYTES == 30 && CHILD_BYTES == 53);

/// The most children of an inner page.
pub(crate) const CHILDREN_MAX: usize = (BLOCK_SIZE - HEADER_BYTES) / CHILD_BYTES;

/// The most items of a leaf, when all stamps share one origin.
pub(crate) const LEAF_ITEMS_MAX: usize = (BLOCK_SIZE - HEADER_BYTES - ORIGIN_BYTES) / ITEM_BYTES;
const _: () = assert!(CHILDREN_MAX == 76 && LEAF_ITEMS_MAX == 135);

const LEAF: u8 = 1;
const INNER: u8 = 2;
const SLOT_TOMBSTONE: u64 = 0;
const SLOT_LOST: u64 = 1;
const ORIGINS_MAX: usize = 255;

/// Where a page is, and how to tell that it is that page.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct PageRef {
    pub(crate) block: u64,
    pub(crate) checksum: u64,
    /// No stamp in the page or below is higher.
    pub(crate) bound: Stamp,
}

/// One of an inner page's children: everything from `first` up to the next child's.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Child {
    pub(crate) first: u64,
    pub(crate) page: PageRef,
}

/// A page that was read and found whole.
pub(crate) struct Page {
    /// Not a [`Block`]: its alignment would make the page three times as large in the cache.
    bytes: [u8; BLOCK_SIZE],
    items: usize,
    origins: usize,
    leaf: bool,
}

impl Page {
    /// The page that `reference` points to, or `None` when these are not its bytes.
    pub(crate) fn open(checksums: Checksums, reference: PageRef, bytes: &Block) -> Option<Self> {
        let stored = u64_at(&bytes.0, CHECKSUM);
        let computed = checksums.metadata(Kind::Page, reference.block, &bytes.0[LEVEL..]);
        if stored != reference.checksum || computed != stored {
            return None;
        }
        let items = usize::from(u16_at(&bytes.0, ITEMS));
        let origins = usize::from(bytes.0[ORIGINS]);
        let leaf = bytes.0[LEVEL] == LEAF;
        let length = if leaf {
            HEADER_BYTES + origins * ORIGIN_BYTES + items * ITEM_BYTES
        } else {
            HEADER_BYTES + items * CHILD_BYTES
        };
        (items > 0 && length <= BLOCK_SIZE && matches!(bytes.0[LEVEL], LEAF | INNER)).then_some(
            Self {
                bytes: bytes.0,
                items,
                origins,
                leaf,
            },
        )
    }

    pub(crate) const fn is_leaf(&self) -> bool {
        self.leaf
    }

    /// How many items or children there are; at least one.
    pub(crate) const fn len(&self) -> usize {
        self.items
    }

    /// How many items or children begin at or before this address.
    pub(crate) fn beginning_by(&self, address: u64) -> usize {
        let (mut low, mut high) = (0, self.items);
        while low < high {
            let middle = usize::midpoint(low, high);
            if u64_at(&self.bytes, self.place(middle)) <= address {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low
    }

    /// A leaf's item.
    pub(crate) fn item(&self, index: usize) -> Span<Entry> {
        let mut item = &self.bytes[self.place(index)..][..ITEM_BYTES];
        let first = take_u64(&mut item);
        let slot = take_u40(&mut item);
        let origin = usize::from(item[0]);
        item = &item[1..];
        let stamp = self.stamp(origin, take_u64(&mut item));
        let tail = take_u64(&mut item);
        let (value, more) = match slot {
            SLOT_TOMBSTONE => (Entry::Tombstone { stamp }, tail),
            SLOT_LOST => (Entry::Lost { bound: stamp }, tail),
            slot => {
                let checksum = tail;
                let data = Entry::Data {
                    stamp,
                    slot,
                    checksum,
                };
                (data, 0)
            }
        };
        let last = first.saturating_add(more);
        Span { first, last, value }
    }

    /// An inner page's child.
    pub(crate) fn child(&self, index: usize) -> Child {
        let mut child = &self.bytes[self.place(index)..][..CHILD_BYTES];
        let first = take_u64(&mut child);
        let block = take_u64(&mut child);
        let checksum = take_u64(&mut child);
        let stamp = child.try_into().expect("a stamp is left");
        let page = PageRef {
            block,
            checksum,
            bound: Stamp::from_bytes(stamp).unwrap_or(Stamp::ZERO),
        };
        Child { first, page }
    }

    pub(crate) fn items(&self) -> impl Iterator<Item = Span<Entry>> {
        (0..self.items).map(|index| self.item(index))
    }

    pub(crate) fn children(&self) -> impl Iterator<Item = Child> {
        (0..self.items).map(|index| self.child(index))
    }

    const fn place(&self, index: usize) -> usize {
        if self.leaf {
            HEADER_BYTES + self.origins * ORIGIN_BYTES + index * ITEM_BYTES
        } else {
            HEADER_BYTES + index * CHILD_BYTES
        }
    }

    fn stamp(&self, origin: usize, timestamp: u64) -> Stamp {
        let mut bytes = &self.bytes[HEADER_BYTES + origin * ORIGIN_BYTES..][..ORIGIN_BYTES];
        let settled = Generation(take_u64(&mut bytes));
        let generation = Generation(take_u64(&mut bytes));
        let rank = Rank::new(bytes[0]);
        let incarnation = bytes[1..].try_into().expect("four bytes are left");
        Stamp {
            settled,
            generation,
            timestamp,
            rank,
            incarnation: Incarnation(u32::from_be_bytes(incarnation)),
        }
    }
}

const _: () = assert!(size_of::<Page>() < BLOCK_SIZE + 64);

/// A page in the making.
pub(crate) struct PageDraft {
    bytes: Block,
    bound: Stamp,
    /// The first address of the first item.
    pub(crate) first: u64,
}

impl PageDraft {
    /// A leaf of as many of the items as fit, at most `most`, and how many those are.
    pub(crate) fn leaf(items: &[Span<Entry>], most: usize, sequence: u64) -> (Self, usize) {
        let (origins, count) = fitting(&items[..most.min(items.len())]);
        let items = &items[..count];
        let mut bytes = Block::ZERO;
        header(&mut bytes, LEAF, origins.len(), count, sequence);
        let mut rest = &mut bytes.0[HEADER_BYTES..];
        for origin in &origins {
            rest.put_u64(origin.settled.0);
            rest.put_u64(origin.generation.0);
            rest.put_u8(origin.rank.map_or(0, Rank::number));
            rest.put_u32(origin.incarnation.0);
        }
        for item in items {
            let stamp = item.value.bound();
            let (slot, tail) = match item.value {
                Entry::Data { slot, checksum, .. } => (slot, checksum),
                Entry::Tombstone { .. } => (SLOT_TOMBSTONE, item.last - item.first),
                Entry::Lost { .. } => (SLOT_LOST, item.last - item.first),
            };
            let origin = origins.iter().position(|known| *known == origin_of(stamp));
            rest.put_u64(item.first);
            rest.put_uint(slot, 5);
            rest.put_u8(
                u8::try_from(origin.expect("it was collected")).expect("at most ORIGINS_MAX"),
            );
            rest.put_u64(stamp.timestamp);
            rest.put_u64(tail);
        }
        let bound = items.iter().map(|item| item.value.bound()).max();
        let draft = Self {
            bytes,
            bound: bound.expect("a page has an item"),
            first: items[0].first,
        };
        (draft, count)
    }

    /// How many leaves these items fill. What fits into one depends on their origins.
    pub(crate) fn leaves_needed(items: &[Span<Entry>]) -> usize {
        let mut rest = items;
        let mut leaves = 0;
        while !rest.is_empty() {
            let (_, count) = fitting(rest);
            rest = &rest[count..];
            leaves += 1;
        }
        leaves
    }

    /// An inner page of these children, at most [`CHILDREN_MAX`].
    pub(crate) fn inner(children: &[Child], sequence: u64) -> Self {
        let mut bytes = Block::ZERO;
        header(&mut bytes, INNER, 0, children.len(), sequence);
        let mut rest = &mut bytes.0[HEADER_BYTES..];
        for child in children {
            rest.put_u64(child.first);
            rest.put_u64(child.page.block);
            rest.put_u64(child.page.checksum);
            rest.put_slice(&child.page.bound.to_bytes());
        }
        let bound = children.iter().map(|child| child.page.bound).max();
        Self {
            bytes,
            bound: bound.expect("a page has a child"),
            first: children[0].first,
        }
    }

    /// The bytes to be written to `block`, and what points to them there.
    pub(crate) fn seal(mut self, checksums: Checksums, block: u64) -> (PageRef, Block) {
        let checksum = checksums.metadata(Kind::Page, block, &self.bytes.0[LEVEL..]);
        self.bytes.0[CHECKSUM..LEVEL].copy_from_slice(&checksum.to_be_bytes());
        let reference = PageRef {
            block,
            checksum,
            bound: self.bound,
        };
        (reference, self.bytes)
    }
}

/// A stamp without its timestamp: what the stamps of many sectors share.
fn origin_of(stamp: Stamp) -> Stamp {
    Stamp {
        timestamp: 0,
        ..stamp
    }
}

/// The origins of as many of the items as fit into a leaf, and how many those are.
fn fitting(items: &[Span<Entry>]) -> (Vec<Stamp>, usize) {
    let mut origins: Vec<Stamp> = Vec::new();
    for (count, item) in items.iter().enumerate() {
        let origin = origin_of(item.value.bound());
        let fresh = !origins.contains(&origin);
        let origin_count = origins.len() + usize::from(fresh);
        let length = HEADER_BYTES + origin_count * ORIGIN_BYTES + (count + 1) * ITEM_BYTES;
        if length > BLOCK_SIZE || origin_count > ORIGINS_MAX {
            return (origins, count);
        }
        if fresh {
            origins.push(origin);
        }
    }
    (origins, items.len())
}

fn header(bytes: &mut Block, level: u8, origins: usize, items: usize, sequence: u64) {
    let mut header = &mut bytes.0[LEVEL..HEADER_BYTES];
    header.put_u8(level);
    header.put_u8(u8::try_from(origins).expect("at most ORIGINS_MAX"));
    header.put_u16(u16::try_from(items).expect("they fit into a block"));
    header.put_u32(0);
    header.put_u64(sequence);
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

fn take_u64(bytes: &mut &[u8]) -> u64 {
    let value = u64_at(bytes, 0);
    *bytes = &bytes[8..];
    value
}

fn take_u40(bytes: &mut &[u8]) -> u64 {
    let mut wide = [0; 8];
    wide[3..].copy_from_slice(&bytes[..5]);
    *bytes = &bytes[5..];
    u64::from_be_bytes(wide)
}
