//! What the server needs of a device.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

/// Bytes in a sector; smaller and unaligned requests of clients become reads and writes of whole
/// sectors.
pub const SECTOR_SIZE: usize = 4096;

/// A part of what was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// So many sectors of zeroes that take no space.
    Zeroes(u64),
    /// Whole sectors, one after another.
    Data(Bytes),
}

/// Why the device could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum DeviceError {
    /// The device failed; clients see EIO.
    #[error("the device failed")]
    Io(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No space is left; clients see ENOSPC.
    #[error("no space is left on the device")]
    NoSpace,
    /// The device is going away; clients see ESHUTDOWN.
    #[error("the device is shutting down")]
    ShuttingDown,
}

/// A device that is there for as long as clients use it: each client opens it for itself.
///
/// Only a client that has chosen the export opens it, not one that asks what there is.
pub trait SectorExport: Send + Sync + 'static {
    /// What a client uses, from the moment at which it has chosen the export.
    type Device: SectorDevice;

    /// How many sectors there are; told to clients that only ask.
    fn sectors(&self) -> u64;

    /// A client has chosen the export, and waits for as long as this takes. The device is dropped
    /// when that client has gone and none of its requests is under way any more. When the client
    /// goes first, or the server shuts down, the future is dropped.
    fn open(&self) -> impl Future<Output = Result<Self::Device, Unavailable>> + Send;
}

/// Why a client cannot use the export now; the text is told to the client and logged.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// A device of whole sectors, as one connection uses it; many requests are under way at once.
///
/// A completed write is on stable storage: that is what makes [`flush`](Self::flush) and FUA right
/// even across connections. Each sector is atomic by itself, a range is not.
pub trait SectorDevice: Send + Sync + 'static {
    /// How many sectors there are.
    fn sectors(&self) -> u64;

    /// The sectors from `first` on, exactly `count` of them in all pieces together. The server
    /// asks for no more than 8192 at once, and for none past the end.
    fn read(
        &self,
        first: u64,
        count: u64,
    ) -> impl Future<Output = Result<Vec<Piece>, DeviceError>> + Send;

    /// Writes whole sectors from `first` on.
    fn write(
        &self,
        first: u64,
        data: Bytes,
    ) -> impl Future<Output = Result<(), DeviceError>> + Send;

    /// Makes the sectors read as zeroes and frees their space.
    fn discard(
        &self,
        first: u64,
        count: u64,
    ) -> impl Future<Output = Result<(), DeviceError>> + Send;

    /// Returns once everything completed before is on stable storage.
    fn flush(&self) -> impl Future<Output = Result<(), DeviceError>> + Send;

    /// Returns once the connection is to be closed, since the device is lost to this client: its
    /// requests fail, and whatever it cached may be stale. Never returns as a rule.
    fn lost(&self) -> impl Future<Output = ()> + Send {
        std::future::pending()
    }

    /// The client has asked for a change, which may reach the device later, in parts, or not at all.
    fn asked_for_change(&self) {}

    /// The client has said that it leaves (DISC), and sends nothing again. One whose connection just
    /// ends may come back with what it has no answer to.
    fn said_goodbye(&self) {}
}

/// A device that all clients share.
impl<D: SectorDevice> SectorDevice for Arc<D> {
    fn sectors(&self) -> u64 {
        D::sectors(self)
    }

    fn read(
        &self,
        first: u64,
        count: u64,
    ) -> impl Future<Output = Result<Vec<Piece>, DeviceError>> + Send {
        D::read(self, first, count)
    }

    fn write(
        &self,
        first: u64,
        data: Bytes,
    ) -> impl Future<Output = Result<(), DeviceError>> + Send {
        D::write(self, first, data)
    }

    fn discard(
        &self,
        first: u64,
        count: u64,
    ) -> impl Future<Output = Result<(), DeviceError>> + Send {
        D::discard(self, first, count)
    }

    fn flush(&self) -> impl Future<Output = Result<(), DeviceError>> + Send {
        D::flush(self)
    }

    fn lost(&self) -> impl Future<Output = ()> + Send {
        D::lost(self)
    }

    fn asked_for_change(&self) {
        D::asked_for_change(self);
    }

    fn said_goodbye(&self) {
        D::said_goodbye(self);
    }
}

/// The export of a device that is always there: every client gets it at once, and all share it.
#[derive(Debug)]
pub struct AlwaysOpen<D> {
    device: Arc<D>,
}

impl<D> AlwaysOpen<D> {
    /// The export of this device.
    pub fn new(device: Arc<D>) -> Self {
        Self { device }
    }
}

impl<D: SectorDevice> SectorExport for AlwaysOpen<D> {
    type Device = Arc<D>;

    fn sectors(&self) -> u64 {
        self.device.sectors()
    }

    async fn open(&self) -> Result<Arc<D>, Unavailable> {
        Ok(Arc::clone(&self.device))
    }
}
