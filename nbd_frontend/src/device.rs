//! What the server needs of a device.

use std::future::Future;

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

/// A device of whole sectors, shared by all connections; many requests are under way at once.
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
}
