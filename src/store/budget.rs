//! How much space each purpose may take.
//!
//! The directory takes at most a tenth more than the sectors stored, at any time, from 1,000 sectors
//! on. So everything beside them is a small share of what is in use, with a floor for small stores
//! and a ceiling for large ones. With 1,000 sectors a tenth is 100 blocks:
//!
//! | blocks | for |
//! |---|---|
//! | 10 | directory, lock file, fixed area |
//! | 32 | map, half full pages: 15 leaves and a root, twice during a checkpoint |
//! | 4 | free map, two copies, twice during a checkpoint |
//! | 15 | journal |
//! | 15 | slots that a batch replaces and frees only when it is stable |
//! | 8 | growth ahead of need |

/// The share of each purpose, for so many blocks in use.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Budget {
    used: u64,
}

/// The most sectors of data that one batch takes.
pub(crate) const BATCH_SECTORS_MAX: u64 = 1024;

/// The most spans that the overlay holds before a checkpoint begins. During the checkpoint as many
/// again may come, so that replay and memory are bounded by about 200,000 records.
pub(crate) const OVERLAY_SPANS_MAX: usize = 100_000;

impl Budget {
    pub(crate) const fn new(used: u64) -> Self {
        Self { used }
    }

    /// Blocks of the journal.
    pub(crate) fn journal(self) -> u64 {
        (self.used * 3 / 200).clamp(12, 16_384)
    }

    /// Slots that one batch may replace: they stay in use until it is stable.
    pub(crate) fn replaced(self) -> u64 {
        (self.used / 64).clamp(12, 2048)
    }

    /// Blocks by which the file grows.
    pub(crate) fn growth(self) -> u64 {
        (self.used / 128).clamp(4, 4096)
    }

    /// Free blocks beyond which a checkpoint gives space back to the file system.
    pub(crate) fn slack(self) -> u64 {
        (self.used / 32).max(48)
    }
}
