//! Recovery: what a directory holds after a crash, read from the medium alone.
//!
//! The newest whole root gives map, free map and the journal's place; the batches behind it are
//! replayed into the overlay. No sector's data is read but the last batch's, and no page of the map.
//!
//! Which batches count:
//! - A batch that has a successor, or that a later header or the identity names stable, was synced:
//!   its records are believed.
//! - Only the last one is in doubt. It counts if all its data match their checksums; otherwise it
//!   was torn, nobody was told of it, and it is dropped whole.
//! - A batch that was dropped stays dropped: the identity names the last one that counts, and the
//!   sequences up to the new incarnation's first never count.
//! - When a batch is missing that was synced, the store can not be believed any more.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::batch::{self, Batch, BatchKind, RecordContent};
use super::block::{Block, Run, total};
use super::cache::PageCache;
use super::checksum::Checksums;
use super::engine::{Engine, State};
use super::entry::{Entry, bounds};
use super::error::StoreError;
use super::floor::lay;
use super::free_map::{FreeMap, read_chunks};
use super::identity::Identity;
use super::index::Index;
use super::journal::Journal;
use super::medium::{Medium, read_tolerant};
use super::root::{Root, Totals};
use super::space::{FreeBlocks, Space};
use super::spans::SpanMap;
use crate::domain::{Incarnation, SECTOR_SIZE};

/// What a directory holds.
pub(crate) struct Image {
    pub(crate) root: Root,
    pub(crate) overlay: SpanMap<Entry>,
    pub(crate) blocks: FreeBlocks,
    pub(crate) totals: Totals,
    pub(crate) journal: Vec<Run>,
    pub(crate) free_map: Vec<Run>,
    /// Copies of the free map that are whole, of two.
    pub(crate) free_map_copies: usize,
    /// The last batch that counts.
    pub(crate) last_sequence: u64,
    /// The highest sequence that any batch has.
    seen_sequence: u64,
    /// Where in the journal the next batch goes.
    journal_next: u64,
    /// Batches that were replayed.
    pub(crate) batches: usize,
    /// Whether the last batch was torn, and dropped.
    pub(crate) dropped: bool,
}

/// The batches of the journal, and where they begin in it.
struct Found {
    /// Those that the root does not cover, by sequence, and the place behind each.
    batches: BTreeMap<u64, (u64, Batch)>,
    /// The highest sequence that something says is stable.
    stable: u64,
    /// The highest root that something was written under.
    root_sequence: u64,
    seen_sequence: u64,
    /// Behind the last idle mark.
    marks_end: u64,
}

impl Image {
    pub(crate) fn read(medium: &dyn Medium, identity: &Identity) -> Result<Self, StoreError> {
        let checksums = Checksums::of_store(identity.store);
        let root = Root::read(medium, checksums)?;
        if root.sequence < identity.root_sequence {
            return Err(StoreError::RootDamaged);
        }
        let (map, free_map, free_map_copies) = read_free_map(medium, checksums, &root)?;
        let found = find_batches(medium, checksums, identity, &root, &map.journal)?;
        if root.sequence < found.root_sequence {
            return Err(StoreError::RootDamaged);
        }
        let mut image = Self {
            overlay: SpanMap::new(),
            blocks: map.blocks,
            totals: root.totals,
            journal: map.journal,
            free_map,
            free_map_copies,
            last_sequence: root.covered,
            seen_sequence: found.seen_sequence,
            journal_next: found.marks_end,
            batches: 0,
            dropped: false,
            root,
        };
        for (end, batch) in found.batches.into_values() {
            if batch.header.previous != image.last_sequence {
                return Err(image.missing());
            }
            let in_doubt = batch.header.sequence > found.stable;
            if in_doubt && !data_matches(medium, checksums, &batch)? {
                image.dropped = true;
                break;
            }
            image.replay(&batch)?;
            image.journal_next = image.journal_next.max(end);
        }
        if found.stable > image.last_sequence {
            return Err(image.missing());
        }
        image.add_unnamed_space(medium)?;
        Ok(image)
    }

    fn missing(&self) -> StoreError {
        StoreError::JournalDamaged {
            after: self.last_sequence,
        }
    }

