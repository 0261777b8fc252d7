//! What is stable of every sector: the overlay of the journal's batches over the map.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::entry::{Entry, with_gaps};
use super::page::PageRef;
use super::spans::{Span, SpanMap};
use super::tree::{Missing, Pages, lookup};

/// Where a sector's newest stable value is found.
///
/// The layers are consulted in this order: *active*, the batches since the last checkpoint began;
/// *frozen*, those that a checkpoint is about to put into the map; the map.
pub(crate) struct Index {
    active: SpanMap<Entry>,
    frozen: Arc<SpanMap<Entry>>,
    root: Option<PageRef>,
    /// Sectors whose data was found damaged.
    damaged: BTreeSet<u64>,
}

/// What is known of a sector.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// The newest entry; `None` when the sector was never written.
    pub(crate) entry: Option<Entry>,
    /// Its data can not be read any more.
    pub(crate) damaged: bool,
}

impl Index {
    pub(crate) fn new(root: Option<PageRef>, active: SpanMap<Entry>) -> Self {
        Self {
            active,
            frozen: Arc::new(SpanMap::new()),
            root,
            damaged: BTreeSet::new(),
        }
    }

    /// What is known of `first..=last`, all of it in order, or as many spans as `most` and a few.
    pub(crate) fn lookup(
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
            let spans = lookup(pages, self.root.as_ref(), (span.first, span.last), left)?;
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
            value: Known { entry, damaged },
        });
    }

    /// A batch is stable.
    pub(crate) fn publish(&mut self, entries: &[Span<Entry>]) {
        for span in entries {
            self.active.set(span.first, span.last, span.value);
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
        let known = self.lookup(pages, (address, address), 1)?;
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
    pub(crate) fn thaw(&mut self, root: Option<PageRef>) {
        self.frozen = Arc::new(SpanMap::new());
        self.root = root;
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

    /// How many sectors were found damaged and not healed since.
    pub(crate) fn damaged_sectors(&self) -> usize {
        self.damaged.len()
    }
}

fn copied<'a>(spans: impl Iterator<Item = Span<&'a Entry>>) -> impl Iterator<Item = Span<Entry>> {
    spans.map(|span| Span {
        first: span.first,
        last: span.last,
        value: *span.value,
    })
}
