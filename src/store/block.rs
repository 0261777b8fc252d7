//! The unit of the data file: blocks of 4096 bytes, and runs of them.

use bytemuck::{Pod, Zeroable};

use crate::domain::{SECTOR_SIZE, SECTOR_SIZE_U64};

/// Bytes in a block. A sector fills one block, and so does every other thing that is written by
/// itself: no block is shared by two things that become stable at different times.
pub(crate) const BLOCK_SIZE: usize = SECTOR_SIZE;

/// [`BLOCK_SIZE`] for file offsets.
pub(crate) const BLOCK_SIZE_U64: u64 = SECTOR_SIZE_U64;

/// A block in memory, aligned as direct I/O wants it.
#[derive(Copy, Clone, Pod, Zeroable)]
#[repr(C, align(4096))]
pub(crate) struct Block(pub(crate) [u8; BLOCK_SIZE]);
const _: () = assert!(size_of::<Block>() == BLOCK_SIZE);

impl Block {
    pub(crate) const ZERO: Self = Self([0; BLOCK_SIZE]);
}

/// Consecutive blocks of the file.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Run {
    pub(crate) first: u64,
    pub(crate) count: u64,
}

impl Run {
    pub(crate) const fn new(first: u64, count: u64) -> Self {
        Self { first, count }
    }

    pub(crate) const fn single(block: u64) -> Self {
        Self::new(block, 1)
    }

    /// The block after the last.
    pub(crate) const fn end(self) -> u64 {
        self.first + self.count
    }

    /// The first `count` blocks, and the others if there are any.
    pub(crate) fn split_at(self, count: u64) -> (Self, Option<Self>) {
        let count = count.min(self.count);
        let rest = (count < self.count).then(|| Self::new(self.first + count, self.count - count));
        (Self::new(self.first, count), rest)
    }
}

/// How many blocks the runs have together.
pub(crate) fn total(runs: &[Run]) -> u64 {
    runs.iter().map(|run| run.count).sum()
}

/// Appends a run, merged with the one before where it follows that.
pub(crate) fn push_run(runs: &mut Vec<Run>, run: Run) {
    match runs.last_mut() {
        Some(last) if last.end() == run.first => last.count += run.count,
        _ => runs.push(run),
    }
}

/// How many blocks hold so many bytes.
pub(crate) const fn blocks_for(bytes: usize) -> usize {
    bytes.div_ceil(BLOCK_SIZE)
}
