//! The memory twin of the store: what simulations and process tests run on.
//!
//! It keeps two images. The *live* one has every value that was accepted, the *durable* one only
//! what was made stable; loads see the durable one alone. Left to itself nothing completes: the
//! test says which load is answered, which store becomes stable, and when the power fails. In
//! automatic mode everything completes at once.

use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};

use super::floor::beyond_volumes;
use super::manager::{Completion, Completions, SectorsManager, StoreRequest};
use super::spans::SpanMap;
use crate::domain::{Content, Extent, Held, Runs, SECTOR_SIZE, SectorAddress, SectorRange};
use crate::domain::{Generation, Stamp, Vote};

/// The most runs in the votes of one [`Held`].
pub(crate) const VOTE_RUNS_MAX: usize = 4096;

/// Sectors in memory, with explicit steps or automatic.
pub struct MemorySectors {
    automatic: bool,
    state: Mutex<State>,
}

/// What one sector holds.
#[derive(Clone, Debug)]
struct Copy {
    stamp: Stamp,
    /// The sector's bytes; `None` for a tombstone.
    data: Option<Bytes>,
    damaged: bool,
}

#[derive(Default)]
struct State {
    durable: Image,
    live: Image,
    loads: Vec<WaitingLoad>,
    stores: Vec<WaitingStore>,
}

#[derive(Clone)]
struct Image(SpanMap<Copy>);

struct WaitingLoad {
    token: u64,
    range: SectorRange,
    newer_than: Option<Runs<Vote>>,
    completions: Arc<dyn Completions>,
}

struct WaitingStore {
    request: StoreRequest,
    completions: Arc<dyn Completions>,
}

impl MemorySectors {
    /// Every load is answered, and every store is stable and completed, before the call returns.
    pub fn automatic() -> Self {
        Self::with_mode(true)
    }

    /// Nothing completes until [`Self::finish_load`] and [`Self::finish_store`] say so.
    pub fn explicit() -> Self {
        Self::with_mode(false)
    }

    fn with_mode(automatic: bool) -> Self {
        Self {
            automatic,
            state: Mutex::new(State::default()),
        }
    }

    /// How many loads wait to be finished.
    pub fn loads_waiting(&self) -> usize {
        self.state().loads.len()
    }

    /// How many stores wait to be finished.
    pub fn stores_waiting(&self) -> usize {
        self.state().stores.len()
    }

    /// Answers the `place`-th waiting load, 0 being the oldest, from what is durable now.
    ///
    /// # Panics
    /// When fewer loads wait.
    pub fn finish_load(&self, place: usize) {
        let mut state = self.state();
        let load = state.loads.remove(place);
        let held = state.durable.held(load.range, load.newer_than.as_ref());
        drop(state);
        let token = load.token;
        load.completions
            .complete(vec![Completion::Loaded { token, held }]);
    }

    /// Makes the `place`-th waiting store durable, 0 being the oldest, and completes it.
    ///
    /// # Panics
    /// When fewer stores wait.
    pub fn finish_store(&self, place: usize) {
        let mut state = self.state();
        let store = state.stores.remove(place);
        state.durable.apply(&store.request);
        drop(state);
        let token = store.request.token;
        store
            .completions
            .complete(vec![Completion::Stored { token }]);
    }

    /// Finishes every waiting load and store, those that the completions ask for included.
    pub fn finish_all(&self) {
        loop {
            if self.loads_waiting() > 0 {
                self.finish_load(0);
            } else if self.stores_waiting() > 0 {
                self.finish_store(0);
            } else {
                break;
            }
        }
    }

    /// The power fails: what was not durable is forgotten, and nothing that waits completes.
    pub fn crash(&self) {
        let mut state = self.state();
        state.live = state.durable.clone();
        state.loads.clear();
        state.stores.clear();
    }

    /// Damages the copies of these sectors, as far as they hold anything.
    pub fn damage(&self, range: SectorRange) {
        let mut state = self.state();
        state.durable.damage(range);
        state.live.damage(range);
    }

