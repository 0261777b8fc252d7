//! The load: so many loops, each with one request under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use atdd::client::{Attachment, ClientError};
use atdd::domain::SECTOR_SIZE;
use bytes::Bytes;
use hdrhistogram::Histogram;
use rand::RngExt;
use tokio::task::JoinSet;

use crate::attach;

/// What is to be done.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) depth: u16,
    pub(crate) read_percent: u8,
    pub(crate) block_sectors: u64,
    /// How many blocks the disk has.
    pub(crate) blocks: u64,
    pub(crate) duration: Duration,
    pub(crate) sequential: bool,
}

/// What was measured.
pub(crate) struct Tally {
    /// Latencies in microseconds.
    pub(crate) reads: Histogram<u64>,
    pub(crate) writes: Histogram<u64>,
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
}

/// Nothing takes longer and is still measured; a minute is where a stall becomes an outage.
const LATENCY_MAX_US: u64 = 60_000_000;

/// Puts the load on the disk.
pub(crate) async fn run(disk: &Attachment, plan: &Plan) -> Result<Tally> {
    let began = Instant::now();
    let next = Arc::new(AtomicU64::new(0));
    let mut loops = JoinSet::new();
    for _ in 0..plan.depth {
        let one = one_loop(disk.clone(), plan.clone(), Arc::clone(&next), began);
        loops.spawn(one);
    }
    let mut total = Tally {
        reads: latencies(),
        writes: latencies(),
        elapsed: Duration::ZERO,
    };
    while let Some(ended) = loops.join_next().await {
        let (reads, writes) = ended
            .context("a part of the load has died")?
            .map_err(attach::in_words)?;
        let same_bounds = "both have the same bounds";
        total.reads.add(reads).expect(same_bounds);
        total.writes.add(writes).expect(same_bounds);
    }
    total.elapsed = began.elapsed();
    Ok(total)
}

async fn one_loop(
    disk: Attachment,
    plan: Plan,
    next: Arc<AtomicU64>,
    began: Instant,
) -> Result<(Histogram<u64>, Histogram<u64>), ClientError> {
    let (mut reads, mut writes) = (latencies(), latencies());
    let data = random_block(plan.block_sectors);
    while began.elapsed() < plan.duration {
        let block = if plan.sequential {
            next.fetch_add(1, Ordering::Relaxed) % plan.blocks
        } else {
            rand::rng().random_range(0..plan.blocks)
        };
        let first = block * plan.block_sectors;
        let is_read = rand::rng().random_range(0..100) < plan.read_percent;
        let asked = Instant::now();
        let took = if is_read {
            disk.read(first, plan.block_sectors).await?;
            &mut reads
        } else {
            disk.write(first, data.clone()).await?;
            &mut writes
        };
        let micros = u64::try_from(asked.elapsed().as_micros()).unwrap_or(u64::MAX);
        took.saturating_record(micros.max(1));
    }
    Ok((reads, writes))
}

/// Random bytes: nothing on the way can make less of them.
fn random_block(sectors: u64) -> Bytes {
    let sectors = usize::try_from(sectors).expect("a block is of at most 32 MiB");
    let mut data = vec![0; sectors * SECTOR_SIZE];
    rand::rng().fill(data.as_mut_slice());
    data.into()
}

fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, 3).expect("the bounds are in order")
}
