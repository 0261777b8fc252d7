//! Batches: what becomes stable together.
//!
//! A batch is a run of journal blocks: a header, its records, and zeroes up to the end of the last
//! block. The data that its records speak of lie in their slots, written before the same sync.
//!
//! | offset | size | header |
//! |---|---|---|
//! | 0 | 8 | checksum of the rest of header and records, bound to the first block |
//! | 8 | 8 | `atddbtch` |
//! | 16 | 16 | store |
//! | 32 | 1 | 1: batch, 2: idle mark |
//! | 33 | 3 | 0 |
//! | 36 | 4 | bytes of header and records |
//! | 40 | 4 | records |
//! | 44 | 4 | incarnation |
//! | 48 | 8 | sequence; an idle mark has that of the batch before it |
//! | 56 | 8 | sequence of the batch before it |
//! | 64 | 8 | *stable*: the highest sequence known synced when this was written |
//! | 72 | 8 | sequence of the root when this was written |
//! | 80 | 8 | sectors with data, this batch included |
//! | 88 | 8 | sectors that are tombstones, this batch included |
//! | 96 | 8 | room for a completion number, 0 |
//!
//! | size | record |
//! |---|---|
//! | 1 | 1: data, 2: tombstone |
//! | 1 | bytes of a tag, always 0 in this version |
//! | 2 | runs of slots that it frees |
//! | 4 | sectors |
//! | 8 | first address |
//! | 29 | stamp of each |
//! | 8 | data only: first slot; the others follow it |
//! | 8 each | data only: the checksum of each sector |
//! | 12 each | the runs of slots that it frees: first block 8, blocks 4 |
//!
//! A tombstone whose volume has its top bit set is a floor ([`floor`](super::floor)), and counts as
//! no sector.

use bytes::{Buf, BufMut};

use super::block::{BLOCK_SIZE, Block, Run, blocks_for};
use super::checksum::{Checksums, Kind};
use super::root::Totals;
use crate::domain::{Incarnation, STAMP_BYTES, SectorAddress, SectorRange, Stamp, StoreId};

/// Whether an extent of the journal says what was stored, or only that it is stable.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum BatchKind {
    Batch,
    /// Nothing waits for it and nothing follows from it but its `stable`.
    IdleMark,
}

/// The header of a batch, without what is derived from its records.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: BatchKind,
    pub(crate) incarnation: Incarnation,
    pub(crate) sequence: u64,
    pub(crate) previous: u64,
    pub(crate) stable: u64,
    pub(crate) root_sequence: u64,
    pub(crate) totals: Totals,
}

/// What became of consecutive sectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) range: SectorRange,
    pub(crate) stamp: Stamp,
    pub(crate) content: RecordContent,
    /// The slots that the sectors had before.
    pub(crate) freed: Vec<Run>,
}

/// What the sectors of a record hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RecordContent {
    Data {
        /// Of the first sector; the others follow.
        slot: u64,
        /// One for each sector.
        checksums: Vec<u64>,
    },
    Tombstone,
}

/// A batch that was read and found whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) header: Header,
    pub(crate) records: Vec<Record>,
    /// Journal blocks that it takes.
    pub(crate) blocks: u64,
}

const MAGIC: &[u8; 8] = b"atddbtch";
const CHECKSUM: usize = 0;
const CONTENT: usize = CHECKSUM + 8;
const STORE: usize = CONTENT + MAGIC.len();
const KIND: usize = STORE + 16;
const LENGTH: usize = KIND + 1 + 3;

/// Bytes of a header.
pub(crate) const HEADER_BYTES: usize = 104;

/// Bytes of a record with one sector of data and one freed slot: what a scattered write costs.
pub(crate) const RECORD_BYTES: usize = RECORD_HEADER_BYTES + 8 + 8 + FREED_BYTES;
const RECORD_HEADER_BYTES: usize = 1 + 1 + 2 + 4 + 8 + STAMP_BYTES;
const FREED_BYTES: usize = 8 + 4;
const _: () = assert!(RECORD_BYTES == 73);

const DATA: u8 = 1;
const TOMBSTONE: u8 = 2;

impl BatchKind {
    const fn code(self) -> u8 {
        match self {
            Self::Batch => 1,
            Self::IdleMark => 2,
        }
    }
}

