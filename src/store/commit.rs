//! Committing: from requests to a batch that is stable.
//!
//! Only one thread commits. A batch goes through three steps, and the order is what the store's
//! promises rest on:
//! 1. *prepare*: compare stamps, take slots and journal blocks, all of them backed by space;
//! 2. *write*: data and records, then one sync;
//! 3. *publish*: the index names the new values, then the replaced slots become free, and only
//!    then are the requests completed and the next batch is prepared.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;

use bytes::Bytes;

use super::assembly::Assembly;
use super::batch::{self, BatchKind, HEADER_BYTES, Header};
use super::block::{BLOCK_SIZE, BLOCK_SIZE_U64, Run, blocks_for, total};
use super::budget::{BATCH_SECTORS_MAX, Budget, OVERLAY_SPANS_MAX};
use super::engine::{Engine, State};
use super::entry::Entry;
use super::error::StoreError;
use super::manager::Completions;
use super::medium::Medium;
use super::page::LEAF_ITEMS_MAX;
use super::plan::{Pending, Plan, Planned, Progress, Room};
use super::root::Totals;
use super::spans::Span;
use super::tree::{Missing, Pinned};

/// A request of which every sector is stable, or that was refused.
pub(crate) struct Done {
    pub(crate) token: u64,
    pub(crate) completions: Arc<dyn Completions>,
}

/// What came of preparing.
#[derive(Default)]
pub(crate) struct Prepared {
    /// Stable already: nothing of these is in the batch.
    pub(crate) done: Vec<Done>,
    /// These must not be acknowledged.
    pub(crate) refused: Vec<Done>,
    /// These need a page first, and are to come back with it.
    pub(crate) missing: Vec<(Pending, Missing)>,
    /// What is to be written, if anything.
    pub(crate) batch: Option<PreparedBatch>,
    /// Why requests stayed in the queue, if something has to happen first.
    pub(crate) blocked: Option<Blocked>,
}

/// What requests wait for.
#[derive(Debug)]
pub(crate) enum Blocked {
    /// For a checkpoint to let journal blocks go.
    Journal,
    /// For space in the file system.
    Space(StoreError),
}

/// A batch that has its place.
pub(crate) struct PreparedBatch {
    sequence: u64,
    totals: Totals,
    writes: Vec<(u64, Vec<Bytes>)>,
    journal: Vec<u8>,
    journal_place: Vec<Run>,
    entries: Vec<Span<Entry>>,
    freed: Vec<Run>,
    settle_records: u64,
    done: Vec<Done>,
}

/// Requests as they were planned.
#[derive(Default)]
struct Sorted {
    done: Vec<Done>,
    refused: Vec<Done>,
    with_batch: Vec<Pending>,
    unfinished: VecDeque<(Pending, Progress)>,
    missing: Vec<(Pending, Progress, Missing)>,
}

impl Engine {
    /// Takes from the queue what fits into a batch. What is left in it comes later.
    pub(crate) fn prepare(&self, queue: &mut VecDeque<Pending>) -> Prepared {
        let Some(mut room) = self.room() else {
            return Prepared {
                blocked: Some(Blocked::Journal),
                ..Prepared::default()
            };
        };
        let mut done = Vec::new();
        let mut refused = Vec::new();
        let mut blocked: Option<Blocked> = None;
        loop {
            let mut plan = Plan::new(room);
            let mut sorted = self.plan(queue, &mut plan, blocked.is_some());
            done.append(&mut sorted.done);
            refused.append(&mut sorted.refused);
            match self.take_slots(plan.data_sectors()) {
                Ok(slots) => {
                    let mut prepared = self.accept(&plan, &slots, sorted, queue);
                    prepared.done.append(&mut done);
                    prepared.refused = refused;
                    prepared.blocked = blocked;
                    return prepared;
                }
                Err(error) => {
                    sorted.restore(queue);
                    // The second time someone else took the last blocks meanwhile.
                    let first_time = blocked.is_none();
                    room.data = if first_time {
                        self.state().space.free()
                    } else {
                        0
                    };
                    blocked = Some(Blocked::Space(error));
                }
            }
        }
    }

