//! The disk for clients without an attachment of their own: classic ones, and those in the same
//! program.
//!
//! They count as shared under the current generation ([`super::shared_authority`]). While somebody
//! holds the volume for himself nothing of theirs is done.

use std::time::Duration;

use bytes::Bytes;

use super::operations::Operations;
use super::shared_authority::SharedAuthority;
use crate::domain::{AttachRefusal, Content, Extent, SectorAddress};
use crate::net;
use crate::register::RegisterError;

/// Why a request of a client failed. A missing majority is waited for, unless a deadline was set.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The register could not do it. A change that was fenced is of unknown outcome.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// Nothing was done: the volume is not open to whoever has no attachment of his own.
    #[error(transparent)]
    Held(#[from] AttachRefusal),
    /// The request reaches past the end of the disk.
    #[error("sectors {first} to {last} were asked for, of a disk of {sectors}")]
    PastEnd {
        /// The first that was asked for.
        first: u64,
        /// The last that was asked for.
        last: u64,
        /// How many there are.
        sectors: u64,
    },
    /// The operator's deadline (`--io-timeout`) passed; what it was about may still take effect.
    #[error("no majority of processes got it done within {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// The process is stopping.
    #[error("the process is shutting down")]
    ShuttingDown,
}

/// A handle to the disk; clones share it.
#[derive(Clone, Debug)]
pub struct Disk {
    operations: Operations,
    authority: SharedAuthority,
}

impl Disk {
    /// The disk of these operations, under this authority.
    pub(crate) fn new(operations: Operations, authority: SharedAuthority) -> Self {
        Self {
            operations,
            authority,
        }
    }

    /// How many sectors the disk has.
    pub fn sectors(&self) -> u64 {
        self.operations.sectors()
    }

    /// The values of `count` sectors from `first` on, ascending and without a gap.
    pub async fn read(&self, first: u64, count: u64) -> Result<Vec<Extent>, DiskError> {
        loop {
            let authority = self.operations.limited(self.authority.current()).await?;
            match self.operations.read(authority, first, count).await {
                // It has changed nothing: another one begins under the newer generation.
                Err(DiskError::Register(RegisterError::Fenced { .. })) => {
                    self.authority.end(authority);
                }
                done => return done,
            }
        }
    }

    /// Writes whole sectors from `first` on; once it returns they are stable on a majority.
    ///
    /// # Panics
    /// When the data is not whole sectors.
    pub async fn write(&self, first: u64, data: Bytes) -> Result<(), DiskError> {
        let authority = self.operations.limited(self.authority.current()).await?;
        let written = self.operations.write(authority, first, data).await;
        if let Err(DiskError::Register(RegisterError::Fenced { .. })) = written {
            self.authority.end(authority);
        }
        written
    }

    /// Makes the sectors read as zeroes and frees their space, on a majority once it returns.
    pub async fn discard(&self, first: u64, count: u64) -> Result<(), DiskError> {
        let authority = self.operations.limited(self.authority.current()).await?;
        let discarded = self.operations.discard(authority, first, count).await;
        if let Err(DiskError::Register(RegisterError::Fenced { .. })) = discarded {
            self.authority.end(authority);
        }
        discarded
    }
}

/// The classic protocol reads and writes single sectors of the first volume.
impl net::Disk for Disk {
    fn sectors(&self) -> u64 {
        Disk::sectors(self)
    }

    async fn read(&self, sector: SectorAddress) -> Result<Content, net::DiskError> {
        let mut extents = Disk::read(self, sector.index(), 1)
            .await
            .map_err(unanswered)?;
        let extent = extents.pop().expect("a read covers what it was asked for");
        Ok(extent.content)
    }

    async fn write(&self, sector: SectorAddress, data: Bytes) -> Result<(), net::DiskError> {
        Disk::write(self, sector.index(), data)
            .await
            .map_err(unanswered)
    }
}

fn unanswered(error: DiskError) -> net::DiskError {
    match error {
        DiskError::ShuttingDown | DiskError::Held(AttachRefusal::ShuttingDown) => {
            net::DiskError::Closing
        }
        DiskError::Held(refusal) => net::DiskError::Held(refusal),
        // Nobody knows how it ended: the client finds out by reading, over a new connection.
        DiskError::Register(RegisterError::Fenced { by }) => {
            net::DiskError::Held(AttachRefusal::Fenced { by: by.generation })
        }
        error => net::DiskError::Unanswered(Box::new(error)),
    }
}