    fn replay(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let sequence = batch.header.sequence;
        for record in &batch.records {
            let (first, last) = bounds(record.range);
            let stamp = record.stamp;
            let RecordContent::Data { slot, checksums } = &record.content else {
                lay(&mut self.overlay, first, last, Entry::Tombstone { stamp });
                continue;
            };
            let slots = Run::new(*slot, u64::from(record.range.count()));
            if !self.blocks.claim(slots) {
                let what = format!("batch {sequence} writes to blocks in use: {slots:?}");
                return Err(StoreError::inconsistent(what));
            }
            for ((address, slot), &checksum) in (first..=last).zip(*slot..).zip(checksums) {
                let entry = Entry::Data {
                    stamp,
                    slot,
                    checksum,
                };
                self.overlay.set(address, address, entry);
            }
        }
        for run in batch.records.iter().flat_map(|record| &record.freed) {
            if !self.blocks.free(*run) {
                let what = format!("batch {sequence} frees blocks not in use: {run:?}");
                return Err(StoreError::inconsistent(what));
            }
        }
        self.totals = batch.header.totals;
        self.last_sequence = sequence;
        self.batches += 1;
        Ok(())
    }

    /// What the file has behind everything that root and batches name: it grew in vain.
    fn add_unnamed_space(&mut self, medium: &dyn Medium) -> Result<(), StoreError> {
        let length = medium
            .length()
            .map_err(StoreError::io("asking for the file's length"))?;
        if length > self.blocks.end {
            let run = Run::new(self.blocks.end, length - self.blocks.end);
            self.blocks.released.insert(run);
            self.blocks.end = length;
        }
        Ok(())
    }

    /// The identity with which the next incarnation begins.
    fn next_identity(&self, identity: &Identity) -> Result<Identity, StoreError> {
        let incarnation = identity.incarnation.0.checked_add(1);
        let highest = self
            .seen_sequence
            .max(self.last_sequence)
            .max(identity.first_sequence);
        Ok(Identity {
            revision: identity.revision + 1,
            incarnation: Incarnation(incarnation.ok_or(StoreError::IncarnationsExhausted)?),
            believed: self.last_sequence,
            // Behind the highest there may be one more that can not be read now, and might later.
            first_sequence: highest + 2,
            root_sequence: self.root.sequence,
            ..identity.clone()
        })
    }
}

/// Recovers the store and begins a new incarnation: durable on return, as is everything that the
/// engine shows.
pub(crate) fn start(
    medium: Arc<dyn Medium>,
    identity: &Identity,
    first_copy: usize,
    cache_bytes: usize,
) -> Result<(Engine, Identity), StoreError> {
    let image = Image::read(&*medium, identity)?;
    let identity = image.next_identity(identity)?;
    identity.write(&*medium, first_copy)?;
    release_again(&*medium, &image.blocks);
    let state = State {
        space: Space::new(image.blocks),
        journal: Journal::new(image.journal, image.journal_next),
        last_sequence: identity.believed,
        next_sequence: identity.first_sequence,
        totals: image.totals,
        root_sequence: image.root.sequence,
        settle_records: 0,
        map_size: image.root.map_size,
        covered: image.root.covered,
        free_map: image.free_map,
        marked: identity.believed,
    };
    let engine = Engine::new(
        medium,
        identity.store,
        identity.incarnation,
        PageCache::with_bytes(cache_bytes),
        Index::new(
            image.root.map,
            image.root.map_size.floors > 0,
            image.overlay,
        ),
        state,
    );
    Ok((engine, identity))
}

/// Blocks that are released and still backed: the crash came between the root and giving them back,
/// or between growing and using what grew.
fn release_again(medium: &dyn Medium, blocks: &FreeBlocks) {
    for run in blocks.released.runs() {
        if let Err(error) = medium.release(run) {
            tracing::debug!(%error, "the file system takes no space back");
            break;
        }
    }
}

