//! What the engine asks of the file that it lives in.

use std::io::{self, IoSlice};

use super::block::{Block, Run};

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
