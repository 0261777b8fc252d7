//! The next version of the map: the pages that change are written anew, to free blocks.
//!
//! Only pages on the way to something that changed are read and replaced. Neighbouring leaves that
//! change are packed together, so the map stays dense, and a damaged page is replaced by what is
//! known of its range: nothing, but for what was stored since.

use std::io::IoSlice;

use super::block::{Block, Run};
use super::cache::Found;
use super::engine::Engine;
use super::entry::{Entry, laid_over, push_span};
use super::error::StoreError;
use super::floor::{FLOORS, count_floors};
use super::page::{CHILDREN_MAX, Child, LEAF_ITEMS_MAX, Page, PageDraft, PageRef};
use super::root::MapSize;
use super::spans::{Span, SpanMap};
use super::tree::{Missing, Pages};
use crate::domain::Stamp;

/// The new version and what it replaces.
pub(crate) struct Rebuilt {
    pub(crate) root: Option<PageRef>,
    pub(crate) size: MapSize,
    /// Pages that only the old version has.
    pub(crate) freed: Vec<Run>,
}

/// Waits a while for space in the file system. False when the store is about to stop.
pub(crate) type WaitForSpace<'a> = &'a dyn Fn(&StoreError) -> bool;

/// Lays what was frozen over the map of `root` and writes the pages; not synced.
pub(crate) fn rebuild(
    engine: &Engine,
    root: Option<&PageRef>,
    size: MapSize,
    overlay: &SpanMap<Entry>,
    sequence: u64,
    wait: WaitForSpace<'_>,
) -> Result<Rebuilt, StoreError> {
    // Without a map there is no page to miss.
    let none = PageRef {
        block: 0,
        checksum: 0,
        bound: Stamp::ZERO,
    };
    let mut rebuild = Rebuild {
        engine,
        root: root.copied().unwrap_or(none),
        overlay,
        sequence,
        size,
        freed: Vec::new(),
        had_floors: size.floors > 0,
        writer: PageWriter::new(engine, wait),
    };
    let top = match root {
        Some(root) => rebuild.page(root, 0, u64::MAX)?,
        None => Part::Items(laid_over(&[], rebuild.changes(0, u64::MAX))),
    };
    let mut children = match top {
        Part::Children(children) => children,
        Part::Items(items) => {
            let mut children = Vec::new();
            rebuild.pack_leaves(&items, true, &mut children)?;
            children
        }
    };
    while children.len() > 1 {
        children = rebuild.pack_inner(&children, true)?;
    }
    rebuild.writer.finish()?;
    // A floor is never taken away: where they can not be counted any more, they are there still.
    if rebuild.had_floors {
        rebuild.size.floors = rebuild.size.floors.max(1);
    }
    Ok(Rebuilt {
        root: children.first().map(|child| child.page),
        size: rebuild.size,
        freed: rebuild.freed,
    })
}

struct Rebuild<'a> {
    engine: &'a Engine,
    root: PageRef,
    overlay: &'a SpanMap<Entry>,
    sequence: u64,
    size: MapSize,
    freed: Vec<Run>,
    /// Whether the old version has floors.
    had_floors: bool,
    writer: PageWriter<'a>,
}

/// What became of a page.
enum Part {
    /// Items that go into leaves together with their neighbours; fewer than fill two.
    Items(Vec<Span<Entry>>),
    Children(Vec<Child>),
}

/// When so many items are gathered they are written, whatever comes behind them.
const GATHERED_MAX: usize = 32 * LEAF_ITEMS_MAX;

/// A leaf with fewer items takes its neighbour's, even if that did not change.
const SPARSE: usize = LEAF_ITEMS_MAX / 4;

