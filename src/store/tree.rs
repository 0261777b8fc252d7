//! Lookups in the map: a tree of [`Page`](super::page::Page)s.
//!
//! Any page may be damaged. Then nothing is known of the sectors of its range but a bound on their
//! stamps, which its parent keeps; everything else goes on.

use super::cache::{Found, PageCache};
use super::entry::Entry;
use super::page::PageRef;
use super::spans::Span;

/// The page that a lookup needs and that is not in memory.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) page: PageRef,
    /// The map that it is a page of.
    pub(crate) root: PageRef,
}

/// Pages at hand without waiting.
pub(crate) trait Pages {
    fn page(&self, reference: &PageRef) -> Option<Found>;
}

impl Pages for PageCache {
    fn page(&self, reference: &PageRef) -> Option<Found> {
        self.find(reference)
    }
}

/// The cache, and before it pages that were fetched for one purpose, so that they are there even
/// when the cache could not keep them.
pub(crate) struct Pinned<'a> {
    pub(crate) cache: &'a PageCache,
    pub(crate) pages: &'a [(PageRef, Found)],
}

impl Pages for Pinned<'_> {
    fn page(&self, reference: &PageRef) -> Option<Found> {
        let pinned = self.pages.iter().find(|(page, _)| page == reference);
        pinned
            .map(|(_, found)| found.clone())
            .or_else(|| self.cache.find(reference))
    }
}

/// What the map says of `first..=last`: spans cut to that, ascending. They stop early, behind
/// some whole span, when there are more than `most`.
pub(crate) fn lookup(
    pages: &impl Pages,
    root: Option<&PageRef>,
    (first, last): (u64, u64),
    most: usize,
) -> Result<Vec<Span<Entry>>, Missing> {
    let Some(root) = root else {
        return Ok(Vec::new());
    };
    let mut search = Search {
        pages,
        root: *root,
        first,
        last,
        most,
        spans: Vec::new(),
    };
    search.descend(root, 0, u64::MAX)?;
    Ok(search.spans)
}

struct Search<'a, P> {
    pages: &'a P,
    root: PageRef,
    first: u64,
    last: u64,
    most: usize,
    spans: Vec<Span<Entry>>,
}

impl<P: Pages> Search<'_, P> {
    /// Collects what a page of the range `low..=high` holds.
    fn descend(&mut self, reference: &PageRef, low: u64, high: u64) -> Result<(), Missing> {
        let page = match self.pages.page(reference) {
            None => {
                return Err(Missing {
                    page: *reference,
                    root: self.root,
                });
            }
            Some(Found::Whole(page)) => page,
            Some(Found::Damaged) => {
                let bound = reference.bound;
                self.push(Span {
                    first: low,
                    last: high,
                    value: Entry::Lost { bound },
                });
                return Ok(());
            }
        };
        let begin = page.beginning_by(self.first).saturating_sub(1);
        let end = page.beginning_by(self.last);
        for index in begin..end {
            if self.spans.len() > self.most {
                break;
            }
            if page.is_leaf() {
                self.push(page.item(index));
            } else {
                let child = page.child(index);
                let next = (index + 1 < page.len()).then(|| page.child(index + 1).first - 1);
                self.descend(&child.page, child.first, next.unwrap_or(high))?;
            }
        }
        Ok(())
    }

    fn push(&mut self, span: Span<Entry>) {
        let first = span.first.max(self.first);
        let last = span.last.min(self.last);
        if first <= last {
            self.spans.push(Span {
                first,
                last,
                ..span
            });
        }
    }
}
