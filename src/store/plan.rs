//! What goes into the next batch: each sector's newest value among what is asked for, where it is
//! newer than what is stable.

use std::sync::Arc;

use bytes::Bytes;

use super::cache::Found;
use super::entry::{Entry, bounds};
use super::floor::Raised;
use super::index::{Compared, Index, Known};
use super::manager::{Completions, StoreRequest};
use super::page::PageRef;
use super::raise::lookup_for;
use super::root::Totals;
use super::spans::{Span, SpanMap};
use super::tree::{Missing, Pages};
use crate::domain::{Content, Extent, SECTOR_SIZE, Stamp};

/// A request that is not completed, and how far it has got.
pub(crate) struct Pending {
    pub(crate) request: StoreRequest,
    pub(crate) completions: Arc<dyn Completions>,
    /// What is done or in a batch.
    pub(crate) progress: Progress,
    /// Pages that were fetched for this request.
    pub(crate) pinned: Vec<(PageRef, Found)>,
}

impl Pending {
    /// What has to be looked up for what is not yet planned: first and last address each.
    pub(crate) fn lookups_left(&self) -> impl Iterator<Item = (u64, u64)> {
        let Progress { extent, sector } = self.progress;
        let extents = self.request.extents[extent..].iter().enumerate();
        extents.filter_map(move |(place, extent)| {
            let skipped = if place == 0 { sector } else { 0 };
            let left = extent
                .range
                .count()
                .checked_sub(skipped)
                .filter(|left| *left > 0)?;
            Some(lookup_for(extent, extent.range.part(skipped, left)))
        })
    }
}

/// The first extent that is not yet planned, and the first sector in it.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    extent: usize,
    sector: u32,
}

/// What became of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Planned {
    /// All of it is stable, or will be with this batch.
    Whole {
        /// Nothing of it is in this batch, or waits for another request's value in it.
        stable: bool,
    },
    /// The batch has no room for the rest.
    Part { progress: Progress },
    /// A page is needed first. What was planned before it stays planned.
    Missing { progress: Progress, page: Missing },
    /// It has a lower stamp than a copy may have had that is lost with its stamp: it must not be
    /// acknowledged.
    Refused,
}

/// What a batch may take.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Room {
    /// Slots for data.
    pub(crate) data: u64,
    /// Slots that are replaced.
    pub(crate) replaced: u64,
    /// Bytes of the journal.
    pub(crate) journal_bytes: u64,
}

/// No record of one sector of data, with what splitting others around it costs, is longer.
const DATA_COST: u64 = 128;
/// No record of a tombstone is longer, with what splitting another around it costs, but without the
/// slots that it frees.
pub(super) const TOMBSTONE_COST: u64 = 96;
/// What one run of freed slots takes.
const FREED_COST: u64 = 12;
/// How many spans of an extent are looked up at a time.
pub(super) const LOOKUP_SPANS: usize = 512;

/// The values of a batch.
pub(crate) struct Plan {
    pub(super) values: SpanMap<Value>,
    /// What the planned sectors were before.
    before: SpanMap<Before>,
    /// The floors that the batch raises.
    pub(super) raised: Raised,
    pub(super) room: Room,
}

/// A value for each sector of a span.
#[derive(Clone)]
pub(crate) struct Value {
    pub(crate) stamp: Stamp,
    /// The extent's bytes and the address that they begin with; `None` for a tombstone.
    pub(crate) data: Option<(Bytes, u64)>,
}

/// What a sector was, as far as the batch changes it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Before {
    Data { slot: u64 },
    Tombstone,
}

impl Value {
    /// The bytes of `first..=last`.
    pub(crate) fn bytes(&self, first: u64, last: u64) -> Option<Bytes> {
        let (bytes, base) = self.data.as_ref()?;
        let start = usize::try_from(first - base).expect("an extent lies in memory");
        let count = usize::try_from(last - first + 1).expect("an extent lies in memory");
        Some(bytes.slice(start * SECTOR_SIZE..(start + count) * SECTOR_SIZE))
    }
}

