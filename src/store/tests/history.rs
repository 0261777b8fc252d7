//! Histories: what a process might ask of its store, without threads.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::medium::{Contents, CrashMedium, Operation};
use super::model::{Model, extent, fence, generation_of, generation_stamp, range, settling};
use crate::domain::{
    ClusterId, Extent, Generation, Held, Rank, Runs, SectorRange, Stamp, StoreId, Volume, Vote,
};
use crate::store::commit::Blocked;
use crate::store::engine::Engine;
use crate::store::error::StoreError;
use crate::store::format::format;
use crate::store::identity::Identity;
use crate::store::load::Patience;
use crate::store::manager::{Completion, Completions, StoreRequest};
use crate::store::plan::Pending;
use crate::store::recovery;

pub(crate) const CACHE_BYTES: usize = 1 << 20;

/// The volume whose fence is recorded.
const VOLUME: Volume = Volume(0);

/// A store in use, and what it has promised.
pub(crate) struct History {
    pub(crate) medium: Arc<CrashMedium>,
    pub(crate) engine: Arc<Engine>,
    pub(crate) inner: Arc<Mutex<Client>>,
    pub(crate) start: Contents,
}

/// The one who asks.
pub(crate) struct Client {
    pub(crate) model: Model,
    pub(crate) queue: VecDeque<Pending>,
    pub(crate) random: ChaCha8Rng,
    identity: Identity,
    /// By token: what is promised when it is acknowledged.
    requests: Vec<Vec<(SectorRange, Stamp)>>,
    timestamp: u64,
    pub(crate) shape: Shape,
}

/// What a history is like.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Shape {
    /// Sectors that are written with data: 0 up to this.
    pub(crate) sectors: u64,
    /// Sectors that are only trimmed lie behind those, up to this.
    pub(crate) trimmed: u64,
    /// Sectors of a write, at most.
    pub(crate) write: u32,
    /// Requests that are queued at once, at most; with 0 nothing is committed during checkpoints.
    pub(crate) depth: u64,
}

pub(crate) struct Nobody;

impl Completions for Nobody {
    fn complete(&self, _: Vec<Completion>) {}
}

/// A new store's medium.
pub(crate) fn formatted() -> Contents {
    let medium = CrashMedium::new(Contents::default());
    let store = StoreId([7; 16]);
    format(&*medium, store, ClusterId([1; 16]), Rank::new(1).unwrap()).unwrap();
    medium.contents()
}

impl History {
    /// Recovers the medium and checks that it has what the model says.
    pub(crate) fn begin(
        contents: Contents,
        mut model: Model,
        seed: u64,
        shape: Shape,
    ) -> Result<Self, StoreError> {
        let start = contents.clone();
        let medium = CrashMedium::new(contents);
        let (identity, first_copy) = Identity::read(&*medium)?;
        // Of every life another thousand, so that no stamp means two things.
        let timestamp = model.highest() + 1000 - model.highest() % 4;
        let (engine, identity) =
            recovery::start(medium.clone(), &identity, first_copy, CACHE_BYTES)?;
        model
            .check_fence(identity.fences.of(VOLUME))
            .map_err(StoreError::inconsistent)?;
        let client = Client {
            model,
            queue: VecDeque::new(),
            random: ChaCha8Rng::seed_from_u64(seed),
            identity,
            requests: Vec::new(),
            timestamp,
            shape,
        };
        Ok(Self {
            medium,
            engine: Arc::new(engine),
            inner: Arc::new(Mutex::new(client)),
            start,
        })
    }

