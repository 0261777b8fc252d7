//! A device in memory, for tests, examples and measurements.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use crate::device::{DeviceError, Piece, SECTOR_SIZE, SectorDevice};

/// Neighbouring sectors share a shard, so that a range takes few locks; several shards let
/// connections on different threads work side by side.
const SHARD_SECTORS: u64 = 256;
const SHARDS: u64 = 64;

/// A sparse device in memory: it keeps the sectors that were written, and nothing else. It can be
/// told to be slow, to fail, or to hold everything until it is released.
///
/// Each sector is atomic by itself. Nothing survives the process, so a flush has nothing to do.
///
/// ```
/// use nbd_frontend::memory::MemoryDevice;
/// use nbd_frontend::{Piece, SectorDevice};
///
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// let device = MemoryDevice::new(1 << 28); // a tebibyte
/// device.write(7, vec![1; 4096].into()).await.unwrap();
/// let pieces = device.read(6, 3).await.unwrap();
/// assert_eq!(pieces, [Piece::Zeroes(1), Piece::Data(vec![1; 4096].into()), Piece::Zeroes(1)]);
/// # });
/// ```
#[derive(Debug)]
pub struct MemoryDevice {
    sectors: u64,
    shards: Vec<Mutex<HashMap<u64, Bytes>>>,
    /// Whether any of what follows is in use: one look for the usual case.
    disturbed: AtomicBool,
    delay_us: AtomicU64,
    fault: Mutex<Option<Fault>>,
    held: watch::Sender<bool>,
}

/// How a [`MemoryDevice`] fails when it is told to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// As a broken disk does.
    Io,
    /// As a full disk does; reads go on.
    NoSpace,
    /// As a device that goes away does.
    ShuttingDown,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

impl MemoryDevice {
    /// A device of so many sectors, all zeroes.
    pub fn new(sectors: u64) -> Self {
        Self {
            sectors,
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            disturbed: AtomicBool::new(false),
            delay_us: AtomicU64::new(0),
            fault: Mutex::new(None),
            held: watch::Sender::new(false),
        }
    }

    /// From now on every request takes this long.
    pub fn set_delay(&self, delay: Duration) {
        let delay_us = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        self.delay_us.store(delay_us, Ordering::Relaxed);
        self.disturbed.store(true, Ordering::Release);
    }

    /// From now on requests fail, or (`None`) succeed again.
    pub fn set_fault(&self, fault: Option<Fault>) {
        *self
            .fault
            .lock()
            .expect("nothing panics while it holds the fault") = fault;
        self.disturbed.store(true, Ordering::Release);
    }

    /// From now on requests wait until the device is [released](Self::release).
    pub fn hold(&self) {
        self.disturbed.store(true, Ordering::Release);
        self.held.send_replace(true);
    }

    /// Lets all requests go on that wait since [`hold`](Self::hold).
    pub fn release(&self) {
        self.held.send_replace(false);
    }

    /// How many sectors take space.
    pub fn sectors_stored(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len()).sum()
    }

    /// What the device was told to do before a request.
    async fn disturb(&self, access: Access) -> Result<(), DeviceError> {
        if !self.disturbed.load(Ordering::Acquire) {
            return Ok(());
        }
        let delay_us = self.delay_us.load(Ordering::Relaxed);
        if delay_us > 0 {
            tokio::time::sleep(Duration::from_micros(delay_us)).await;
        }
        // The device itself keeps the sender, so that the wait cannot fail.
        let released = self.held.subscribe().wait_for(|held| !held).await.is_ok();
        assert!(released, "the sender lives as long as the device");
        match *self
            .fault
            .lock()
            .expect("nothing panics while it holds the fault")
        {
            Some(Fault::Io) => Err(DeviceError::Io("told to fail".into())),
            Some(Fault::NoSpace) if access == Access::Write => Err(DeviceError::NoSpace),
            Some(Fault::ShuttingDown) => Err(DeviceError::ShuttingDown),
            Some(Fault::NoSpace) | None => Ok(()),
        }
    }

    /// Calls `body` for each run of sectors in one shard, with the shard and the run.
    fn for_each_run(
        &self,
        first: u64,
        count: u64,
        mut body: impl FnMut(&mut HashMap<u64, Bytes>, std::ops::Range<u64>),
    ) {
        let end = first.checked_add(count).filter(|end| *end <= self.sectors);
        let end = end.expect("the server asks for no sector past the end");
        let mut next = first;
        while next < end {
            let stripe = next / SHARD_SECTORS;
            let run = next..end.min((stripe + 1) * SHARD_SECTORS);
            next = run.end;
            let shard = usize::try_from(stripe % SHARDS).expect("below the number of shards");
            body(&mut lock(&self.shards[shard]), run);
        }
    }

    fn discard_now(&self, first: u64, count: u64) {
        let end = first + count;
        if count < SHARD_SECTORS {
            self.for_each_run(first, count, |shard, run| {
                run.for_each(|sector| drop(shard.remove(&sector)));
            });
            return;
        }
        // A large range may hold next to nothing: what is there is looked at, not what might be.
        for shard in &self.shards {
            lock(shard).retain(|sector, _| *sector < first || *sector >= end);
        }
    }
}

fn lock(shard: &Mutex<HashMap<u64, Bytes>>) -> std::sync::MutexGuard<'_, HashMap<u64, Bytes>> {
    shard.lock().expect("nothing panics while it holds a shard")
}

impl SectorDevice for MemoryDevice {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    async fn read(&self, first: u64, count: u64) -> Result<Vec<Piece>, DeviceError> {
        self.disturb(Access::Read).await?;
        let mut pieces = Vec::new();
        self.for_each_run(first, count, |shard, run| {
            for sector in run {
                match (shard.get(&sector), pieces.last_mut()) {
                    (Some(data), _) => pieces.push(Piece::Data(data.clone())),
                    (None, Some(Piece::Zeroes(count))) => *count += 1,
                    (None, _) => pieces.push(Piece::Zeroes(1)),
                }
            }
        });
        Ok(pieces)
    }

    async fn write(&self, first: u64, data: Bytes) -> Result<(), DeviceError> {
        self.disturb(Access::Write).await?;
        let count = u64::try_from(data.len() / SECTOR_SIZE).expect("a length in memory");
        let mut sectors = data.chunks_exact(SECTOR_SIZE);
        self.for_each_run(first, count, |shard, run| {
            for (sector, data) in run.zip(&mut sectors) {
                // A copy: the data may be a slice of a much larger buffer.
                shard.insert(sector, Bytes::copy_from_slice(data));
            }
        });
        Ok(())
    }

    async fn discard(&self, first: u64, count: u64) -> Result<(), DeviceError> {
        self.disturb(Access::Write).await?;
        self.discard_now(first, count);
        Ok(())
    }

    async fn flush(&self) -> Result<(), DeviceError> {
        self.disturb(Access::Write).await
    }
}
