//! A client's attachment to the volume, in the process that runs its operations.

use bytes::Bytes;

use crate::domain::{Extent, Fence, Generation, OperationError};
use crate::net;

/// A client's attachment, given back when it is dropped.
#[derive(Debug)]
pub struct AttachedDisk {}

impl net::Attached for AttachedDisk {
    fn fence(&self) -> Fence {
        todo!("process")
    }

    fn sectors(&self) -> u64 {
        todo!("process")
    }

    async fn read(&self, _first: u64, _count: u32) -> Result<Vec<Extent>, OperationError> {
        todo!("process")
    }

    async fn write(&self, _first: u64, _data: Bytes) -> Result<(), OperationError> {
        todo!("process")
    }

    async fn discard(&self, _first: u64, _count: u32) -> Result<(), OperationError> {
        todo!("process")
    }

    async fn fenced(&self) -> Generation {
        todo!("process")
    }
}