    pub(crate) fn client(&self) -> std::sync::MutexGuard<'_, Client> {
        self.inner.lock().expect("no panic leaves it poisoned")
    }

    /// Does something at random.
    pub(crate) fn step(&self) {
        let choice = self.client().random.next_u32() % 16;
        match choice {
            0 => self.checkpoint(),
            1 => self.engine.mark_idle().unwrap(),
            2 | 3 => observe(&self.medium, &self.engine, &self.inner),
            4 => record_fence(&self.medium, &self.inner),
            _ => {
                self.client().submit();
                self.commit();
            }
        }
    }

    /// Commits what is queued, with checkpoints where the journal is full.
    pub(crate) fn commit(&self) {
        while !self.client().queue.is_empty() {
            let blocked = commit(&self.medium, &self.engine, &self.inner, 100);
            if matches!(blocked, Some(Blocked::Journal)) {
                self.checkpoint();
            }
        }
    }

    /// A checkpoint, with batches committed between its writes.
    pub(crate) fn checkpoint(&self) {
        let moment = self.engine.freeze();
        if self.client().shape.depth == 0 {
            return self.engine.checkpoint(&moment, &|_| false).unwrap();
        }
        let (medium, engine) = (self.medium.clone(), self.engine.clone());
        let inner = self.inner.clone();
        self.medium.at_writes(Some(Box::new(move || {
            let busy = {
                let mut client = inner.lock().expect("no panic leaves it poisoned");
                let busy = client.random.next_u32().is_multiple_of(3);
                if busy {
                    client.submit();
                }
                busy
            };
            if busy {
                commit(&medium, &engine, &inner, 1);
            } else if inner
                .lock()
                .expect("no panic leaves it poisoned")
                .random
                .next_u32()
                .is_multiple_of(16)
            {
                record_fence(&medium, &inner);
            }
        })));
        let outcome = self.engine.checkpoint(&moment, &|_| false);
        self.medium.at_writes(None);
        outcome.unwrap();
    }

    /// Checks every sector against the model.
    pub(crate) fn check(&self, may_be_lost: impl Fn(u64) -> bool) -> Result<(), String> {
        let (model, shape) = {
            let client = self.client();
            (client.model.cut(usize::MAX), client.shape)
        };
        let mut first = 0;
        while first < shape.trimmed {
            let count = u32::try_from((shape.trimmed - first).min(256)).unwrap();
            let wanted = range(first, count);
            let held = load(&self.engine, wanted);
            model.check(wanted, &held, &may_be_lost)?;
            first += u64::from(held.votes.count());
        }
        Ok(())
    }

    /// Ends the history: the medium as it was, what was done to it, and the model.
    pub(crate) fn end(self) -> (Contents, Vec<Operation>, Model) {
        let model = self.client().model.clone();
        (self.start, self.medium.take_log(), model)
    }
}

impl Client {
    pub(crate) fn any_range(&mut self) -> SectorRange {
        let first = self.random.next_u64() % self.shape.trimmed;
        let most = (self.shape.trimmed - first).min(u64::from(self.shape.write));
        range(
            first,
            1 + u32::try_from(self.random.next_u64() % most).unwrap(),
        )
    }

    /// Queues some requests.
    pub(crate) fn submit(&mut self) {
        for _ in 0..=self.random.next_u64() % self.shape.depth {
            let extents = (0..=self.random.next_u32() % 2)
                .map(|_| self.any_extent())
                .collect();
            self.push(extents);
        }
    }

    fn any_extent(&mut self) -> Extent {
        let choice = self.random.next_u32() % 8;
        if choice <= 1 {
            let first = self.random.next_u64() % self.shape.trimmed;
            let most = self.shape.trimmed - first;
            let length = 1 + (self.random.next_u64() % most).min(self.random.next_u64() % 64);
            let range = range(first, u32::try_from(length).unwrap());
            if choice == 1 {
                return settling(range, self.any_generation());
            }
            let stamp = self.next_stamp();
            return extent(range, stamp, false);
        }
        let first = self.random.next_u64() % self.shape.sectors;
        let most = (self.shape.sectors - first).min(u64::from(self.shape.write));
        let length = 1 + self.random.next_u64() % most;
        let stamp = self.next_stamp();
        extent(range(first, u32::try_from(length).unwrap()), stamp, true)
    }

