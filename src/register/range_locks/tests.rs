use super::*;
use crate::domain::{INDEX_LIMIT, SectorAddress, Volume};
use proptest::prelude::*;

fn range(first: u64, count: u32) -> SectorRange {
    // The last sectors of the last volume: nothing may be added to their addresses.
    let first = SectorAddress::new(Volume(u16::MAX), INDEX_LIMIT - 64 + first).unwrap();
    SectorRange::new(first, count).unwrap()
}

/// The definition: whoever overlaps none that came before has its range.
#[derive(Default)]
struct Slow {
    claims: Vec<(u32, SectorRange, Option<LockId>)>,
}

impl Slow {
    fn is_first(&self, at: usize) -> bool {
        let (_, range, _) = self.claims[at];
        !self.claims[..at]
            .iter()
            .any(|claim| claim.1.overlaps(range))
    }

    fn queued(&self) -> usize {
        self.claims.iter().filter(|claim| claim.2.is_none()).count()
    }
}

proptest! {
    #[test]
    fn operations_begin_when_none_before_them_overlaps(
        actions in prop::collection::vec((0u64..56, 1u32..9, prop::bool::weighted(0.4)), 1..80),
        wide in prop::bool::ANY,
    ) {
        let queue_max = 12;
        let mut locks = RangeLocks::new(queue_max);
        let mut slow = Slow::default();
        for (number, (first, count, release)) in (0u32..).zip(actions) {
            let held: Vec<usize> =
                (0..slow.claims.len()).filter(|&at| slow.claims[at].2.is_some()).collect();
            if release && !held.is_empty() {
                let at = held[usize::try_from(first).unwrap() % held.len()];
                let (_, _, id) = slow.claims.remove(at);
                let mut granted = Vec::new();
                locks.release(id.unwrap(), &mut granted);
                for (id, number) in granted {
                    let at = slow.claims.iter().position(|claim| claim.0 == number).unwrap();
                    prop_assert!(slow.claims[at].2.is_none());
                    slow.claims[at].2 = Some(id);
                }
            } else {
                let range = if wide { range(first / 8 * 8, 8) } else { range(first, count) };
                slow.claims.push((number, range, None));
                let at = slow.claims.len() - 1;
                match locks.lock(range, number) {
                    Locked::Granted(id, same) => {
                        prop_assert_eq!(same, number);
                        slow.claims[at].2 = Some(id);
                    }
                    Locked::Queued => prop_assert!(slow.queued() <= queue_max),
                    Locked::Full => {
                        prop_assert!(!slow.is_first(at));
                        slow.claims.pop();
                        prop_assert_eq!(slow.queued(), queue_max);
                    }
                }
            }
            for at in 0..slow.claims.len() {
                prop_assert_eq!(slow.claims[at].2.is_some(), slow.is_first(at));
            }
            prop_assert_eq!(locks.queued(), slow.queued());
        }
        if slow.claims.is_empty() {
            prop_assert!(locks.segments.is_empty());
        }
    }
}

#[test]
fn nothing_is_left_when_all_is_released() {
    let mut locks = RangeLocks::new(10);
    let Locked::Granted(wide, ()) = locks.lock(range(0, 64), ()) else {
        panic!("nothing else is locked");
    };
    assert_eq!(locks.lock(range(10, 10), ()), Locked::Queued);
    assert_eq!(locks.lock(range(0, 64), ()), Locked::Queued);
    assert_eq!(locks.lock(range(63, 1), ()), Locked::Queued);
    let mut granted = Vec::new();
    locks.release(wide, &mut granted);
    while let Some((id, ())) = granted.pop() {
        locks.release(id, &mut granted);
    }
    assert!(locks.segments.is_empty());
    assert_eq!(locks.queued(), 0);
    assert_eq!(locks.unused_claims.len(), locks.claims.len());
}
