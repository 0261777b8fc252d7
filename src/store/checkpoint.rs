//! Checkpoints: what the journal says goes into the map, and a root names it.
//!
//! The order, and why a crash anywhere leaves one whole root and all that it needs:
//! 1. *freeze*, between two batches: from here on the overlay, the free blocks and the totals of
//!    this moment are kept aside. Batches go on behind it.
//! 2. Pages of the new map and the new free map are written to blocks that were free then.
//! 3. Sync.
//! 4. The root is written in the place of the one before the last.
//! 5. Sync.
//! 6. *thaw*: pages, free map and journal blocks that only the old root needs become free.

use std::io::IoSlice;
use std::sync::Arc;

use super::block::{BLOCK_SIZE, Run, push_run, total};
use super::budget::Budget;
use super::engine::Engine;
use super::entry::Entry;
use super::error::StoreError;
use super::free_map::{self, FreeMap};
use super::journal::part;
use super::rebuild::{Rebuilt, WaitForSpace, rebuild, take_for_root};
use super::root::{MapSize, Root, Totals};
use super::spans::SpanMap;

/// The moment that a checkpoint stands for.
pub(crate) struct Moment {
    overlay: Arc<SpanMap<Entry>>,
    covered: u64,
    totals: Totals,
    /// The journal's position: batches from here on are not in the checkpoint.
    position: u64,
    map_size: MapSize,
    sequence: u64,
}

/// The journal's blocks as the next root has them.
struct NextJournal {
    runs: Vec<Run>,
    /// Blocks of the old one that it does not keep.
    freed: Vec<Run>,
}

impl Engine {
    /// Begins a checkpoint. Only whoever commits may call this, between two batches.
    pub(crate) fn freeze(&self) -> Moment {
        let overlay = self.index_mut().freeze();
        let mut state = self.state();
        state.space.freeze();
        Moment {
            overlay,
            covered: state.last_sequence,
            totals: state.totals,
            position: state.journal.position(),
            map_size: state.map_size,
            sequence: state.root_sequence + 1,
        }
    }

    /// Writes the map and the root of the moment, and lets go what only the old root needed.
    /// Batches may be committed meanwhile.
    pub(crate) fn checkpoint(
        &self,
        moment: &Moment,
        wait: WaitForSpace<'_>,
    ) -> Result<(), StoreError> {
        let old_map = self.index().root().copied();
        let map = rebuild(
            self,
            old_map.as_ref(),
            moment.map_size,
            &moment.overlay,
            moment.sequence,
            wait,
        )?;
        let journal = self.next_journal(moment, wait)?;
        let (streams, released) = self.free_blocks(&map, &journal, wait)?;
        let copies = [&streams.copies[0], &streams.copies[1]].map(|blocks| {
            free_map::write_chunks(&*self.medium, self.checksums, &streams.stream, blocks)
        });
        let [first, second] = copies;
        let root = Root {
            sequence: moment.sequence,
            covered: moment.covered,
            totals: moment.totals,
            map_size: map.size,
            map: map.root,
            space: [first?, second?],
        };
        self.sync("syncing a checkpoint")?;
        root.write(&*self.medium, self.checksums)?;
        self.sync("syncing a root")?;
        let free_map = streams.copies.concat();
        self.thaw(moment, &root, &map.freed, &journal, free_map);
        self.release(&released);
        self.write_fresh()
    }

    fn sync(&self, doing: &str) -> Result<(), StoreError> {
        self.medium.sync().map_err(StoreError::io(doing))
    }

    /// What is kept of the journal, with what was passed and more behind it, as far as the store's
    /// size allows and wants it.
    fn next_journal(
        &self,
        moment: &Moment,
        wait: WaitForSpace<'_>,
    ) -> Result<NextJournal, StoreError> {
        let (passed, mut runs, wanted) = {
            let state = self.state();
            let (passed, kept) = state.journal.split(moment.position);
            let wanted = Budget::new(state.space.used()).journal();
            (passed, kept, wanted)
        };
        let lacking = wanted.saturating_sub(total(&runs));
        let again = lacking.min(total(&passed));
        for run in part(&passed, 0, again) {
            push_run(&mut runs, run);
        }
        let freed = part(&passed, again, total(&passed) - again);
        if lacking > again {
            // Its size is a wish: without space the journal stays as it is.
            let more = lacking - again;
            let free = self.state().space.free();
            if free < more
                && let Err(error) = self.grow(more - free)
            {
                tracing::debug!(%error, "the journal can not grow");
            }
            for run in take_for_root(self, more, 0, wait)? {
                self.write_once(run)?;
                push_run(&mut runs, run);
            }
        }
        Ok(NextJournal { runs, freed })
    }

