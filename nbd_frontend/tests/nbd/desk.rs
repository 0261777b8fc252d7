//! An export that each client opens for itself, as a test tells it to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use nbd_frontend::memory::MemoryDevice;
use nbd_frontend::{
    Account, DeviceError, Piece, SectorDevice, SectorExport, Unavailable, Unsettled,
};
use tokio::sync::watch;

pub(crate) const SECTORS: u64 = 1024;

/// What a client that opens the export is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Here it is.
    Open,
    /// There is none, and why.
    Unavailable(String),
    /// Wait for another answer.
    Wait,
}

/// How often things happened.
#[derive(Debug, Default)]
struct Counts {
    /// Clients that wait for an answer.
    opening: AtomicUsize,
    /// Devices that were ever given out.
    opened: AtomicUsize,
    /// Devices that are in use.
    in_use: AtomicUsize,
}

/// The export: all clients get a device of their own over one memory.
pub(crate) struct Desk {
    pub(crate) memory: Arc<MemoryDevice>,
    /// The size of devices opened from now on; the export itself says [`SECTORS`].
    pub(crate) device_sectors: AtomicU64,
    /// The clients that may come back.
    pub(crate) unsettled: Unsettled,
    answer: watch::Sender<Answer>,
    /// How many devices were lost: all that were opened before this.
    lost: watch::Sender<usize>,
    counts: Arc<Counts>,
}

impl Desk {
    pub(crate) fn new(answer: Answer) -> Self {
        Self {
            memory: Arc::new(MemoryDevice::new(2 * SECTORS)),
            device_sectors: AtomicU64::new(SECTORS),
            unsettled: Unsettled::default(),
            answer: watch::Sender::new(answer),
            lost: watch::Sender::new(0),
            counts: Arc::default(),
        }
    }

    /// Tells this to those who wait, and to those who come.
    pub(crate) fn answer(&self, answer: Answer) {
        self.answer.send_replace(answer);
    }

    /// From now on all devices that were given out are lost.
    pub(crate) fn lose_devices(&self) {
        self.lost.send_replace(self.opened());
    }

    pub(crate) fn opening(&self) -> usize {
        self.counts.opening.load(Ordering::SeqCst)
    }

    pub(crate) fn opened(&self) -> usize {
        self.counts.opened.load(Ordering::SeqCst)
    }

    pub(crate) fn in_use(&self) -> usize {
        self.counts.in_use.load(Ordering::SeqCst)
    }
}

/// Counts for as long as it is there.
struct Present<'a>(&'a AtomicUsize);

impl<'a> Present<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl SectorExport for Desk {
    type Device = Given;

    fn sectors(&self) -> u64 {
        SECTORS
    }

    async fn open(&self) -> Result<Given, Unavailable> {
        let _opening = Present::new(&self.counts.opening);
        let mut answers = self.answer.subscribe();
        let answer = answers.wait_for(|answer| *answer != Answer::Wait).await;
        if let Answer::Unavailable(why) = &*answer.unwrap() {
            return Err(Unavailable(why.clone()));
        }
        self.counts.in_use.fetch_add(1, Ordering::SeqCst);
        Ok(Given {
            memory: Arc::clone(&self.memory),
            sectors: self.device_sectors.load(Ordering::SeqCst),
            number: self.counts.opened.fetch_add(1, Ordering::SeqCst),
            lost: self.lost.subscribe(),
            account: self.unsettled.open(),
            counts: Arc::clone(&self.counts),
        })
    }
}

/// A device that was given to a client.
pub(crate) struct Given {
    memory: Arc<MemoryDevice>,
    sectors: u64,
    number: usize,
    lost: watch::Receiver<usize>,
    account: Account,
    counts: Arc<Counts>,
}

impl Drop for Given {
    fn drop(&mut self) {
        self.counts.in_use.fetch_sub(1, Ordering::SeqCst);
    }
}

impl SectorDevice for Given {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    async fn read(&self, first: u64, count: u64) -> Result<Vec<Piece>, DeviceError> {
        self.memory.read(first, count).await
    }

    async fn write(&self, first: u64, data: Bytes) -> Result<(), DeviceError> {
        self.memory.write(first, data).await
    }

    async fn discard(&self, first: u64, count: u64) -> Result<(), DeviceError> {
        self.memory.discard(first, count).await
    }

    async fn flush(&self) -> Result<(), DeviceError> {
        self.memory.flush().await
    }

    async fn lost(&self) {
        let mut lost = self.lost.clone();
        if lost.wait_for(|lost| *lost > self.number).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn asked_for_change(&self) {
        self.account.asked_for_change();
    }

    fn said_goodbye(&self) {
        self.account.said_goodbye();
    }
}