impl<'a> Rebuild<'a> {
    fn changes(&self, low: u64, high: u64) -> impl Iterator<Item = Span<Entry>> + use<'a> {
        self.overlay.within(low, high).map(|span| Span {
            first: span.first,
            last: span.last,
            value: *span.value,
        })
    }

    /// Replaces a page of the range `low..=high`, in which something changed.
    fn page(&mut self, reference: &PageRef, low: u64, high: u64) -> Result<Part, StoreError> {
        let found = self.load(reference)?;
        self.freed.push(Run::single(reference.block));
        let page = match found {
            Found::Damaged => {
                self.size.leaves = self.size.leaves.saturating_sub(1);
                let bound = reference.bound;
                let lost = Span {
                    first: low,
                    // What never was can not be lost.
                    last: if self.had_floors {
                        high
                    } else {
                        high.min(FLOORS - 1)
                    },
                    value: Entry::Lost { bound },
                };
                return Ok(Part::Items(laid_over(&[lost], self.changes(low, high))));
            }
            Found::Whole(page) => page,
        };
        if page.is_leaf() {
            self.size.leaves = self.size.leaves.saturating_sub(1);
            let items: Vec<_> = page.items().collect();
            self.uncount_floors(&items);
            return Ok(Part::Items(laid_over(&items, self.changes(low, high))));
        }
        self.size.inner = self.size.inner.saturating_sub(1);
        self.inner(&page, low, high)
    }

    fn inner(&mut self, page: &Page, low: u64, high: u64) -> Result<Part, StoreError> {
        let tail = high == u64::MAX;
        let mut children = Vec::new();
        let mut gathered: Vec<Span<Entry>> = Vec::new();
        for index in 0..page.len() {
            let child = page.child(index);
            let next = (index + 1 < page.len()).then(|| page.child(index + 1).first - 1);
            let child_low = if index == 0 { low } else { child.first };
            let child_high = next.unwrap_or(high);
            if self.changes(child_low, child_high).next().is_some() {
                match self.page(&child.page, child_low, child_high)? {
                    Part::Items(items) => append(&mut gathered, items),
                    Part::Children(more) => {
                        self.pack_leaves(&gathered, false, &mut children)?;
                        gathered.clear();
                        children.extend(more);
                    }
                }
                if gathered.len() >= GATHERED_MAX {
                    self.pack_leaves(&gathered, tail && next.is_none(), &mut children)?;
                    gathered.clear();
                }
                continue;
            }
            if !gathered.is_empty()
                && gathered.len() < SPARSE
                && self.absorb(&child, &mut gathered)?
            {
                continue;
            }
            self.pack_leaves(&gathered, false, &mut children)?;
            gathered.clear();
            children.push(child);
        }
        if children.is_empty() && gathered.len() < LEAF_ITEMS_MAX {
            return Ok(Part::Items(gathered));
        }
        self.pack_leaves(&gathered, tail, &mut children)?;
        self.pack_inner(&children, tail).map(Part::Children)
    }

    /// Takes the items of a neighbouring leaf that did not change. False when it is none.
    fn absorb(
        &mut self,
        child: &Child,
        gathered: &mut Vec<Span<Entry>>,
    ) -> Result<bool, StoreError> {
        match self.load(&child.page)? {
            Found::Whole(page) if page.is_leaf() => {
                self.freed.push(Run::single(child.page.block));
                self.size.leaves = self.size.leaves.saturating_sub(1);
                let items: Vec<_> = page.items().collect();
                self.uncount_floors(&items);
                append(gathered, items);
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// These items go out of the map, to come back packed anew.
    fn uncount_floors(&mut self, items: &[Span<Entry>]) {
        self.size.floors = self.size.floors.saturating_sub(count_floors(items));
    }

    fn load(&self, reference: &PageRef) -> Result<Found, StoreError> {
        match self.engine.cache.page(reference) {
            Some(found) => Ok(found),
            None => self.engine.fetch(Missing {
                page: *reference,
                root: self.root,
            }),
        }
    }

    /// Writes items as leaves. At the end of the map leaves are filled, since what is written in
    /// order goes on there; elsewhere they get equal shares, so that each has room.
    fn pack_leaves(
        &mut self,
        items: &[Span<Entry>],
        tail: bool,
        children: &mut Vec<Child>,
    ) -> Result<(), StoreError> {
        let leaves = PageDraft::leaves_needed(items).max(1);
        let share = if tail {
            LEAF_ITEMS_MAX
        } else {
            items.len().div_ceil(leaves)
        };
        let mut rest = items;
        while !rest.is_empty() {
            let (draft, taken) = PageDraft::leaf(rest, share, self.sequence);
            self.size.leaves += 1;
            self.size.floors += count_floors(&rest[..taken]);
            children.push(self.writer.write(draft)?);
            rest = &rest[taken..];
        }
        Ok(())
    }

    /// Writes inner pages over the children; a single child needs none.
    fn pack_inner(&mut self, children: &[Child], tail: bool) -> Result<Vec<Child>, StoreError> {
        if children.len() == 1 {
            return Ok(children.to_vec());
        }
        let pages = children.len().div_ceil(CHILDREN_MAX).max(1);
        let share = if tail {
            CHILDREN_MAX
        } else {
            children.len().div_ceil(pages)
        };
        let mut packed = Vec::with_capacity(pages);
        for share in children.chunks(share) {
            if let [child] = share {
                packed.push(*child);
                continue;
            }
            self.size.inner += 1;
            packed.push(self.writer.write(PageDraft::inner(share, self.sequence))?);
        }
        Ok(packed)
    }
}

/// Appends the items of the next page; what went on from one to the other is one again.
fn append(gathered: &mut Vec<Span<Entry>>, items: Vec<Span<Entry>>) {
    for item in items {
        push_span(gathered, item);
    }
}

/// Puts pages into free blocks and writes neighbouring ones together.
struct PageWriter<'a> {
    engine: &'a Engine,
    wait: WaitForSpace<'a>,
    /// Blocks that were taken and not used yet, the next one last.
    blocks: Vec<u64>,
    first: u64,
    waiting: Vec<Block>,
}

const TAKEN_AT_ONCE: u64 = 16;
const WRITTEN_AT_ONCE: usize = 64;

impl<'a> PageWriter<'a> {
    const fn new(engine: &'a Engine, wait: WaitForSpace<'a>) -> Self {
        Self {
            engine,
            wait,
            blocks: Vec::new(),
            first: 0,
            waiting: Vec::new(),
        }
    }

    fn write(&mut self, draft: PageDraft) -> Result<Child, StoreError> {
        let block = self.next_block()?;
        let first = draft.first;
        let (page, bytes) = draft.seal(self.engine.checksums, block);
        let follows =
            u64::try_from(self.waiting.len()).is_ok_and(|waiting| self.first + waiting == block);
        if !follows || self.waiting.len() >= WRITTEN_AT_ONCE {
            self.flush()?;
            self.first = block;
        }
        self.waiting.push(bytes);
        if let Some(whole) = Page::open(self.engine.checksums, page, &bytes) {
            self.engine.cache.insert(&page, Found::Whole(whole.into()));
        }
        Ok(Child { first, page })
    }

    fn next_block(&mut self) -> Result<u64, StoreError> {
        if let Some(block) = self.blocks.pop() {
            return Ok(block);
        }
        let runs = take_for_root(self.engine, TAKEN_AT_ONCE, 1, self.wait)?;
        self.blocks = runs.iter().flat_map(|run| run.first..run.end()).collect();
        self.blocks.reverse();
        Ok(self.blocks.pop().expect("one at least was taken"))
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let bytes: &[u8] = bytemuck::cast_slice(&self.waiting);
        self.engine
            .medium
            .write(self.first, &[IoSlice::new(bytes)])
            .map_err(StoreError::io("writing pages of the map"))?;
        self.waiting.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<(), StoreError> {
        self.flush()?;
        let mut state = self.engine.state();
        for block in self.blocks {
            state.space.give_unused(Run::single(block));
        }
        Ok(())
    }
}

/// Takes up to `wanted` blocks for what the next root names, `least` at least, for which the file
/// grows if it must.
pub(crate) fn take_for_root(
    engine: &Engine,
    wanted: u64,
    least: u64,
    wait: WaitForSpace<'_>,
) -> Result<Vec<Run>, StoreError> {
    loop {
        let lacking = {
            let mut state = engine.state();
            let runs = state.space.take_for_root(wanted);
            let taken = super::block::total(&runs);
            if taken >= least {
                return Ok(runs);
            }
            for run in runs {
                state.space.give_unused(run);
            }
            least - taken
        };
        match engine.grow(lacking) {
            Ok(()) => {}
            Err(error) if wait(&error) => {}
            Err(error) => return Err(error),
        }
    }
}
