//! What is stable of every sector: the overlay of the journal's batches over the map.

use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::entry::{Entry, with_gaps};
use super::floor::{FLOORS, Floor, floors_of, is_floor, lay};
use super::page::PageRef;
use super::spans::{Span, SpanMap};
use super::tree::{Missing, Pages, lookup};
use crate::domain::{Generation, Stamp, Vote};

/// Where a sector's newest stable value is found.
///
/// The layers are consulted in this order: *active*, the batches since the last checkpoint began;
/// *frozen*, those that a checkpoint is about to put into the map; the map.
pub(crate) struct Index {
    active: SpanMap<Entry>,
    frozen: Arc<SpanMap<Entry>>,
    root: Option<PageRef>,
    /// No floor is higher; generation 0 while there is none.
    highest_floor: Generation,
    /// Whether the map has floors. If not, it is not asked for any.
    floors_in_map: bool,
    /// Sectors whose data was found damaged.
    damaged: BTreeSet<u64>,
}

/// How a stamp compares to what is known.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    /// It is newer, or heals a copy that is lost.
    Newer,
    /// What is there is as new.
    NotNewer,
    /// What was lost may have been newer.
    Refused,
}

/// What is known of a sector.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// The newest entry; `None` when the sector was never written.
    pub(crate) entry: Option<Entry>,
    /// Its data can not be read any more.
    pub(crate) damaged: bool,
    /// What raises the entry's stamp.
    pub(crate) floor: Floor,
}

impl Known {
    /// The stamp, or the highest that it may be: the entry's, under the floor.
    pub(crate) fn bound(&self) -> Stamp {
        self.stored().settled_under(self.floor.bound())
    }

    /// Whether the stamp is not known, but only that it is not above the bound.
    pub(crate) fn is_unknown(&self) -> bool {
        match (self.entry, self.floor) {
            (Some(Entry::Lost { .. }), _) => true,
            (_, Floor::Lost { bound }) => self.stored().settled < bound,
            (_, Floor::Known(_)) => false,
        }
    }

    /// The vote for the sector.
    pub(crate) fn vote(&self) -> Vote {
        if self.damaged || self.is_unknown() {
            Vote::Lost
        } else {
            Vote::Stamp(self.bound())
        }
    }

    /// A value of this stamp.
    pub(crate) const fn stored_now(stamp: Stamp) -> Self {
        Self {
            entry: Some(Entry::Tombstone { stamp }),
            damaged: false,
            floor: Floor::NONE,
        }
    }

    /// The same with the floor raised, which was no higher.
    pub(crate) const fn raised_to(self, generation: Generation) -> Self {
        Self {
            floor: Floor::Known(generation),
            ..self
        }
    }

    /// What a store of this stamp does.
    pub(crate) fn compare(&self, stamp: Stamp) -> Compared {
        match stamp.cmp(&self.bound()) {
            Ordering::Greater => Compared::Newer,
            Ordering::Equal if self.damaged || self.is_unknown() => Compared::Newer,
            Ordering::Less if self.is_unknown() => Compared::Refused,
            // Below a damaged copy of a known stamp it is as if the damage had come after the store.
            Ordering::Less | Ordering::Equal => Compared::NotNewer,
        }
    }

    /// The stamp that was stored, whatever the floor.
    fn stored(&self) -> Stamp {
        self.entry.map_or(Stamp::ZERO, |entry| entry.bound())
    }
}

impl Index {
    /// The index of this map, which has floors or not, and of the batches behind it.
    pub(crate) fn new(root: Option<PageRef>, floors_in_map: bool, active: SpanMap<Entry>) -> Self {
        let in_map = root
            .filter(|_| floors_in_map)
            .map(|root| root.bound.settled);
        let in_batches = active.within(FLOORS, u64::MAX);
        let in_batches = in_batches.map(|span| span.value.bound().settled);
        Self {
            highest_floor: in_map
                .into_iter()
                .chain(in_batches)
                .max()
                .unwrap_or_default(),
            floors_in_map,
            active,
            frozen: Arc::new(SpanMap::new()),
            root,
            damaged: BTreeSet::new(),
        }
    }

    /// What is known of `first..=last`, all of it in order, or as many spans as `most` and a few;
    /// of sectors with their floors, or of the floors themselves.
    pub(crate) fn lookup(
        &self,
        pages: &impl Pages,
        (first, last): (u64, u64),
        most: usize,
    ) -> Result<Vec<Span<Known>>, Missing> {
        let found = self.entries(pages, (first, last), most)?;
        let below_floors = |span: &Span<Known>| span.value.stored().settled < self.highest_floor;
        if is_floor(first) || !found.iter().any(below_floors) {
            return Ok(found);
        }
        let reached = found.last().map_or(last, |span| span.last);
        let floors = self.entries(pages, floors_of((first, reached)), most)?;
        Ok(under_floors(&found, &floors))
    }

    /// As [`Self::lookup`], without floors.
    fn entries(
        &self,
        pages: &impl Pages,
        (first, last): (u64, u64),
        most: usize,
    ) -> Result<Vec<Span<Known>>, Missing> {
        let mut found = Vec::new();
        for span in with_gaps(first, last, copied(self.active.within(first, last))) {
            let Some(entry) = span.value else {
                self.lookup_beneath(pages, (span.first, span.last), most, &mut found)?;
                if found.len() > most {
                    break;
                }
                continue;
            };
            self.push(&mut found, span.first, span.last, Some(entry));
        }
        Ok(found)
    }