    /// What a load would see if it answered from unstable state.
    pub fn live(&self, range: SectorRange) -> Held {
        self.state().live.held(range, Some(&everything(range)))
    }

    /// What a load of all values would answer now.
    pub fn durable(&self, range: SectorRange) -> Held {
        self.state().durable.held(range, Some(&everything(range)))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state
            .lock()
            .expect("no panic leaves the lock poisoned")
    }
}

impl SectorsManager for MemorySectors {
    fn load(
        &self,
        token: u64,
        range: SectorRange,
        newer_than: Option<Runs<Vote>>,
        completions: &Arc<dyn Completions>,
    ) -> Option<Held> {
        if beyond_volumes(range) {
            return Some(Held {
                votes: Runs::uniform(range.count(), Vote::Lost),
                values: Vec::new(),
            });
        }
        let mut state = self.state();
        if self.automatic {
            return Some(state.durable.held(range, newer_than.as_ref()));
        }
        state.loads.push(WaitingLoad {
            token,
            range,
            newer_than,
            completions: Arc::clone(completions),
        });
        None
    }

    fn store(&self, requests: Vec<StoreRequest>, completions: &Arc<dyn Completions>) {
        let mut state = self.state();
        let mut done = Vec::new();
        for request in requests {
            if request.beyond_volumes() {
                done.push(Completion::Refused {
                    token: request.token,
                });
                continue;
            }
            state.live.apply(&request);
            if self.automatic {
                state.durable.apply(&request);
                done.push(Completion::Stored {
                    token: request.token,
                });
            } else {
                state.stores.push(WaitingStore {
                    request,
                    completions: Arc::clone(completions),
                });
            }
        }
        drop(state);
        if !done.is_empty() {
            completions.complete(done);
        }
    }
}

impl Default for Image {
    fn default() -> Self {
        Self(SpanMap::new())
    }
}

impl Image {
    /// Takes the newer values. Below a damaged copy nothing changes, as if the damage had come later.
    fn apply(&mut self, request: &StoreRequest) {
        for extent in &request.extents {
            self.apply_extent(extent);
        }
    }

    fn apply_extent(&mut self, extent: &Extent) {
        for (first, last, known) in self.parts(extent.range) {
            if extent.content == Content::Unchanged {
                self.settle(first, last, known, extent.stamp.settled);
                continue;
            }
            let newer = known.map_or(extent.stamp > Stamp::ZERO, |copy| {
                extent.stamp > copy.stamp || copy.damaged && extent.stamp == copy.stamp
            });
            if newer {
                self.put(extent, first, last);
            }
        }
    }

    /// Sets these sectors of the extent.
    fn put(&mut self, extent: &Extent, first: u64, last: u64) {
        let copy = |data| Copy {
            stamp: extent.stamp,
            data,
            damaged: false,
        };
        match &extent.content {
            Content::Zeroes => self.0.set(first, last, copy(None)),
            Content::Unchanged => unreachable!("it is no value"),
            Content::Data(bytes) => {
                for address in first..=last {
                    let sector = SectorAddress::from_bits(address);
                    let offset = usize::try_from(extent.range.offset_of(sector))
                        .expect("an extent lies in memory");
                    let start = offset * SECTOR_SIZE;
                    let data = bytes.slice(start..start + SECTOR_SIZE);
                    self.0.set(address, address, copy(Some(data)));
                }
            }
        }
    }

    /// Raises the settled generation of what these sectors hold; a damaged copy stays damaged.
    fn settle(&mut self, first: u64, last: u64, known: Option<Copy>, generation: Generation) {
        let mut copy = known.unwrap_or(Copy {
            stamp: Stamp::ZERO,
            data: None,
            damaged: false,
        });
        if copy.stamp.settled < generation {
            copy.stamp = copy.stamp.settled_under(generation);
            self.0.set(first, last, copy);
        }
    }

