//! The bounded cache of the map's pages.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use rustc_hash::FxHashMap;

use super::block::BLOCK_SIZE;
use super::page::{Page, PageRef};

/// A page as it was found on the medium.
#[derive(Clone)]
pub(crate) enum Found {
    Whole(Arc<Page>),
    /// Its bytes are not those that its parent vouches for.
    Damaged,
}

/// Pages by where they are and what they hold: a page never changes, so nothing is ever stale.
///
/// Which page has to go is found by a clock: a page that was used since the hand last passed stays.
pub(crate) struct PageCache {
    pages: Mutex<Clock>,
    capacity: usize,
}

struct Clock {
    places: FxHashMap<(u64, u64), usize>,
    slots: Vec<Slot>,
    hand: usize,
}

struct Slot {
    key: (u64, u64),
    found: Found,
    used: bool,
}

/// Fewer pages than a path through the map would make lookups start over for ever.
const PAGES_MIN: usize = 16;

impl PageCache {
    pub(crate) fn with_bytes(bytes: usize) -> Self {
        Self {
            pages: Mutex::new(Clock {
                places: HashMap::default(),
                slots: Vec::new(),
                hand: 0,
            }),
            capacity: (bytes / BLOCK_SIZE).max(PAGES_MIN),
        }
    }

    pub(crate) fn find(&self, page: &PageRef) -> Option<Found> {
        let mut clock = self.clock();
        let place = *clock.places.get(&key(page))?;
        let slot = &mut clock.slots[place];
        slot.used = true;
        Some(slot.found.clone())
    }

    pub(crate) fn insert(&self, page: &PageRef, found: Found) {
        let mut clock = self.clock();
        let key = key(page);
        let slot = Slot {
            key,
            found,
            used: true,
        };
        if let Some(&place) = clock.places.get(&key) {
            clock.slots[place] = slot;
            return;
        }
        let place = if clock.slots.len() < self.capacity {
            clock.slots.push(slot);
            clock.slots.len() - 1
        } else {
            let place = clock.evict();
            clock.slots[place] = slot;
            place
        };
        clock.places.insert(key, place);
    }

    /// How many pages are kept.
    pub(crate) fn len(&self) -> usize {
        self.clock().slots.len()
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.pages.lock().expect("nothing panics under the lock")
    }
}

impl Clock {
    fn evict(&mut self) -> usize {
        loop {
            let place = self.hand;
            self.hand = (self.hand + 1) % self.slots.len();
            let slot = &mut self.slots[place];
            if !std::mem::take(&mut slot.used) {
                let key = slot.key;
                self.places.remove(&key);
                return place;
            }
        }
    }
}

fn key(page: &PageRef) -> (u64, u64) {
    (page.block, page.checksum)
}
