//! Memory for payloads, shared by all connections of a server.
//!
//! Every request takes its part before its payload is read (or before its data are, for a READ)
//! and gives it back when its reply has gone out. What a header merely claims is thus a number in
//! here, and memory only as bytes arrive.
//!
//! A connection waits for one part at a time, and what it holds meanwhile belongs to requests that
//! need nothing more: no deadlock. Parts are given in the order of asking, so that a large request
//! is not starved by small ones.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The budget counts in these. Even a request without data takes one unit, which bounds how many
/// requests there can be in all.
const UNIT_BYTES: u64 = 4096;

/// A request's part of the memory, given back when dropped.
pub(crate) type Reservation = OwnedSemaphorePermit;

/// The memory that requests may take together.
#[derive(Debug)]
pub(crate) struct Budget {
    units: Arc<Semaphore>,
    units_max: u32,
    waiting: AtomicUsize,
}

impl Budget {
    /// A budget of `bytes`, rounded up to units.
    pub(crate) fn new(bytes: u64) -> Self {
        let most = u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX);
        let units_max = u32::try_from(bytes.div_ceil(UNIT_BYTES))
            .unwrap_or(most)
            .clamp(1, most);
        let permits = usize::try_from(units_max).expect("at most the semaphore's maximum");
        Self {
            units: Arc::new(Semaphore::new(permits)),
            units_max,
            waiting: AtomicUsize::new(0),
        }
    }

    /// The memory for a request with so many bytes, if it is free now. A request larger than the
    /// whole budget takes all of it.
    pub(crate) fn try_reserve(&self, bytes: u64) -> Option<Reservation> {
        Arc::clone(&self.units)
            .try_acquire_many_owned(self.units_for(bytes))
            .ok()
    }

    /// The memory for a request with so many bytes, as soon as it is free.
    pub(crate) async fn reserve(self: Arc<Self>, bytes: u64) -> Reservation {
        let _waiting = Waiting::enter(&self.waiting);
        let units = Arc::clone(&self.units).acquire_many_owned(self.units_for(bytes));
        units.await.expect("the semaphore is never closed")
    }

    /// Whether somebody waits for memory.
    pub(crate) fn is_contended(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    fn units_for(&self, bytes: u64) -> u32 {
        let units = bytes.div_ceil(UNIT_BYTES) + 1;
        u32::try_from(units).unwrap_or(u32::MAX).min(self.units_max)
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn what_is_reserved_comes_back_and_an_oversize_request_takes_all() {
        let budget = Arc::new(Budget::new(10 * UNIT_BYTES));
        let first = budget.try_reserve(4096).expect("two units of ten");
        assert!(budget.try_reserve(u64::MAX).is_none());
        drop(first);
        let all = budget.try_reserve(u64::MAX).expect("all ten units");
        assert!(budget.try_reserve(0).is_none());
        drop(all);
        assert!(budget.try_reserve(0).is_some());
    }

    #[test]
    fn a_large_request_is_not_starved_by_small_ones() {
        let budget = Arc::new(Budget::new(10 * UNIT_BYTES));
        let held = budget.try_reserve(4096).expect("two units of ten");
        assert!(!budget.is_contended());
        let mut large = Box::pin(Arc::clone(&budget).reserve(u64::MAX));
        assert!(large.as_mut().now_or_never().is_none());
        assert!(budget.is_contended());
        assert!(budget.try_reserve(0).is_none());
        drop(held);
        assert!(large.now_or_never().is_some());
        assert!(!budget.is_contended());
    }
}