    /// Writes zeroes. Space that is written the first time costs the file system a change of its
    /// own metadata in the same sync; batches should not pay for that.
    fn write_once(&self, run: Run) -> Result<(), StoreError> {
        let zeroes = vec![0; BLOCK_SIZE];
        let count = usize::try_from(run.count).expect("it lies in memory");
        let pieces = vec![IoSlice::new(&zeroes); count];
        self.medium
            .write(run.first, &pieces)
            .map_err(StoreError::io("writing new blocks"))
    }

    /// Writes free blocks that were never written, a few at a time, each with its own sync: the next
    /// batch's should have as little to write as can be.
    fn write_fresh(&self) -> Result<(), StoreError> {
        const PIECE: u64 = 64;
        const PIECES_MAX: usize = 64;
        for _ in 0..PIECES_MAX {
            let Some(run) = self.state().space.take_fresh(PIECE) else {
                break;
            };
            self.write_once(run)?;
            self.sync("syncing new blocks")?;
            self.state().space.make_free(run);
        }
        Ok(())
    }

    /// Frees in the moment's copy what only the old root needs, takes blocks for the copy itself,
    /// and gives the stream of it. Also the runs that it says are released.
    fn free_blocks(
        &self,
        map: &Rebuilt,
        journal: &NextJournal,
        wait: WaitForSpace<'_>,
    ) -> Result<(Streams, Vec<Run>), StoreError> {
        let released = {
            let mut state = self.state();
            let old_free_map = state.free_map.clone();
            let frozen = state.space.frozen_mut();
            for run in map.freed.iter().chain(&journal.freed).chain(&old_free_map) {
                assert!(frozen.free(*run), "only what is in use is freed: {run:?}");
            }
            let slack = Budget::new(state.space.used()).slack();
            state.space.begin_release(slack)
        };
        let mut copies = [Vec::new(), Vec::new()];
        loop {
            let blocks = self.state().space.frozen_mut().clone();
            let stream = FreeMap::encode(&journal.runs, &blocks);
            let short = copies.iter_mut().find_map(|blocks| {
                let lacking = stream.len().checked_sub(free_map::capacity(blocks))?;
                (lacking > 0).then_some((blocks, lacking))
            });
            let Some((blocks, lacking)) = short else {
                return Ok((Streams { stream, copies }, released));
            };
            let wanted = free_map::blocks_for_stream(lacking);
            // The blocks of the old free map are free in the moment's copy, but not yet to take.
            blocks.extend(take_for_root(self, wanted, 1, wait)?);
        }
    }

    fn thaw(
        &self,
        moment: &Moment,
        root: &Root,
        freed_pages: &[Run],
        journal: &NextJournal,
        free_map: Vec<Run>,
    ) {
        self.index_mut().thaw(root.map, root.map_size.floors > 0);
        let mut state = self.state();
        let old_free_map = std::mem::replace(&mut state.free_map, free_map);
        for run in freed_pages
            .iter()
            .chain(&journal.freed)
            .chain(&old_free_map)
        {
            state.space.give(*run);
        }
        state.space.thaw();
        state.journal.replace(journal.runs.clone(), moment.position);
        state.root_sequence = root.sequence;
        state.covered = root.covered;
        state.map_size = root.map_size;
    }

    /// Gives the space of blocks back that the durable root says are released.
    fn release(&self, runs: &[Run]) {
        for run in runs {
            if let Err(error) = self.medium.release(*run) {
                tracing::debug!(%error, "the file system takes no space back");
            }
            self.state().space.end_release(*run);
        }
    }
}

/// The stream of the free map, and the blocks of its two copies.
struct Streams {
    stream: Vec<u8>,
    copies: [Vec<Run>; 2],
}
