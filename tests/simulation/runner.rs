//! Runs seeds, on all cores, until one fails.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::bug::Bug;
use crate::tally::Tally;
use crate::world::World;

/// How one seed went wrong.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) seed: u64,
    pub(crate) why: String,
}

/// Runs one seed.
pub(crate) fn run_seed(seed: u64, bug: Option<Bug>, traced: bool) -> Result<(), String> {
    let run = AssertUnwindSafe(|| World::new(seed, bug, traced).run());
    catch_unwind(run).unwrap_or_else(|_| Err("something panicked".to_owned()))
}

/// What happened in the simulation of a sound seed.
pub(crate) fn survey(seed: u64) -> Tally {
    let mut world = World::new(seed, None, false);
    assert_eq!(world.run(), Ok(()), "seed {seed}");
    world.tally
}

/// Runs so many seeds; the first failure that is found, if any.
pub(crate) fn run_seeds(
    seeds: std::ops::Range<u64>,
    bug: Option<Bug>,
    counts: fn(&str) -> bool,
) -> Option<Failure> {
    let next = AtomicU64::new(seeds.start);
    let stop = AtomicBool::new(false);
    let failure = Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    if let Err(why) = run_seed(seed, bug, false)
                        && counts(&why)
                    {
                        stop.store(true, Ordering::Relaxed);
                        let mut first = failure.lock().unwrap();
                        let earlier = |found: &Failure| found.seed < seed;
                        if !first.as_ref().is_some_and(earlier) {
                            *first = Some(Failure { seed, why });
                        }
                    }
                }
            });
        }
    });
    failure.into_inner().unwrap()
}