    fn damage(&mut self, range: SectorRange) {
        for (first, last, known) in self.parts(range) {
            if let Some(copy) = known {
                let damaged = true;
                self.0.set(first, last, Copy { damaged, ..copy });
            }
        }
    }

    /// The whole range in order, what is known and what is not.
    fn parts(&self, range: SectorRange) -> Vec<(u64, u64, Option<Copy>)> {
        let mut parts = Vec::new();
        let mut next = Some(range.first().to_bits());
        let end = range.last().to_bits();
        for span in self.0.within(range.first().to_bits(), end) {
            let start = next.expect("spans ascend");
            if start < span.first {
                parts.push((start, span.first - 1, None));
            }
            parts.push((span.first, span.last, Some(span.value.clone())));
            next = span.last.checked_add(1);
        }
        if let Some(start) = next.filter(|start| *start <= end) {
            parts.push((start, end, None));
        }
        parts
    }

    fn held(&self, range: SectorRange, newer_than: Option<&Runs<Vote>>) -> Held {
        let mut votes = Runs::new();
        let mut values = Values::default();
        for (first, last, known) in self.parts(range) {
            let count = u32::try_from(last - first + 1).expect("no more than the range");
            let vote = match &known {
                None => Vote::ZERO,
                Some(copy) if copy.damaged => Vote::Lost,
                Some(copy) => Vote::Stamp(copy.stamp),
            };
            if votes.run_count() == VOTE_RUNS_MAX && votes.at(votes.count() - 1) != Some(vote) {
                break;
            }
            votes.push(count, vote);
            if let (Some(wanted), Some(copy)) = (newer_than, known)
                && !copy.damaged
            {
                let asked = SectorRange::new(SectorAddress::from_bits(first), count)
                    .expect("a part of a range");
                values.push_newer(asked, &copy, wanted, range.offset_of(asked.first()));
            }
        }
        let values = values.finish();
        Held { votes, values }
    }
}

/// Values in the making: sectors of one write that follow one another become one extent.
#[derive(Default)]
struct Values {
    extents: Vec<Extent>,
    growing: Option<(SectorRange, Stamp, Option<BytesMut>)>,
}

impl Values {
    /// Appends those sectors of `asked`, all of which hold `copy`, that are newer than what is
    /// wanted; `base` is the place of the first of them in `wanted`.
    fn push_newer(&mut self, asked: SectorRange, copy: &Copy, wanted: &Runs<Vote>, base: u32) {
        if copy.stamp.is_zero() {
            return;
        }
        for (start, count, known) in wanted.spans() {
            let first = start.max(base);
            let end = (start + count).min(base + asked.count());
            if first < end && Vote::Stamp(copy.stamp) > known {
                self.push(asked.part(first - base, end - first), copy);
            }
        }
    }

    fn push(&mut self, range: SectorRange, copy: &Copy) {
        if let Some((before, stamp, bytes)) = &mut self.growing
            && *stamp == copy.stamp
            && bytes.is_some() == copy.data.is_some()
            && before.last().to_bits() + 1 == range.first().to_bits()
            && let Some(joined) = SectorRange::new(before.first(), before.count() + range.count())
        {
            *before = joined;
            if let (Some(bytes), Some(data)) = (bytes, &copy.data) {
                bytes.extend_from_slice(data);
            }
            return;
        }
        self.close();
        let bytes = copy.data.as_deref().map(BytesMut::from);
        self.growing = Some((range, copy.stamp, bytes));
    }

    fn close(&mut self) {
        if let Some((range, stamp, bytes)) = self.growing.take() {
            let content = bytes.map_or(Content::Zeroes, |bytes| Content::Data(bytes.freeze()));
            self.extents.push(Extent::new(range, stamp, content));
        }
    }

    fn finish(mut self) -> Vec<Extent> {
        self.close();
        self.extents
    }
}

