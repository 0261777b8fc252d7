//! A client's attachment to the disk.

use bytes::Bytes;

use super::ClientError;
use crate::domain::{Fence, Generation};
use crate::wire::SectorValues;

/// The disk, attached; clones share the attachment, and the last one that is dropped gives it
/// back. Any number of operations may be under way at once.
#[derive(Clone, Debug)]
pub struct Attachment {}

impl Attachment {
    /// How many sectors the disk has.
    pub fn sectors(&self) -> u64 {
        todo!("client")
    }

    /// The generation that operations run under now; failing over raises it.
    pub fn fence(&self) -> Fence {
        todo!("client")
    }

    /// The values of `count` sectors from `first` on, in order.
    pub async fn read(&self, _first: u64, _count: u64) -> Result<Vec<SectorValues>, ClientError> {
        todo!("client")
    }

    /// Writes whole sectors from `first` on; once it returns they are stable on a majority.
    pub async fn write(&self, _first: u64, _data: Bytes) -> Result<(), ClientError> {
        todo!("client")
    }

    /// Makes the sectors read as zeroes and frees their space.
    pub async fn discard(&self, _first: u64, _count: u64) -> Result<(), ClientError> {
        todo!("client")
    }

    /// Returns once everything that was completed before is on stable storage.
    pub async fn flush(&self) -> Result<(), ClientError> {
        todo!("client")
    }

    /// Returns once the attachment has ended by a newer generation.
    pub async fn fenced(&self) -> Generation {
        todo!("client")
    }

    /// Gives the attachment back; returns once nobody counts it as held, or after a few seconds if
    /// no process answers.
    pub async fn detach(self) {
        todo!("client")
    }
}
