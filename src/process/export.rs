//! The disk as an NBD export.

use bytes::Bytes;
use nbd_frontend::{DeviceError, Piece, SectorDevice};

use super::disk::{Disk, DiskError};
use crate::domain::{Content, Extent};

impl SectorDevice for Disk {
    fn sectors(&self) -> u64 {
        Disk::sectors(self)
    }

    async fn read(&self, first: u64, count: u64) -> Result<Vec<Piece>, DeviceError> {
        Ok(pieces(Disk::read(self, first, count).await?))
    }

    async fn write(&self, first: u64, data: Bytes) -> Result<(), DeviceError> {
        Ok(Disk::write(self, first, data).await?)
    }

    async fn discard(&self, first: u64, count: u64) -> Result<(), DeviceError> {
        Ok(Disk::discard(self, first, count).await?)
    }

    /// A completed write is stable on a majority already; there is nothing left to flush.
    async fn flush(&self) -> Result<(), DeviceError> {
        Ok(())
    }
}

impl From<DiskError> for DeviceError {
    fn from(error: DiskError) -> Self {
        match error {
            DiskError::ShuttingDown => Self::ShuttingDown,
            error => Self::Io(Box::new(error)),
        }
    }
}

fn pieces(extents: Vec<Extent>) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(extents.len());
    for extent in extents {
        match extent.content {
            Content::Data(data) => pieces.push(Piece::Data(data)),
            Content::Unchanged => unreachable!("only stores carry it"),
            Content::Zeroes => {
                let sectors = u64::from(extent.range.count());
                match pieces.last_mut() {
                    Some(Piece::Zeroes(before)) => *before += sectors,
                    _ => pieces.push(Piece::Zeroes(sectors)),
                }
            }
        }
    }
    pieces
}
