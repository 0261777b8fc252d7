//! Which operations have their sectors to themselves, and which wait for them.
//!
//! Operations on the same sector run one at a time in the order of their arrival; operations that
//! share no sector never wait for one another. An operation begins once it is the first on every
//! sector of its range, so of those that wait none overtakes another that it overlaps.
//!
//! The sectors in use are kept as disjoint segments in order of address, each with the queue of
//! those that want it. Locking and releasing costs a search in that order, and then as much as
//! there are segments in the range; thousands of disjoint operations, or thousands that wait for
//! one sector, cost no more than that search each.

use std::collections::{BTreeMap, VecDeque};

use crate::domain::SectorRange;

/// Names what locks a range, from [`RangeLocks::lock`] to [`RangeLocks::release`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct LockId(usize);

/// How a request for a lock ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Locked<T> {
    /// The range is its own; what it is for is handed back.
    Granted(LockId, T),
    /// It waits, and will be granted by some [`RangeLocks::release`].
    Queued,
    /// As many wait as may; nothing was changed.
    Full,
}

/// The locks of ranges, each with a `T` that waits for it.
#[derive(Debug)]
pub(super) struct RangeLocks<T> {
    /// By first address; disjoint, and each at least partly held.
    segments: BTreeMap<u64, Segment>,
    claims: Vec<Claim<T>>,
    unused_claims: Vec<usize>,
    queued: usize,
    queue_max: usize,
}

/// Neighbouring sectors that are wanted by the same claims in the same order.
#[derive(Debug)]
struct Segment {
    last: u64,
    holder: usize,
    waiting: VecDeque<usize>,
}

#[derive(Debug)]
struct Claim<T> {
    range: SectorRange,
    /// In how many segments another comes first.
    behind: usize,
    /// What waits; `None` once it was granted.
    waiting: Option<T>,
}

impl<T> RangeLocks<T> {
    /// Nothing locked yet; at most `queue_max` will wait.
    pub(super) fn new(queue_max: usize) -> Self {
        Self {
            segments: BTreeMap::new(),
            claims: Vec::new(),
            unused_claims: Vec::new(),
            queued: 0,
            queue_max,
        }
    }

    /// How many wait.
    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    /// Locks the range for `purpose`, or queues it.
    pub(super) fn lock(&mut self, range: SectorRange, purpose: T) -> Locked<T> {
        let (first, last) = (range.first().to_bits(), range.last().to_bits());
        let free = match self.segments.range(..=last).next_back() {
            None => true,
            Some((_, segment)) => segment.last < first,
        };
        if free {
            let id = self.claim(range);
            self.segments.insert(first, Segment::held_by(id, last));
            return Locked::Granted(LockId(id), purpose);
        }
        if self.queued == self.queue_max {
            return Locked::Full;
        }
        let id = self.claim(range);
        self.queue_up(id, first, last);
        self.claims[id].waiting = Some(purpose);
        self.queued += 1;
        Locked::Queued
    }

    /// Gives the range back, and appends to `granted` whoever has become the first on all of its
    /// sectors by that.
    pub(super) fn release(&mut self, id: LockId, granted: &mut Vec<(LockId, T)>) {
        let LockId(id) = id;
        let range = self.claims[id].range;
        let (first, last) = (range.first().to_bits(), range.last().to_bits());
        self.unused_claims.push(id);
        let mut at = Some(first);
        while let Some(segment_first) = at {
            let segment = self
                .segments
                .get_mut(&segment_first)
                .expect("a claim lies in whole segments until it is released");
            assert!(
                segment.holder == id,
                "what is released comes first on its sectors"
            );
            let segment_last = segment.last;
            match segment.waiting.pop_front() {
                None => {
                    self.segments.remove(&segment_first);
                }
                Some(next) => {
                    segment.holder = next;
                    self.advance(next, granted);
                }
            }
            at = (segment_last < last).then(|| segment_last + 1);
        }
    }

    fn advance(&mut self, id: usize, granted: &mut Vec<(LockId, T)>) {
        let claim = &mut self.claims[id];
        claim.behind -= 1;
        if claim.behind == 0 {
            let purpose = claim.waiting.take().expect("it was not granted before");
            granted.push((LockId(id), purpose));
            self.queued -= 1;
        }
    }

    fn claim(&mut self, range: SectorRange) -> usize {
        let claim = Claim {
            range,
            behind: 0,
            waiting: None,
        };
        if let Some(id) = self.unused_claims.pop() {
            self.claims[id] = claim;
            id
        } else {
            self.claims.push(claim);
            self.claims.len() - 1
        }
    }

    /// Puts the claim last in every segment of its range, and first where there was none.
    fn queue_up(&mut self, id: usize, first: u64, last: u64) {
        self.split(first);
        if let Some(next) = last.checked_add(1) {
            self.split(next);
        }
        let mut gaps = Vec::new();
        let mut behind = 0;
        // The first sector that is not looked at yet, until all are.
        let mut next = Some(first);
        for (&segment_first, segment) in self.segments.range_mut(first..=last) {
            if let Some(gap_first) = next.filter(|&next| next < segment_first) {
                gaps.push((gap_first, segment_first - 1));
            }
            segment.waiting.push_back(id);
            behind += 1;
            next = (segment.last < last).then(|| segment.last + 1);
        }
        gaps.extend(next.map(|gap_first| (gap_first, last)));
        for (gap_first, gap_last) in gaps {
            self.segments
                .insert(gap_first, Segment::held_by(id, gap_last));
        }
        self.claims[id].behind = behind;
    }

    /// Makes `at` the first sector of a segment, where it lies within one.
    fn split(&mut self, at: u64) {
        let Some((_, segment)) = self.segments.range_mut(..at).next_back() else {
            return;
        };
        if segment.last < at {
            return;
        }
        let upper = Segment {
            last: segment.last,
            holder: segment.holder,
            waiting: segment.waiting.clone(),
        };
        segment.last = at - 1;
        for &waiting in &upper.waiting {
            self.claims[waiting].behind += 1;
        }
        self.segments.insert(at, upper);
    }
}

impl Segment {
    fn held_by(holder: usize, last: u64) -> Self {
        Self {
            last,
            holder,
            waiting: VecDeque::new(),
        }
    }
}

#[cfg(test)]
mod tests;