fn read_free_map(
    medium: &dyn Medium,
    checksums: Checksums,
    root: &Root,
) -> Result<(FreeMap, Vec<Run>, usize), StoreError> {
    let mut map = None;
    let mut runs = Vec::new();
    let mut whole = 0;
    for copy in root.space {
        if let Some(copy) = read_chunks(medium, checksums, copy)? {
            runs.extend(copy.runs);
            whole += 1;
            map = map.or_else(|| FreeMap::decode(&copy.stream));
        } else {
            tracing::warn!("one copy of the free map is damaged; the other one is used");
        }
    }
    Ok((map.ok_or(StoreError::SpaceDamaged)?, runs, whole))
}

/// Reads the whole journal.
fn find_batches(
    medium: &dyn Medium,
    checksums: Checksums,
    identity: &Identity,
    root: &Root,
    journal: &[Run],
) -> Result<Found, StoreError> {
    let blocks = read_runs(medium, journal)?;
    let places: Vec<u64> = journal
        .iter()
        .flat_map(|run| run.first..run.end())
        .collect();
    let mut found = Found {
        batches: BTreeMap::new(),
        stable: root.covered.max(identity.believed),
        root_sequence: 0,
        seen_sequence: 0,
        marks_end: 0,
    };
    let mut index = 0;
    while index < blocks.len() {
        let batch = batch::decode(checksums, identity.store, places[index], &blocks[index..]);
        let Some(batch) = batch else {
            index += 1;
            continue;
        };
        index += usize::try_from(batch.blocks).expect("it lies in memory");
        let end = u64::try_from(index).expect("memory is smaller");
        found.add(identity, root, end, batch)?;
    }
    Ok(found)
}

impl Found {
    /// Sorts out a whole batch that ends at `end`.
    fn add(
        &mut self,
        identity: &Identity,
        root: &Root,
        end: u64,
        batch: Batch,
    ) -> Result<(), StoreError> {
        let header = &batch.header;
        if header.incarnation > identity.incarnation {
            // Both copies of the identity are older than what was written under it.
            return Err(StoreError::IdentityDamaged);
        }
        self.seen_sequence = self.seen_sequence.max(header.sequence);
        self.root_sequence = self.root_sequence.max(header.root_sequence);
        let dropped =
            header.incarnation < identity.incarnation && header.sequence > identity.believed;
        if dropped {
            return Ok(());
        }
        self.stable = self.stable.max(header.stable);
        if header.sequence <= root.covered {
            return Ok(());
        }
        match header.kind {
            BatchKind::IdleMark => self.marks_end = self.marks_end.max(end),
            BatchKind::Batch => {
                self.batches.insert(header.sequence, (end, batch));
            }
        }
        Ok(())
    }
}

/// Whether all data of the batch are what its records say.
fn data_matches(
    medium: &dyn Medium,
    checksums: Checksums,
    batch: &Batch,
) -> Result<bool, StoreError> {
    for record in &batch.records {
        let RecordContent::Data {
            slot,
            checksums: expected,
        } = &record.content
        else {
            continue;
        };
        let run = Run::new(*slot, u64::from(record.range.count()));
        let blocks = read_runs(medium, &[run])?;
        let bytes: &[u8] = bytemuck::cast_slice(&blocks);
        let matches = record
            .range
            .addresses()
            .zip(bytes.chunks_exact(SECTOR_SIZE))
            .zip(expected)
            .all(|((address, bytes), sum)| checksums.data(address, record.stamp, bytes) == *sum);
        if !matches {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Reads runs one after another; blocks that the device lost read as zeroes, which no checksum
/// here lets pass.
fn read_runs(medium: &dyn Medium, runs: &[Run]) -> Result<Vec<Block>, StoreError> {
    const PIECE: u64 = 256;
    let length = usize::try_from(total(runs)).expect("it lies in memory");
    let mut blocks = vec![Block::ZERO; length];
    let mut rest = &mut blocks[..];
    for run in runs {
        let mut left = Some(*run);
        while let Some(run) = left {
            let (piece, others) = run.split_at(PIECE);
            let count = usize::try_from(piece.count).expect("it lies in memory");
            let (into, behind) = rest.split_at_mut(count);
            read_tolerant(medium, piece.first, into)?;
            rest = behind;
            left = others;
        }
    }
    Ok(blocks)
}
