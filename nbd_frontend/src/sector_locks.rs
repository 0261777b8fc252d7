//! Who may write which sectors when a sector is read, changed and written back.
//!
//! The device makes each sector atomic by itself. Two cases need more: two changes to parts of one
//! sector at once (the second would write back what the first had not yet changed), and a whole
//! sector written while a part is changed (the change would write back what was there before, and
//! an acknowledged write would be lost). So a change of a part claims its sector
//! [exclusively](Mode::Exclusive), and everything that writes whole sectors (writes, zeroes,
//! trims) claims its range [shared](Mode::Shared): ranges that share do not wait for one another,
//! and reads claim nothing.
//!
//! Guarantees: claims are granted in the order in which they were made wherever they conflict, so
//! that none starves; a claim that is dropped, granted or not, is gone. Deadlock is impossible as
//! long as nobody awaits one claim while holding another.
//!
//! The cost for aligned traffic is two short critical sections and an insertion into a map that
//! holds the writes in flight: as long as there is no exclusive claim, no other claim is looked at.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Mutex, MutexGuard};
use std::task::{Poll, Waker};

/// Whether others may have overlapping claims at the same time.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Overlaps with shared claims only: whole sectors are replaced.
    Shared,
    /// Overlaps with none: parts of a sector are changed.
    Exclusive,
}

/// The claims on a device's sectors.
#[derive(Debug, Default)]
pub(crate) struct SectorLocks {
    table: Mutex<Table>,
}

/// Claims in the order in which they were made, which is the order of their tickets.
#[derive(Debug, Default)]
struct Table {
    next_ticket: u64,
    shared: BTreeMap<u64, Entry>,
    exclusive: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    first: u64,
    count: u64,
    /// Conflicting claims with lower tickets that are still there; granted when this is 0.
    waits_for: usize,
    waker: Option<Waker>,
}

impl Entry {
    fn overlaps(&self, first: u64, count: u64) -> bool {
        self.first < first + count && first < self.first + self.count
    }
}

/// The right to write some sectors, given back when dropped.
#[must_use = "the sectors are free again as soon as the claim is dropped"]
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    locks: &'a SectorLocks,
    mode: Mode,
    ticket: u64,
}

impl SectorLocks {
    /// Waits until the `count` sectors from `first` on may be written.
    pub(crate) async fn claim(&self, first: u64, count: u64, mode: Mode) -> Claim<'_> {
        let (claim, granted) = self.enter(first, count, mode);
        if !granted {
            poll_fn(|cx| {
                let mut table = self.table();
                let entry = table.entry(&claim);
                if entry.waits_for == 0 {
                    return Poll::Ready(());
                }
                entry.waker = Some(cx.waker().clone());
                Poll::Pending
            })
            .await;
        }
        claim
    }

    fn enter(&self, first: u64, count: u64, mode: Mode) -> (Claim<'_>, bool) {
        let (ticket, granted) = self.table().insert(first, count, mode);
        (
            Claim {
                locks: self,
                mode,
                ticket,
            },
            granted,
        )
    }

    fn leave(&self, mode: Mode, ticket: u64) {
        // Wakers run foreign code, so they run after the table is free again.
        let wakers = self.table().remove(mode, ticket);
        for waker in wakers {
            waker.wake();
        }
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table
            .lock()
            .expect("nothing panics while it holds the table")
    }
}

impl Table {
    /// Adds a claim behind all others; whether it is granted at once.
    fn insert(&mut self, first: u64, count: u64, mode: Mode) -> (u64, bool) {
        let mut waits_for = overlapping(&self.exclusive, first, count);
        if mode == Mode::Exclusive {
            waits_for += overlapping(&self.shared, first, count);
        }
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        let entry = Entry {
            first,
            count,
            waits_for,
            waker: None,
        };
        self.claims(mode).insert(ticket, entry);
        (ticket, waits_for == 0)
    }

    /// Removes a claim; the wakers of those that waited for nothing else.
    fn remove(&mut self, mode: Mode, ticket: u64) -> Vec<Waker> {
        let gone = self
            .claims(mode)
            .remove(&ticket)
            .expect("a claim is removed once");
        let mut wakers = release(&mut self.exclusive, ticket, &gone);
        if mode == Mode::Exclusive {
            wakers.extend(release(&mut self.shared, ticket, &gone));
        }
        wakers
    }

    fn claims(&mut self, mode: Mode) -> &mut BTreeMap<u64, Entry> {
        match mode {
            Mode::Shared => &mut self.shared,
            Mode::Exclusive => &mut self.exclusive,
        }
    }

    fn entry(&mut self, claim: &Claim<'_>) -> &mut Entry {
        self.claims(claim.mode)
            .get_mut(&claim.ticket)
            .expect("a claim is in the table until dropped")
    }
}

fn overlapping(claims: &BTreeMap<u64, Entry>, first: u64, count: u64) -> usize {
    claims
        .values()
        .filter(|entry| entry.overlaps(first, count))
        .count()
}

