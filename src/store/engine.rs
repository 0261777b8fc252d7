//! The store without its threads: everything that is shared between those who commit, check point
//! and read, driven step by step and without a clock.
//!
//! No lock is held while the medium is asked for anything. The two locks are never held together.

use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::block::{Block, Run};
use super::budget::Budget;
use super::cache::{Found, PageCache};
use super::checksum::Checksums;
use super::error::StoreError;
use super::index::Index;
use super::journal::Journal;
use super::medium::{Medium, is_media_error};
use super::page::{Page, PageRef};
use super::root::{MapSize, Totals};
use super::space::Space;
use super::tree::Missing;
use crate::domain::{Incarnation, StoreId};

/// A recovered store.
pub(crate) struct Engine {
    pub(crate) medium: Arc<dyn Medium>,
    pub(crate) checksums: Checksums,
    pub(crate) store: StoreId,
    pub(crate) incarnation: Incarnation,
    pub(crate) cache: PageCache,
    index: RwLock<Index>,
    state: Mutex<State>,
}

/// What only committing and check pointing use.
pub(crate) struct State {
    pub(crate) space: Space,
    pub(crate) journal: Journal,
    /// The last batch that is stable.
    pub(crate) last_sequence: u64,
    /// The next batch's sequence.
    pub(crate) next_sequence: u64,
    /// As of the last stable batch.
    pub(crate) totals: Totals,
    /// The durable root's.
    pub(crate) root_sequence: u64,
    pub(crate) map_size: MapSize,
    /// The last batch that the durable root covers.
    pub(crate) covered: u64,
    /// Blocks of the durable root's free map.
    pub(crate) free_map: Vec<Run>,
    /// The last batch of which a durable mark says that it is stable.
    pub(crate) marked: u64,
    /// Records of the journal that raised the floor, since the start.
    pub(crate) settle_records: u64,
}

/// How much there is of everything.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Sectors that hold data.
    pub data_sectors: u64,
    /// Sectors that were trimmed and whose stamp is kept.
    pub tombstone_sectors: u64,
    /// Blocks of 4096 bytes that the file takes, in use or not.
    pub blocks: u64,
    /// Of these, blocks that hold nothing.
    pub blocks_free: u64,
    /// Blocks of the journal.
    pub journal_blocks: u64,
    /// Of these, blocks that a start would have to replay.
    pub journal_filled: u64,
    /// Entries of the overlay in memory.
    pub overlay_entries: u64,
    /// Pages of the map.
    pub map_pages: u64,
    /// Of these, pages in memory.
    pub map_pages_cached: u64,
    /// Sectors that were found damaged and not healed since.
    pub damaged_sectors: u64,
    /// Stores wait for space in the file system.
    pub waits_for_space: bool,
    /// Records that settled ranges of sectors without their values, since the start: one for each
    /// range, or fewer where ranges that were asked for together are neighbours.
    pub settle_records: u64,
    /// Spans of sectors that were settled so, about: those that were settled again since the last
    /// checkpoint may count twice.
    pub floors: u64,
}

impl Engine {
    pub(crate) fn new(
        medium: Arc<dyn Medium>,
        store: StoreId,
        incarnation: Incarnation,
        cache: PageCache,
        index: Index,
        state: State,
    ) -> Self {
        Self {
            medium,
            checksums: Checksums::of_store(store),
            store,
            incarnation,
            cache,
            index: RwLock::new(index),
            state: Mutex::new(state),
        }
    }

    pub(crate) fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().expect("nothing panics under the lock")
    }

    pub(crate) fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().expect("nothing panics under the lock")
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics under the lock")
    }

    /// Reads a page and keeps it in the cache.
    pub(crate) fn fetch(&self, missing: Missing) -> Result<Found, StoreError> {
        let reference = missing.page;
        let found = read_page(&*self.medium, self.checksums, &reference)?;
        // A page of an older map may have been overwritten since; then nobody asks for it again.
        let current = self.index().root() == Some(&missing.root);
        if !current {
            return Ok(found);
        }
        if matches!(found, Found::Damaged) {
            tracing::error!(
                block = reference.block,
                "a page of the map is damaged: the sectors that it covers have no vote here"
            );
        }
        self.cache.insert(&reference, found.clone());
        Ok(found)
    }

    /// Makes more blocks free, a growth step at least.
    pub(crate) fn grow(&self, wanted: u64) -> Result<(), StoreError> {
        let runs = {
            let mut state = self.state();
            let step = Budget::new(state.space.used()).growth();
            state.space.begin_growth(wanted.max(step))
        };
        let mut outcome = Ok(());
        for run in runs {
            if outcome.is_ok() {
                outcome = self.medium.allocate(run);
            }
            self.state().space.end_growth(run, outcome.is_ok());
        }
        outcome.map_err(StoreError::io("growing the file"))
    }

    pub(crate) fn statistics(&self) -> Statistics {
        let (overlay, floors, damaged) = {
            let index = self.index();
            (
                index.overlay_spans(),
                index.overlay_floors(),
                index.damaged_sectors(),
            )
        };
        let count = |number: usize| u64::try_from(number).expect("memory is smaller");
        let state = self.state();
        Statistics {
            data_sectors: state.totals.data,
            tombstone_sectors: state.totals.tombstones,
            blocks: state.space.backed(),
            blocks_free: state.space.free(),
            journal_blocks: state.journal.blocks(),
            journal_filled: state.journal.filled(),
            overlay_entries: count(overlay),
            map_pages: state.map_size.leaves + state.map_size.inner,
            map_pages_cached: count(self.cache.len()),
            damaged_sectors: count(damaged),
            waits_for_space: false,
            settle_records: state.settle_records,
            floors: state.map_size.floors + count(floors),
        }
    }
}

/// Reads a page from the medium and checks it. A block that the device can not read is damaged.
pub(crate) fn read_page(
    medium: &dyn Medium,
    checksums: Checksums,
    reference: &PageRef,
) -> Result<Found, StoreError> {
    let mut block = [Block::ZERO];
    match medium.read(reference.block, bytemuck::cast_slice_mut(&mut block)) {
        Ok(()) => Ok(Page::open(checksums, *reference, &block[0])
            .map_or(Found::Damaged, |page| Found::Whole(Arc::new(page)))),
        Err(error) if is_media_error(&error) => Ok(Found::Damaged),
        Err(error) => Err(StoreError::io("reading a page of the map")(error)),
    }
}