    /// Around that of the stamps.
    fn any_generation(&mut self) -> Generation {
        let around = generation_of(self.timestamp).0 + self.random.next_u64() % 4;
        Generation(around.saturating_sub(1))
    }

    /// Mostly a new stamp, sometimes an older one that was never used.
    fn next_stamp(&mut self) -> Stamp {
        self.timestamp += 4;
        let back = u64::from(self.random.next_u32().is_multiple_of(8));
        generation_stamp(self.timestamp - back * 42)
    }

    pub(crate) fn push(&mut self, extents: Vec<Extent>) {
        let promises = extents.iter().flat_map(|extent| self.model.submit(extent));
        let promises = promises.collect();
        let token = self.requests.len() as u64;
        self.requests.push(promises);
        self.queue.push_back(Pending {
            request: StoreRequest { token, extents },
            completions: Arc::new(Nobody),
            progress: crate::store::plan::Progress::default(),
            pinned: Vec::new(),
        });
    }

    fn acknowledge(&mut self, operations: usize, token: u64) {
        let promises = std::mem::take(&mut self.requests[usize::try_from(token).unwrap()]);
        for (range, stamp) in promises {
            self.model.promise(operations, range, stamp);
        }
    }
}

/// Records the next fence, or another one of the same generation.
fn record_fence(medium: &CrashMedium, inner: &Mutex<Client>) {
    let mut client = inner.lock().expect("no panic leaves it poisoned");
    let generation = client.identity.fences.of(VOLUME).generation.0;
    let raised = generation == 0 || client.random.next_u32().is_multiple_of(2);
    let fence = fence(
        generation + u64::from(raised),
        client.random.next_u32().to_be_bytes()[0],
    );
    let next = client.identity.with_fence(VOLUME, fence).unwrap();
    let from = medium.operations();
    next.write(medium, 0).unwrap();
    client.identity = next;
    client.model.record(from, medium.operations(), fence);
}

/// Loads something: what was seen once must not be gone after a crash.
fn observe(medium: &CrashMedium, engine: &Engine, inner: &Mutex<Client>) {
    let mut client = inner.lock().expect("no panic leaves it poisoned");
    let wanted = client.any_range();
    let held = load(engine, wanted);
    for (offset, count, vote) in held.votes.spans() {
        if let Vote::Stamp(seen) = vote {
            let seen_at = medium.operations();
            client
                .model
                .promise(seen_at, wanted.part(offset, count), seen);
        }
    }
}

pub(crate) fn load(engine: &Engine, wanted: SectorRange) -> Held {
    let everything = Runs::uniform(wanted.count(), Vote::Lost);
    engine
        .load(wanted, Some(&everything), Patience::Waits)
        .unwrap()
        .unwrap()
}

/// Commits rounds until the queue is empty or nothing goes on.
pub(crate) fn commit(
    medium: &CrashMedium,
    engine: &Engine,
    inner: &Mutex<Client>,
    rounds: usize,
) -> Option<Blocked> {
    let client = || inner.lock().expect("no panic leaves it poisoned");
    for _ in 0..rounds {
        let mut queue = std::mem::take(&mut client().queue);
        if queue.is_empty() {
            return None;
        }
        let prepared = engine.prepare(&mut queue);
        let progress =
            prepared.batch.is_some() || !prepared.done.is_empty() || !prepared.missing.is_empty();
        let mut done = prepared.done;
        if let Some(batch) = prepared.batch {
            // Whoever reads now sees nothing that is not stable.
            observe(medium, engine, inner);
            engine.write(&batch).unwrap();
            observe(medium, engine, inner);
            done.extend(engine.publish(batch));
        }
        for (mut pending, missing) in prepared.missing {
            let found = engine.fetch(missing).unwrap();
            pending.pinned.push((missing.page, found));
            queue.push_front(pending);
        }
        let operations = medium.operations();
        let mut client = client();
        client.queue = queue;
        for done in done {
            client.acknowledge(operations, done.token);
        }
        if !progress {
            return prepared.blocked;
        }
    }
    None
}