    /// What the next batch may take, or `None` while the journal is full.
    fn room(&self) -> Option<Room> {
        let overlay_spans = self.index().active_spans();
        let state = self.state();
        let budget = Budget::new(state.space.used());
        let blocks = state.journal.room();
        let header_bytes = u64::try_from(HEADER_BYTES).expect("a small number");
        (blocks > 0 && overlay_spans < 2 * OVERLAY_SPANS_MAX).then(|| Room {
            data: BATCH_SECTORS_MAX,
            replaced: budget.replaced(),
            journal_bytes: blocks * BLOCK_SIZE_U64 - header_bytes,
        })
    }

    /// Plans the queue's requests in order. Without space, those that need none go ahead.
    fn plan(&self, queue: &mut VecDeque<Pending>, plan: &mut Plan, without_space: bool) -> Sorted {
        let mut sorted = Sorted::default();
        let index = self.index();
        while let Some(pending) = queue.pop_front() {
            let pages = Pinned {
                cache: &self.cache,
                pages: &pending.pinned,
            };
            match plan.add(&index, &pages, &pending) {
                Planned::Whole { stable: true } => sorted.done.push(pending.done()),
                Planned::Whole { stable: false } => sorted.with_batch.push(pending),
                Planned::Missing { progress, page } => {
                    sorted.missing.push((pending, progress, page));
                }
                Planned::Part { progress } => {
                    sorted.unfinished.push_back((pending, progress));
                    if !without_space {
                        break;
                    }
                }
                Planned::Refused => {
                    tracing::warn!(
                        token = pending.request.token,
                        "not stored: the damaged copy of a sector may be newer"
                    );
                    sorted.refused.push(pending.done());
                }
            }
        }
        sorted
    }