/// The bytes of a batch that will be written from the journal block `place` on, whole blocks.
pub(crate) fn encode(
    checksums: Checksums,
    store: StoreId,
    place: u64,
    header: &Header,
    records: &[Record],
) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BLOCK_SIZE);
    bytes.put_u64(0);
    bytes.put_slice(MAGIC);
    bytes.put_slice(&store.0);
    bytes.put_u8(header.kind.code());
    bytes.put_bytes(0, 3);
    bytes.put_u32(0);
    bytes.put_u32(u32::try_from(records.len()).expect("a batch is bounded"));
    bytes.put_u32(header.incarnation.0);
    bytes.put_u64(header.sequence);
    bytes.put_u64(header.previous);
    bytes.put_u64(header.stable);
    bytes.put_u64(header.root_sequence);
    bytes.put_u64(header.totals.data);
    bytes.put_u64(header.totals.tombstones);
    bytes.put_u64(0);
    assert_eq!(
        bytes.len(),
        HEADER_BYTES,
        "the header is as long as the table says"
    );
    for record in records {
        record.encode(&mut bytes);
    }
    let length = u32::try_from(bytes.len()).expect("a batch is bounded");
    bytes[LENGTH..LENGTH + 4].copy_from_slice(&length.to_be_bytes());
    let checksum = checksums.metadata(Kind::Batch, place, &bytes[CONTENT..]);
    bytes[..CONTENT].copy_from_slice(&checksum.to_be_bytes());
    bytes.resize(blocks_for(bytes.len()) * BLOCK_SIZE, 0);
    bytes
}

/// The batch that begins with these blocks of the journal, the first of which is the file's block
/// `place`. `None` when no whole batch of this store does.
pub(crate) fn decode(
    checksums: Checksums,
    store: StoreId,
    place: u64,
    blocks: &[Block],
) -> Option<Batch> {
    let bytes: &[u8] = bytemuck::cast_slice(blocks);
    if bytes.get(CONTENT..STORE)? != MAGIC || bytes[STORE..KIND] != store.0 {
        return None;
    }
    let kind = match bytes[KIND] {
        1 => BatchKind::Batch,
        2 => BatchKind::IdleMark,
        _ => return None,
    };
    let mut rest = &bytes[LENGTH..];
    let length = usize::try_from(rest.get_u32()).ok()?;
    if length < HEADER_BYTES || length > bytes.len() {
        return None;
    }
    let mut checksum = &bytes[CHECKSUM..CONTENT];
    if checksum.get_u64() != checksums.metadata(Kind::Batch, place, &bytes[CONTENT..length]) {
        return None;
    }
    let record_count = rest.get_u32();
    let header = Header {
        kind,
        incarnation: Incarnation(rest.get_u32()),
        sequence: rest.get_u64(),
        previous: rest.get_u64(),
        stable: rest.get_u64(),
        root_sequence: rest.get_u64(),
        totals: Totals {
            data: rest.get_u64(),
            tombstones: rest.get_u64(),
        },
    };
    let mut rest = &bytes[HEADER_BYTES..length];
    let records = (0..record_count)
        .map(|_| Record::decode(&mut rest))
        .collect::<Option<_>>()?;
    Some(Batch {
        header,
        records,
        blocks: u64::try_from(blocks_for(length)).ok()?,
    })
}

impl Record {
    /// How many bytes the record takes in a batch.
    pub(crate) fn length(&self) -> usize {
        let data = match &self.content {
            RecordContent::Data { checksums, .. } => 8 + 8 * checksums.len(),
            RecordContent::Tombstone => 0,
        };
        RECORD_HEADER_BYTES + data + FREED_BYTES * self.freed.len()
    }

    fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.put_u8(match self.content {
            RecordContent::Data { .. } => DATA,
            RecordContent::Tombstone => TOMBSTONE,
        });
        bytes.put_u8(0);
        bytes.put_u16(u16::try_from(self.freed.len()).expect("a batch replaces fewer"));
        bytes.put_u32(self.range.count());
        bytes.put_u64(self.range.first().to_bits());
        bytes.put_slice(&self.stamp.to_bytes());
        if let RecordContent::Data { slot, checksums } = &self.content {
            bytes.put_u64(*slot);
            for checksum in checksums {
                bytes.put_u64(*checksum);
            }
        }
        for run in &self.freed {
            bytes.put_u64(run.first);
            bytes.put_u32(u32::try_from(run.count).expect("no more than a record's sectors"));
        }
    }

    fn decode(rest: &mut &[u8]) -> Option<Self> {
        let kind = rest.try_get_u8().ok()?;
        if rest.try_get_u8().ok()? != 0 {
            return None;
        }
        let freed_count = rest.try_get_u16().ok()?;
        let count = rest.try_get_u32().ok()?;
        let first = SectorAddress::from_bits(rest.try_get_u64().ok()?);
        let range = SectorRange::new(first, count)?;
        let (stamp, after) = rest.split_first_chunk::<STAMP_BYTES>()?;
        let stamp = Stamp::from_bytes(stamp)?;
        *rest = after;
        let content = match kind {
            DATA => RecordContent::Data {
                slot: rest.try_get_u64().ok()?,
                checksums: (0..count)
                    .map(|_| rest.try_get_u64().ok())
                    .collect::<Option<_>>()?,
            },
            TOMBSTONE => RecordContent::Tombstone,
            _ => return None,
        };
        let freed = (0..freed_count)
            .map(|_| {
                let first = rest.try_get_u64().ok()?;
                Some(Run::new(first, u64::from(rest.try_get_u32().ok()?)))
            })
            .collect::<Option<_>>()?;
        Some(Self {
            range,
            stamp,
            content,
            freed,
        })
    }
}
