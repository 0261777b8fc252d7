//! A client's attachment to the volume, in the process that runs its operations.

use bytes::Bytes;
use tokio::sync::watch;

use super::attached_clients::Granted;
use super::attachments::Seat;
use super::disk::DiskError;
use super::operations::Operations;
use crate::domain::{AttachKind, Extent, Fence, OperationError};
use crate::net;
use crate::register::RegisterError;

/// A client's attachment, given back when it is dropped.
#[derive(Debug)]
pub struct AttachedDisk {
    operations: Operations,
    fence: Fence,
    kind: AttachKind,
    /// The newer fence, once there is one; the own one if the attachment was released.
    ended: watch::Receiver<Option<Fence>>,
    _seat: Seat,
}

/// The end of an attachment, as the process's keeper sees it.
#[derive(Clone, Debug)]
pub(crate) struct Departure {
    own: Fence,
    ended: watch::Receiver<Option<Fence>>,
}

impl Departure {
    /// The fence that the attachment had.
    pub(crate) fn own(&self) -> Fence {
        self.own
    }

    /// Whether the attachment has ended before it was given back.
    pub(crate) fn was_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// Returns once the keeper does not count the attachment as held any more: it has ended, or it
    /// was dropped and the keeper has heard so. If another owner has taken the disk over, or an
    /// operator has released it, the fence by which.
    pub(crate) async fn over(&mut self) -> Option<Fence> {
        // The keeper's end is gone with what it knows of the attachment.
        drop(self.ended.wait_for(Option::is_some).await.ok()?);
        self.taken_over_by()
    }

    /// The fence by which another owner has taken the disk over by now, or an operator has released
    /// it.
    pub(crate) fn taken_over_by(&self) -> Option<Fence> {
        let by = (*self.ended.borrow())?;
        let own = by.generation > self.own.generation && by.owner() == self.own.owner();
        (!own).then_some(by)
    }
}

impl AttachedDisk {
    pub(crate) fn new(
        seat: Seat,
        kind: AttachKind,
        granted: Granted,
        operations: Operations,
    ) -> Self {
        Self {
            operations,
            fence: granted.fence,
            kind,
            ended: granted.ended,
            _seat: seat,
        }
    }

    /// How many sectors the volume has.
    pub fn sectors(&self) -> u64 {
        self.operations.sectors()
    }

    /// The values of `count` sectors from `first` on, ascending and without a gap.
    pub async fn read(&self, first: u64, count: u64) -> Result<Vec<Extent>, OperationError> {
        self.check()?;
        let reading = self.operations.read(self.fence, first, count);
        reading.await.map_err(|error| operation_error(&error))
    }

    /// Writes whole sectors from `first` on; once it returns they are stable on a majority.
    ///
    /// # Panics
    /// When the data is not whole sectors.
    pub async fn write(&self, first: u64, data: Bytes) -> Result<(), OperationError> {
        self.check_change()?;
        let writing = self.operations.write(self.fence, first, data);
        writing.await.map_err(|error| operation_error(&error))
    }

    /// Makes the sectors read as zeroes and frees their space, on a majority once it returns.
    pub async fn discard(&self, first: u64, count: u64) -> Result<(), OperationError> {
        self.check_change()?;
        let discarding = self.operations.discard(self.fence, first, count);
        discarding.await.map_err(|error| operation_error(&error))
    }

    /// The fence that has ended the attachment, if one has: its own one if it was released.
    pub fn ended(&self) -> Option<Fence> {
        *self.ended.borrow()
    }

    /// Returns once the attachment has ended, with the fence that ended it.
    pub async fn fenced(&self) -> Fence {
        let mut ended = self.ended.clone();
        if ended.wait_for(Option::is_some).await.is_err() {
            // The process is going away, which is another matter.
            std::future::pending::<()>().await;
        }
        self.ended().expect("it was waited for")
    }

    /// What tells when the keeper has let go of the attachment, also once it is dropped.
    pub(crate) fn departure(&self) -> Departure {
        Departure {
            own: self.fence,
            ended: self.ended.clone(),
        }
    }

    fn check_change(&self) -> Result<(), OperationError> {
        if self.kind == AttachKind::ReadOnly {
            return Err(OperationError::ReadOnly);
        }
        self.check()
    }

    /// The registers refuse what is of an older generation; but not what was released.
    fn check(&self) -> Result<(), OperationError> {
        match self.ended() {
            Some(by) => Err(OperationError::Fenced { by }),
            None => Ok(()),
        }
    }
}

impl net::Attached for AttachedDisk {
    fn fence(&self) -> Fence {
        self.fence
    }

    fn sectors(&self) -> u64 {
        AttachedDisk::sectors(self)
    }

    async fn read(&self, first: u64, count: u32) -> Result<Vec<Extent>, OperationError> {
        AttachedDisk::read(self, first, count.into()).await
    }

    async fn write(&self, first: u64, data: Bytes) -> Result<(), OperationError> {
        AttachedDisk::write(self, first, data).await
    }

    async fn discard(&self, first: u64, count: u32) -> Result<(), OperationError> {
        AttachedDisk::discard(self, first, count.into()).await
    }

    async fn fenced(&self) -> Fence {
        AttachedDisk::fenced(self).await
    }
}

fn operation_error(error: &DiskError) -> OperationError {
    match error {
        DiskError::Register(RegisterError::Unreadable { .. }) => OperationError::Unreadable,
        DiskError::Register(RegisterError::Fenced { by }) => OperationError::Fenced { by: *by },
        DiskError::Register(RegisterError::TooLong { .. } | RegisterError::QueueFull) => {
            unreachable!("operations are cut to size, and admission is what the queue holds")
        }
        DiskError::Held(_) => unreachable!("an attachment has its authority"),
        DiskError::PastEnd { sectors, .. } => OperationError::PastEnd { sectors: *sectors },
        DiskError::TimedOut(_) => OperationError::TimedOut,
        DiskError::ShuttingDown => OperationError::ShuttingDown,
    }
}