    /// Free slots, for which the file grows where it must.
    fn take_slots(&self, wanted: u64) -> Result<Vec<Run>, StoreError> {
        if wanted == 0 {
            return Ok(Vec::new());
        }
        let overlay_spans = self.index().overlay_spans();
        loop {
            let lacking = {
                let mut state = self.state();
                let needed = wanted + state.reserve(overlay_spans);
                if state.space.free() >= needed {
                    return Ok(state.space.take(wanted));
                }
                needed - state.space.free()
            };
            match self.grow(lacking) {
                Ok(()) => {}
                Err(error) if error.is_full() => {
                    let mut state = self.state();
                    let slots = state.space.take(wanted);
                    if total(&slots) == wanted {
                        return Ok(slots);
                    }
                    for run in slots {
                        state.space.give(run);
                    }
                    return Err(error);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn accept(
        &self,
        plan: &Plan,
        slots: &[Run],
        sorted: Sorted,
        queue: &mut VecDeque<Pending>,
    ) -> Prepared {
        for (mut pending, progress) in sorted.unfinished.into_iter().rev() {
            pending.progress = progress;
            queue.push_front(pending);
        }
        let missing = sorted
            .missing
            .into_iter()
            .map(|(mut pending, progress, page)| {
                pending.progress = progress;
                (pending, page)
            });
        let mut prepared = Prepared {
            missing: missing.collect(),
            ..Prepared::default()
        };
        let with_batch = sorted.with_batch.into_iter().map(Pending::done);
        if plan.is_empty() {
            prepared.done.extend(with_batch);
            return prepared;
        }
        let assembly = Assembly::new(self.checksums, plan, slots);
        let mut state = self.state();
        let totals = plan.totals(state.totals);
        let length = HEADER_BYTES + assembly.record_bytes();
        let blocks = u64::try_from(blocks_for(length)).expect("a batch is bounded");
        let journal_place = state.journal.take(blocks);
        let sequence = state.next_sequence;
        let header = Header {
            kind: BatchKind::Batch,
            incarnation: self.incarnation,
            sequence,
            previous: state.last_sequence,
            stable: state.last_sequence,
            root_sequence: state.root_sequence,
            totals,
        };
        drop(state);
        prepared.batch = Some(PreparedBatch {
            sequence,
            totals,
            journal: self.encode(&journal_place, &header, &assembly.records),
            journal_place,
            writes: assembly.writes,
            entries: assembly.entries,
            freed: assembly.freed,
            settle_records: assembly.settle_records,
            done: with_batch.collect(),
        });
        prepared
    }

    fn encode(&self, place: &[Run], header: &Header, records: &[batch::Record]) -> Vec<u8> {
        batch::encode(self.checksums, self.store, place[0].first, header, records)
    }

    /// Writes data and records and makes them durable.
    pub(crate) fn write(&self, batch: &PreparedBatch) -> Result<(), StoreError> {
        for (slot, pieces) in &batch.writes {
            let pieces: Vec<IoSlice<'_>> = pieces.iter().map(|bytes| IoSlice::new(bytes)).collect();
            self.medium
                .write(*slot, &pieces)
                .map_err(StoreError::io("writing sectors"))?;
        }
        write_across(&*self.medium, &batch.journal_place, &batch.journal)
            .map_err(StoreError::io("writing the journal"))?;
        self.medium
            .sync()
            .map_err(StoreError::io("syncing a batch"))
    }

    /// Makes a batch visible that is durable.
    pub(crate) fn publish(&self, batch: PreparedBatch) -> Vec<Done> {
        self.index_mut().publish(&batch.entries);
        let mut state = self.state();
        state.last_sequence = batch.sequence;
        state.next_sequence = batch.sequence + 1;
        state.totals = batch.totals;
        state.settle_records += batch.settle_records;
        // The index no longer names them, so from now on whoever reads one of them sees by the
        // checksum that it was too late.
        for run in batch.freed {
            state.space.give(run);
        }
        batch.done
    }

    /// Writes a mark that the last batch is stable, so that damage to it can not be taken for a
    /// write that was torn. Nothing if there is no need, or no room.
    pub(crate) fn mark_idle(&self) -> Result<(), StoreError> {
        let (place, header) = {
            let mut state = self.state();
            let last = state.last_sequence;
            if last <= state.marked.max(state.covered) || state.journal.room() == 0 {
                return Ok(());
            }
            state.marked = last;
            let header = Header {
                kind: BatchKind::IdleMark,
                incarnation: self.incarnation,
                sequence: last,
                previous: last,
                stable: last,
                root_sequence: state.root_sequence,
                totals: state.totals,
            };
            (state.journal.take(1), header)
        };
        let bytes = self.encode(&place, &header, &[]);
        write_across(&*self.medium, &place, &bytes)
            .and_then(|()| self.medium.sync())
            .map_err(StoreError::io("marking the journal"))
    }
}

impl State {
    /// Blocks to leave free for a checkpoint, so that a full file system can not keep it from
    /// letting journal blocks and replaced slots go. An estimate; when it is short, the checkpoint
    /// waits for space as everyone does.
    pub(crate) fn reserve(&self, overlay_spans: usize) -> u64 {
        let spans = u64::try_from(overlay_spans).expect("memory is smaller");
        let leaf_items = u64::try_from(LEAF_ITEMS_MAX).expect("a small number");
        let leaves = spans.min(self.map_size.leaves) + spans / leaf_items + 1;
        let inner = leaves.min(self.map_size.inner) + 1;
        let needed = leaves + inner + total(&self.free_map) + 2;
        // A checkpoint under way has taken its share; what it replaces is there for the next.
        needed.saturating_sub(self.space.taken_for_root())
    }
}

impl Pending {
    fn done(self) -> Done {
        Done {
            token: self.request.token,
            completions: self.completions,
        }
    }
}

impl Sorted {
    /// Puts back what is not stable already.
    fn restore(self, queue: &mut VecDeque<Pending>) {
        let unfinished = self.unfinished.into_iter().map(|(pending, _)| pending);
        let missing = self.missing.into_iter().map(|(pending, ..)| pending);
        let all = self.with_batch.into_iter().chain(unfinished).chain(missing);
        all.rev().for_each(|pending| queue.push_front(pending));
    }
}

/// Writes bytes that are as long as the runs into them.
fn write_across(medium: &dyn Medium, runs: &[Run], bytes: &[u8]) -> std::io::Result<()> {
    let mut rest = bytes;
    for run in runs {
        let length = usize::try_from(run.count).expect("it lies in memory") * BLOCK_SIZE;
        let (piece, others) = rest.split_at(length);
        medium.write(run.first, &[IoSlice::new(piece)])?;
        rest = others;
    }
    Ok(())
}