    /// What frozen overlay and map know of a gap in the active overlay.
    fn lookup_beneath(
        &self,
        pages: &impl Pages,
        (first, last): (u64, u64),
        most: usize,
        found: &mut Vec<Span<Known>>,
    ) -> Result<(), Missing> {
        for span in with_gaps(first, last, copied(self.frozen.within(first, last))) {
            if found.len() > most {
                break;
            }
            if span.value.is_some() {
                self.push(found, span.first, span.last, span.value);
                continue;
            }
            let left = most - found.len();
            let root = self.root.as_ref();
            let root = root.filter(|_| self.floors_in_map || !is_floor(span.first));
            let spans = lookup(pages, root, (span.first, span.last), left)?;
            let cut_short = spans.len() > left;
            let end = match spans.last() {
                Some(reached) if cut_short => reached.last,
                _ => span.last,
            };
            for known in with_gaps(span.first, end, spans.into_iter()) {
                self.push(found, known.first, known.last, known.value);
            }
        }
        Ok(())
    }

    fn push(&self, found: &mut Vec<Span<Known>>, first: u64, last: u64, entry: Option<Entry>) {
        let damaged = match entry {
            Some(Entry::Data { .. }) => self.damaged.contains(&first),
            Some(Entry::Lost { .. }) => true,
            _ => false,
        };
        found.push(Span {
            first,
            last,
            value: Known {
                entry,
                damaged,
                floor: Floor::NONE,
            },
        });
    }

    /// A batch is stable.
    pub(crate) fn publish(&mut self, entries: &[Span<Entry>]) {
        for span in entries {
            lay(&mut self.active, span.first, span.last, span.value);
            if is_floor(span.first) {
                let generation = span.value.bound().settled;
                self.highest_floor = self.highest_floor.max(generation);
                continue;
            }
            if !self.damaged.is_empty() {
                let healed: Vec<u64> = self
                    .damaged
                    .range(span.first..=span.last)
                    .copied()
                    .collect();
                for address in healed {
                    self.damaged.remove(&address);
                }
            }
        }
    }

    /// The data of a sector can not be read, if this is still what is known of it. Whether it was.
    pub(crate) fn mark_damaged(
        &mut self,
        pages: &impl Pages,
        address: u64,
        entry: Entry,
    ) -> Result<bool, Missing> {
        let known = self.entries(pages, (address, address), 1)?;
        let same = known
            .first()
            .is_some_and(|span| span.value.entry == Some(entry));
        if same {
            self.damaged.insert(address);
        }
        Ok(same)
    }

    /// Begins a checkpoint: what was active so far is what it puts into the map.
    pub(crate) fn freeze(&mut self) -> Arc<SpanMap<Entry>> {
        assert!(self.frozen.is_empty(), "one checkpoint at a time");
        self.frozen = Arc::new(std::mem::replace(&mut self.active, SpanMap::new()));
        Arc::clone(&self.frozen)
    }

    /// Whether a checkpoint began and is not yet durable.
    pub(crate) fn is_frozen(&self) -> bool {
        !self.frozen.is_empty()
    }

    /// The checkpoint is durable: the map of this root has what was frozen.
    pub(crate) fn thaw(&mut self, root: Option<PageRef>, floors_in_map: bool) {
        self.frozen = Arc::new(SpanMap::new());
        self.root = root;
        self.floors_in_map = floors_in_map;
    }

    pub(crate) const fn root(&self) -> Option<&PageRef> {
        self.root.as_ref()
    }

    /// How many spans came since the last checkpoint began.
    pub(crate) fn active_spans(&self) -> usize {
        self.active.len()
    }

    /// How many spans both overlays have.
    pub(crate) fn overlay_spans(&self) -> usize {
        self.active.len() + self.frozen.len()
    }

    /// How many spans both overlays have of the floor.
    pub(crate) fn overlay_floors(&self) -> usize {
        let overlays = [&self.active, &*self.frozen];
        let floors = overlays.map(|overlay| overlay.within(FLOORS, u64::MAX).count());
        floors.iter().sum()
    }

    /// How many sectors were found damaged and not healed since.
    pub(crate) fn damaged_sectors(&self) -> usize {
        self.damaged.len()
    }
}

/// The sectors' entries, cut where their floors change, as far as those are known.
fn under_floors(sectors: &[Span<Known>], floors: &[Span<Known>]) -> Vec<Span<Known>> {
    let mut found = Vec::with_capacity(sectors.len() + floors.len());
    let mut floors = floors.iter().peekable();
    for span in sectors {
        let mut first = span.first;
        while let Some(floor) = floors.peek() {
            let end = floor.last - FLOORS;
            let last = end.min(span.last);
            found.push(Span {
                first,
                last,
                value: Known {
                    floor: Floor::of(floor.value.entry),
                    ..span.value
                },
            });
            if end == last {
                floors.next();
            }
            if last == span.last {
                break;
            }
            first = last + 1;
        }
    }
    found
}

fn copied<'a>(spans: impl Iterator<Item = Span<&'a Entry>>) -> impl Iterator<Item = Span<Entry>> {
    spans.map(|span| Span {
        first: span.first,
        last: span.last,
        value: *span.value,
    })
}
