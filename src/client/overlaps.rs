//! Which changes have to wait for which.
//!
//! Two changes of one sector are never under way at the same time in one attachment: so at most one
//! of a sector is unanswered when a process dies, and repeating the unanswered ones can never put
//! an older value over a newer one.

use std::collections::BTreeMap;

use crate::wire::RequestNumber;

/// The changes that have no answer, in the order in which they were asked for, which is the order
/// of their numbers.
#[derive(Debug, Default)]
pub(super) struct Overlaps {
    changes: BTreeMap<RequestNumber, Change>,
}

#[derive(Debug)]
struct Change {
    first: u64,
    count: u64,
    /// How many earlier changes have sectors in common with it.
    waits_for: u32,
}

impl Overlaps {
    /// Takes in a change, later than all before; whether it waits for none of them.
    pub(super) fn enter(&mut self, number: RequestNumber, first: u64, count: u64) -> bool {
        let mut change = Change {
            first,
            count,
            waits_for: 0,
        };
        // All of them are looked at: they are bounded by what an attachment may have pending.
        for earlier in self.changes.values() {
            change.waits_for += u32::from(earlier.overlaps(&change));
        }
        let free = change.waits_for == 0;
        let earlier = self.changes.insert(number, change);
        assert!(earlier.is_none(), "no two requests have the same number");
        free
    }

    /// A change has its answer; `freed` hears which others wait for none any more, in order.
    pub(super) fn leave(&mut self, number: RequestNumber, mut freed: impl FnMut(RequestNumber)) {
        let gone = self.changes.remove(&number);
        let gone = gone.expect("a change leaves once");
        for (later, change) in self.changes.range_mut(number..) {
            if change.overlaps(&gone) {
                change.waits_for -= 1;
                if change.waits_for == 0 {
                    freed(*later);
                }
            }
        }
    }
}

impl Change {
    fn overlaps(&self, other: &Self) -> bool {
        self.first < other.first + other.count && other.first < self.first + self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A change is free exactly when no earlier one that is still there overlaps it.
        #[test]
        fn changes_wait_for_earlier_ones_that_overlap(
            changes in prop::collection::vec((0_u64..12, 1_u64..6), 1..30),
            answered in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        ) {
            let mut overlaps = Overlaps::default();
            let mut there = Vec::new();
            let mut free = std::collections::BTreeSet::new();
            for (number, (first, count)) in (0..).map(RequestNumber).zip(changes) {
                if overlaps.enter(number, first, count) {
                    free.insert(number);
                }
                there.push((number, first, count));
            }
            let expected = |there: &[(RequestNumber, u64, u64)]| {
                let waits = |place: usize| {
                    let (_, first, count) = there[place];
                    there[..place].iter().any(|&(_, other, length)| {
                        other < first + count && first < other + length
                    })
                };
                (0..there.len())
                    .filter(|&place| !waits(place))
                    .map(|place| there[place].0)
                    .collect::<std::collections::BTreeSet<_>>()
            };
            prop_assert_eq!(&free, &expected(&there));
            for index in answered {
                let Some(&number) = free.iter().nth(index.index(free.len().max(1))) else { break };
                free.remove(&number);
                there.retain(|&(other, ..)| other != number);
                overlaps.leave(number, |freed| assert!(free.insert(freed)));
                prop_assert_eq!(&free, &expected(&there));
            }
        }
    }
}
