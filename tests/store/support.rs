//! What these tests have in common: sectors, stamps, an inbox.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use atdd::domain::{
    ClusterId, Content, Extent, Generation, Held, Incarnation, Rank, Runs, SECTOR_SIZE,
    SectorAddress, SectorRange, Stamp, Volume, Vote,
};
use atdd::store::{
    Completion, Completions, DiskSectors, Options, SectorsManager, StoreRequest, Unrecovered,
};
use bytes::Bytes;

pub fn at(index: u64) -> SectorAddress {
    SectorAddress::new(Volume(0), index).unwrap()
}

pub fn range(first: u64, count: u32) -> SectorRange {
    SectorRange::new(at(first), count).unwrap()
}

pub fn stamp(timestamp: u64) -> Stamp {
    Stamp {
        timestamp,
        rank: Rank::new(1),
        incarnation: Incarnation(1),
        ..Stamp::ZERO
    }
}

/// Bytes that differ for each sector and stamp.
pub fn bytes(range: SectorRange, timestamp: u64) -> Bytes {
    let mut data = Vec::with_capacity(range.count() as usize * SECTOR_SIZE);
    for address in range.addresses() {
        let word = (address.to_bits() << 20) ^ timestamp;
        for place in 0..SECTOR_SIZE as u64 / 8 {
            data.extend_from_slice(&(word ^ (place << 52)).to_le_bytes());
        }
    }
    Bytes::from(data)
}

pub fn data(range: SectorRange, timestamp: u64) -> Extent {
    Extent::new(
        range,
        stamp(timestamp),
        Content::Data(bytes(range, timestamp)),
    )
}

pub fn zeroes(range: SectorRange, timestamp: u64) -> Extent {
    Extent::new(range, stamp(timestamp), Content::Zeroes)
}

/// The extent that settles whatever the sectors hold.
pub fn settling(range: SectorRange, generation: u64) -> Extent {
    let stamp = Stamp::ZERO.settled_under(Generation(generation));
    Extent::new(range, stamp, Content::Unchanged)
}

/// Everything is newer than this.
pub fn everything(range: SectorRange) -> Runs<Vote> {
    Runs::uniform(range.count(), Vote::Lost)
}

/// Takes completions and lets a test wait for them.
#[derive(Default)]
pub struct Inbox {
    done: Mutex<Vec<Completion>>,
    changed: Condvar,
}

impl Completions for Inbox {
    fn complete(&self, completions: Vec<Completion>) {
        self.done.lock().unwrap().extend(completions);
        self.changed.notify_all();
    }
}

impl Inbox {
    pub fn new() -> (Arc<Self>, Arc<dyn Completions>) {
        let inbox = Arc::new(Self::default());
        (Arc::clone(&inbox), inbox)
    }

    /// Waits until so many stores are completed, and gives their tokens in order.
    pub fn stored(&self, count: usize) -> Vec<u64> {
        self.tokens(count, |completion| match completion {
            Completion::Stored { token } => Some(*token),
            Completion::Refused { .. } | Completion::Loaded { .. } => None,
        })
    }

    /// Waits until so many stores are refused, and gives their tokens in order.
    pub fn refused(&self, count: usize) -> Vec<u64> {
        self.tokens(count, |completion| match completion {
            Completion::Refused { token } => Some(*token),
            Completion::Stored { .. } | Completion::Loaded { .. } => None,
        })
    }

    fn tokens(&self, count: usize, of: fn(&Completion) -> Option<u64>) -> Vec<u64> {
        let tokens = |done: &[Completion]| -> Vec<u64> { done.iter().filter_map(of).collect() };
        let mut done = self.done.lock().unwrap();
        while tokens(&done).len() < count {
            let (guard, timeout) = self
                .changed
                .wait_timeout(done, Duration::from_secs(60))
                .unwrap();
            done = guard;
            assert!(
                !timeout.timed_out(),
                "{} of {count} stores",
                tokens(&done).len()
            );
        }
        tokens(&done)
    }

    /// Waits for the answer to a load.
    pub fn loaded(&self, wanted: u64) -> Held {
        let mut done = self.done.lock().unwrap();
        loop {
            let found = done.iter().find_map(|completion| match completion {
                Completion::Loaded { token, held } if *token == wanted => Some(held.clone()),
                _ => None,
            });
            if let Some(held) = found {
                return held;
            }
            let (guard, timeout) = self
                .changed
                .wait_timeout(done, Duration::from_secs(60))
                .unwrap();
            done = guard;
            assert!(!timeout.timed_out(), "load {wanted} is not answered");
        }
    }
}

/// Loads and waits.
pub fn load(
    sectors: &dyn SectorsManager,
    range: SectorRange,
    newer_than: Option<Runs<Vote>>,
) -> Held {
    let (inbox, completions) = Inbox::new();
    sectors
        .load(7, range, newer_than, &completions)
        .unwrap_or_else(|| inbox.loaded(7))
}

/// Stores each extent by its own request, and waits for all.
pub fn store(sectors: &dyn SectorsManager, extents: Vec<Extent>) {
    let (inbox, completions) = Inbox::new();
    let count = extents.len();
    let requests = (0..)
        .zip(extents)
        .map(|(token, extent)| StoreRequest {
            token,
            extents: vec![extent],
        })
        .collect();
    sectors.store(requests, &completions);
    inbox.stored(count);
}

pub fn options() -> Options {
    Options::new(ClusterId([9; 16]), Rank::new(2).unwrap())
}

pub fn open(directory: &std::path::Path) -> DiskSectors {
    Unrecovered::open(directory, &options())
        .unwrap()
        .recover(Box::new(|error| panic!("the store failed: {error}")))
        .unwrap()
}