impl Plan {
    pub(crate) const fn new(room: Room) -> Self {
        Self {
            values: SpanMap::new(),
            before: SpanMap::new(),
            raised: Raised::new(),
            room,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty() && self.raised.is_empty()
    }

    /// The floors that the batch raises.
    pub(crate) const fn raised(&self) -> &Raised {
        &self.raised
    }

    /// The values in order of address.
    pub(crate) fn values(&self) -> impl Iterator<Item = Span<&Value>> {
        self.values.iter()
    }

    /// What the sectors of `first..=last` were before, ascending.
    pub(crate) fn before(&self, first: u64, last: u64) -> impl Iterator<Item = Span<&Before>> {
        self.before.within(first, last)
    }

    /// How many slots the batch needs.
    pub(crate) fn data_sectors(&self) -> u64 {
        let data = self.values.iter().filter(|span| span.value.data.is_some());
        data.map(|span| span.count()).sum()
    }

    /// The totals after the batch.
    pub(crate) fn totals(&self, totals: Totals) -> Totals {
        let mut after = totals;
        for span in self.values.iter() {
            match span.value.data {
                Some(_) => after.data += span.count(),
                None => after.tombstones += span.count(),
            }
        }
        for span in self.before.iter() {
            match span.value {
                Before::Data { .. } => after.data -= span.count(),
                Before::Tombstone => after.tombstones -= span.count(),
            }
        }
        after
    }

    /// Plans a request from where it has got to.
    pub(crate) fn add(&mut self, index: &Index, pages: &impl Pages, pending: &Pending) -> Planned {
        let mut progress = pending.progress;
        let mut stable = true;
        while let Some(extent) = pending.request.extents.get(progress.extent) {
            let step = match extent.content {
                Content::Unchanged => self.add_floor(index, pages, extent, &mut progress.sector),
                _ => self.add_extent(index, pages, extent, &mut progress.sector),
            };
            match step {
                Ok(Step::Done { touched }) => stable &= !touched,
                Ok(Step::Full) => return Planned::Part { progress },
                Ok(Step::Refused) => return Planned::Refused,
                Err(page) => return Planned::Missing { progress, page },
            }
            progress = Progress {
                extent: progress.extent + 1,
                sector: 0,
            };
        }
        Planned::Whole { stable }
    }

    fn add_extent(
        &mut self,
        index: &Index,
        pages: &impl Pages,
        extent: &Extent,
        sector: &mut u32,
    ) -> Result<Step, Missing> {
        let mut newer = Newer::default();
        let outcome = self.compare(index, pages, extent, sector, &mut newer);
        let touched = newer.waits || !newer.ranges.is_empty();
        for (first, last) in newer.ranges {
            self.propose(extent, first, last);
        }
        outcome.map(|()| match newer.stopped {
            None => Step::Done { touched },
            Some(stop) => stop,
        })
    }

    /// Finds the extent's sectors that are newer than what is stable, from `sector` on, as far as
    /// there is room.
    fn compare(
        &mut self,
        index: &Index,
        pages: &impl Pages,
        extent: &Extent,
        sector: &mut u32,
        newer: &mut Newer,
    ) -> Result<(), Missing> {
        let (base, last) = bounds(extent.range);
        while *sector < extent.range.count() {
            let first = base + u64::from(*sector);
            for known in index.lookup(pages, (first, last), LOOKUP_SPANS)? {
                newer.stopped = self.add_known(extent, &known, newer);
                if newer.stopped.is_some() {
                    return Ok(());
                }
                *sector = u32::try_from(known.last - base + 1).expect("within the extent");
            }
        }
        Ok(())
    }

    /// Plans those sectors of the extent of which the same is known.
    fn add_known(
        &mut self,
        extent: &Extent,
        known: &Span<Known>,
        newer: &mut Newer,
    ) -> Option<Step> {
        let stable = known.value.compare(extent.stamp);
        if self.raised.is_empty() {
            return match stable {
                Compared::Newer => self.take(extent, known, newer),
                Compared::NotNewer => None,
                Compared::Refused => Some(Step::Refused),
            };
        }
        // What only the floors of this batch overtake is done when they are stable.
        newer.waits |= stable != Compared::NotNewer;
        for part in self.under_raised(extent.stamp, known) {
            let stopped = match part.value {
                Compared::Newer => {
                    let (first, last) = (part.first, part.last);
                    let part = Span {
                        first,
                        last,
                        ..*known
                    };
                    self.take(extent, &part, newer)
                }
                Compared::NotNewer => None,
                Compared::Refused => Some(Step::Refused),
            };
            if stopped.is_some() {
                return stopped;
            }
        }
        None
    }

    /// Plans sectors for which the extent is newer than what is stable.
    fn take(&mut self, extent: &Extent, known: &Span<Known>, newer: &mut Newer) -> Option<Step> {
        let count = known.count();
        let is_data = matches!(extent.content, Content::Data(_));
        let before = match known.value.entry {
            Some(Entry::Data { slot, .. }) => Some(Before::Data { slot }),
            Some(Entry::Tombstone { .. }) => Some(Before::Tombstone),
            Some(Entry::Lost { .. }) | None => None,
        };
        let replaced = match before {
            Some(Before::Data { .. }) => count,
            _ => 0,
        };
        let cost = if is_data {
            count * DATA_COST
        } else if newer.goes_on_at(known.first) {
            replaced * FREED_COST
        } else {
            TOMBSTONE_COST + replaced * FREED_COST
        };
        let data = if is_data { count } else { 0 };
        let fits = data <= self.room.data
            && replaced <= self.room.replaced
            && cost <= self.room.journal_bytes;
        if !fits {
            return Some(self.take_front(extent, known, newer));
        }
        self.room.data -= data;
        self.room.replaced -= replaced;
        self.room.journal_bytes -= cost;
        if let Some(before) = before {
            self.before.set(known.first, known.last, before);
        }
        newer.push(known.first, known.last);
        None
    }

    /// Plans as much of a long gap as there is room for; what is left comes with the next batch,
    /// for which the sectors planned here are no longer newer.
    fn take_front(&mut self, extent: &Extent, known: &Span<Known>, newer: &mut Newer) -> Step {
        let most = self.room.data.min(self.room.journal_bytes / DATA_COST);
        let splits = matches!(extent.content, Content::Data(_)) && known.count() > most && most > 0;
        if splits {
            let front = Span {
                last: known.first + most - 1,
                ..*known
            };
            let stopped = self.take(extent, &front, newer);
            assert!(stopped.is_none(), "there is room for the front");
        }
        Step::Full
    }

    /// Sets the sectors for which the batch has nothing newer.
    fn propose(&mut self, extent: &Extent, first: u64, last: u64) {
        let newer: Vec<(u64, u64)> = self
            .values
            .within(first, last)
            .filter(|span| span.value.stamp >= extent.stamp)
            .map(|span| (span.first, span.last))
            .collect();
        let value = Value {
            stamp: extent.stamp,
            data: match &extent.content {
                Content::Zeroes => None,
                Content::Unchanged => unreachable!("it is no value"),
                Content::Data(bytes) => Some((bytes.clone(), extent.range.first().to_bits())),
            },
        };
        let mut next = Some(first);
        for (start, end) in newer {
            let from = next.expect("spans ascend");
            if from < start {
                self.values.set(from, start - 1, value.clone());
            }
            next = end.checked_add(1);
        }
        if let Some(from) = next.filter(|from| *from <= last) {
            self.values.set(from, last, value);
        }
    }
}

/// The sectors of an extent that are newer than what is stable: neighbours are one range, however
/// many entries they had before, so that an extent stays one record.
#[derive(Default)]
struct Newer {
    ranges: Vec<(u64, u64)>,
    /// Other sectors have something as new in the batch.
    waits: bool,
    /// Why the rest was not looked at.
    stopped: Option<Step>,
}

impl Newer {
    /// Whether a range that begins there is one with the range before it.
    fn goes_on_at(&self, first: u64) -> bool {
        self.ranges.last().is_some_and(|(_, end)| end + 1 == first)
    }

    fn push(&mut self, first: u64, last: u64) {
        match self.ranges.last_mut() {
            Some((_, end)) if *end + 1 == first => *end = last,
            _ => self.ranges.push((first, last)),
        }
    }
}

/// What became of a part of a request.
pub(super) enum Step {
    Done {
        /// It is, or waits for, a value of this batch.
        touched: bool,
    },
    Full,
    Refused,
}