/// Tells the claims after `ticket` that waited for `gone` that it is gone.
fn release(claims: &mut BTreeMap<u64, Entry>, ticket: u64, gone: &Entry) -> Vec<Waker> {
    let mut wakers = Vec::new();
    for entry in claims.range_mut(ticket..).map(|(_, entry)| entry) {
        if entry.overlaps(gone.first, gone.count) {
            entry.waits_for -= 1;
            if entry.waits_for == 0 {
                wakers.extend(entry.waker.take());
            }
        }
    }
    wakers
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        self.locks.leave(self.mode, self.ticket);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Context;

    use futures_util::FutureExt;
    use proptest::prelude::*;

    use super::Mode::{Exclusive, Shared};
    use super::*;

    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl std::task::Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn now<T>(future: impl Future<Output = T>) -> T {
        future.now_or_never().expect("the claim is granted at once")
    }

    #[test]
    fn shared_claims_never_wait_for_one_another() {
        let locks = SectorLocks::default();
        let _one = now(locks.claim(0, 100, Shared));
        let _two = now(locks.claim(50, 100, Shared));
    }

    #[test]
    fn an_exclusive_claim_waits_for_overlapping_ones_only() {
        let locks = SectorLocks::default();
        let range = now(locks.claim(10, 10, Shared));
        let _before = now(locks.claim(9, 1, Exclusive));
        let _after = now(locks.claim(20, 1, Exclusive));
        let mut last = pin!(locks.claim(19, 1, Exclusive));
        assert!(last.as_mut().now_or_never().is_none());
        drop(range);
        let _last = now(last);
    }

    #[test]
    fn a_later_shared_claim_does_not_overtake_a_waiting_exclusive_one() {
        let locks = SectorLocks::default();
        let first = now(locks.claim(5, 1, Shared));
        let mut change = pin!(locks.claim(5, 1, Exclusive));
        assert!(change.as_mut().now_or_never().is_none());
        let mut later = pin!(locks.claim(0, 10, Shared));
        assert!(later.as_mut().now_or_never().is_none());
        drop(first);
        assert!(later.as_mut().now_or_never().is_none());
        let change = now(change);
        assert!(later.as_mut().now_or_never().is_none());
        drop(change);
        let _later = now(later);
    }

    #[test]
    fn giving_up_a_wait_lets_the_next_one_through() {
        let locks = SectorLocks::default();
        let first = now(locks.claim(5, 1, Shared));
        {
            let change = pin!(locks.claim(5, 1, Exclusive));
            assert!(change.now_or_never().is_none());
        }
        let _second = now(locks.claim(5, 1, Shared));
        drop(first);
    }

    #[test]
    fn a_waiting_claim_is_woken() {
        let locks = SectorLocks::default();
        let first = now(locks.claim(5, 1, Exclusive));
        let count = Arc::new(Wakes::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut second: Pin<Box<_>> = Box::pin(locks.claim(5, 1, Exclusive));
        assert!(
            second
                .as_mut()
                .poll(&mut Context::from_waker(&waker))
                .is_pending()
        );
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
        drop(first);
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
        let _second = now(second);
    }

    enum Held<'a> {
        Waiting(futures_util::future::LocalBoxFuture<'a, Claim<'a>>),
        Granted(#[expect(dead_code, reason = "held until dropped")] Claim<'a>),
    }

    impl Held<'_> {
        fn is_granted(&mut self) -> bool {
            if let Self::Waiting(future) = self
                && let Some(claim) = future.now_or_never()
            {
                *self = Self::Granted(claim);
            }
            matches!(self, Self::Granted(_))
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Claim {
            first: u64,
            count: u64,
            mode: Mode,
        },
        /// Drops the claim, granted or still waiting, at this place in the order of claims.
        Drop(prop::sample::Index),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let claim =
            (0_u64..12, 1_u64..6, any::<bool>()).prop_map(|(first, count, shared)| Step::Claim {
                first,
                count,
                mode: if shared { Shared } else { Exclusive },
            });
        let step = prop_oneof![claim, any::<prop::sample::Index>().prop_map(Step::Drop)];
        prop::collection::vec(step, 1..60)
    }

    proptest! {
        /// A claim is granted exactly when no conflicting claim was made before it and is still
        /// there: never two that conflict, never one that waits for nothing, first come first served.
        #[test]
        fn claims_are_granted_in_order_and_never_in_conflict(steps in steps()) {
            let locks = SectorLocks::default();
            let mut claims = Vec::new();
            for step in steps {
                match step {
                    Step::Claim { first, count, mode } => {
                        let held = Held::Waiting(locks.claim(first, count, mode).boxed_local());
                        claims.push((first, count, mode, held));
                    }
                    Step::Drop(index) if !claims.is_empty() => {
                        drop(claims.remove(index.index(claims.len())));
                    }
                    Step::Drop(_) => {}
                }
                for place in 0..claims.len() {
                    let (before, rest) = claims.split_at_mut(place);
                    let (first, count, mode, held) = &mut rest[0];
                    let conflict = before.iter().any(|(other, length, other_mode, _)| {
                        (*mode == Exclusive || *other_mode == Exclusive)
                            && *other < *first + *count
                            && *first < *other + *length
                    });
                    prop_assert_eq!(held.is_granted(), !conflict);
                }
            }
        }
    }
}
