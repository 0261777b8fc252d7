//! What the engine asks of the file that it lives in.

use std::io::{self, IoSlice};

use super::block::{Block, Run};
use super::error::StoreError;

/// A growing array of blocks that loses what was not synced when the power fails.
///
/// Nothing is assumed of unsynced writes: after a crash any subset of their 512-byte pieces may be
/// there. What was written before a [`Medium::sync`] began is there once it returned well. Only
/// one thread writes a given block at a time.
pub(crate) trait Medium: Send + Sync {
    /// Reads consecutive blocks as they were last written, from a cache where that is faster.
    /// `into` is as long as whole blocks.
    fn read(&self, first: u64, into: &mut [u8]) -> io::Result<()>;

    /// As [`Self::read`], but only if nothing has to be waited for: `false` otherwise.
    fn read_at_once(&self, first: u64, into: &mut [u8]) -> io::Result<bool>;

    /// Reads consecutive blocks from the medium itself: what a crash now would find, and nothing
    /// that only a cache holds. What lies beyond the end reads as zeroes.
    fn read_stable(&self, first: u64, into: &mut [Block]) -> io::Result<()>;

    /// Writes consecutive blocks; the pieces together are as long as whole blocks.
    fn write(&self, first: u64, pieces: &[IoSlice<'_>]) -> io::Result<()>;

    /// Makes everything durable that was written before. After a failure nothing is known of what
    /// was not yet durable, and asking again proves nothing.
    fn sync(&self) -> io::Result<()>;

    /// Sees to it that writing these blocks can not fail for want of space; the file grows to hold
    /// them. They may read as anything.
    fn allocate(&self, run: Run) -> io::Result<()>;

    /// Gives the space of these blocks back; they may read as anything.
    fn release(&self, run: Run) -> io::Result<()>;

    /// How many blocks the file is long.
    fn length(&self) -> io::Result<u64>;
}

/// As [`Medium::read_stable`], with zeroes where the device says that it lost what was there; no
/// checksum lets them pass.
pub(crate) fn read_tolerant(
    medium: &dyn Medium,
    first: u64,
    into: &mut [Block],
) -> Result<(), StoreError> {
    match medium.read_stable(first, into) {
        Err(error) if is_media_error(&error) => {}
        outcome => return outcome.map_err(StoreError::io("reading what was stored")),
    }
    for (block, into) in (first..).zip(into.chunks_mut(1)) {
        match medium.read_stable(block, into) {
            Err(error) if is_media_error(&error) => into[0] = Block::ZERO,
            outcome => outcome.map_err(StoreError::io("reading what was stored"))?,
        }
    }
    Ok(())
}

/// Whether the device says that it lost what was written, rather than that it can not be reached.
pub(crate) fn is_media_error(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    const ENODATA: i32 = 61;
    const EBADMSG: i32 = 74;
    matches!(error.raw_os_error(), Some(EIO | ENODATA | EBADMSG))
}