/// Asks for every value: nothing is known of any sector.
fn everything(range: SectorRange) -> Runs<Vote> {
    Runs::uniform(range.count(), Vote::Lost)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Rank, Volume};

    #[derive(Default)]
    struct Inbox(Mutex<Vec<Completion>>);

    impl Completions for Inbox {
        fn complete(&self, completions: Vec<Completion>) {
            self.0.lock().unwrap().extend(completions);
        }
    }

    fn range(first: u64, count: u32) -> SectorRange {
        SectorRange::new(SectorAddress::new(Volume(0), first).unwrap(), count).unwrap()
    }

    fn stamp(timestamp: u64) -> Stamp {
        Stamp {
            timestamp,
            rank: Rank::new(1),
            ..Stamp::ZERO
        }
    }

    fn write(token: u64, range: SectorRange, timestamp: u64) -> StoreRequest {
        let fill = u8::try_from(timestamp).unwrap();
        let data = Bytes::from(vec![fill; usize::try_from(range.bytes()).unwrap()]);
        let extents = vec![Extent::new(range, stamp(timestamp), Content::Data(data))];
        StoreRequest { token, extents }
    }

    #[test]
    fn nothing_is_there_before_it_is_finished_and_a_crash_forgets_the_rest() {
        let sectors = MemorySectors::explicit();
        let inbox = Arc::new(Inbox::default());
        let completions: Arc<dyn Completions> = inbox.clone();
        sectors.store(vec![write(1, range(5, 2), 1)], &completions);
        sectors.store(vec![write(2, range(6, 1), 2)], &completions);
        assert_eq!(
            sectors.durable(range(5, 2)).votes,
            Runs::uniform(2, Vote::ZERO)
        );
        assert_eq!(
            sectors.live(range(6, 1)).votes.at(0),
            Some(Vote::Stamp(stamp(2)))
        );
        sectors.finish_store(0);
        sectors.crash();
        assert_eq!(sectors.stores_waiting(), 0);
        let held = sectors.durable(range(4, 4));
        assert_eq!(
            held.votes
                .iter()
                .map(|(count, _)| count)
                .collect::<Vec<_>>(),
            [1, 2, 1]
        );
        assert_eq!(held.values.len(), 1);
        assert_eq!(held.values[0].range, range(5, 2));
        assert_eq!(sectors.live(range(6, 1)), sectors.durable(range(6, 1)));
        let done = inbox.0.lock().unwrap();
        assert!(matches!(done[..], [Completion::Stored { token: 1 }]));
    }

    #[test]
    fn a_damaged_copy_is_healed_by_its_own_stamp_and_never_by_a_lower_one() {
        let sectors = MemorySectors::automatic();
        let inbox = Arc::new(Inbox::default());
        let completions: Arc<dyn Completions> = inbox.clone();
        sectors.store(vec![write(1, range(0, 1), 5)], &completions);
        sectors.damage(range(0, 2));
        let held = sectors.load(9, range(0, 2), None, &completions).unwrap();
        assert_eq!(held.votes.at(0), Some(Vote::Lost));
        assert_eq!(held.votes.at(1), Some(Vote::ZERO));
        sectors.store(vec![write(2, range(0, 1), 4)], &completions);
        let held = sectors.load(9, range(0, 1), None, &completions).unwrap();
        assert_eq!(held.votes.at(0), Some(Vote::Lost));
        sectors.store(vec![write(3, range(0, 1), 5)], &completions);
        let held = sectors.load(9, range(0, 1), None, &completions).unwrap();
        assert_eq!(held.votes.at(0), Some(Vote::Stamp(stamp(5))));
        let done = inbox.0.lock().unwrap();
        let tokens: Vec<u64> = done
            .iter()
            .map(|completion| match completion {
                Completion::Stored { token }
                | Completion::Refused { token }
                | Completion::Loaded { token, .. } => *token,
            })
            .collect();
        assert_eq!(tokens, [1, 2, 3]);
    }
}
