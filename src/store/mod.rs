//! The `SectorsManager`: the crash-safe sectors of one process, in a directory.
//!
//! It relies on this of the file system: what was written before an `fdatasync` that returned well
//! is there after a crash, and of everything else any subset of 512-byte pieces may be. It promises
//! what [`SectorsManager`] says, and:
//! - What was acknowledged or shown is there after a crash at any instruction.
//! - What rots after it was acknowledged is told from what was torn and never acknowledged: it costs
//!   votes, and is never an older value. The one exception are the few milliseconds until the last
//!   batch is marked stable (`commit`).
//! - The directory takes at most a tenth more than the sectors stored, from 1,000 on (`budget`).
//! - Memory is bounded: overlay, page cache, and one or two bits for each block of the file.
//!
//! # How a write travels
//! ```text
//! store() -> inbox -> committer: plan -> take slots -> write data and records -> fdatasync
//!                        |  ^                          -> publish in the index -> Stored
//!       page is missing  v  |
//!                       readers         journal half full: check pointer: new map pages, new root
//! load()  -> index (active overlay, frozen overlay, map through the page cache) -> data by slot
//!            else -> readers
//! ```
//!
//! # Invariants
//! 1. A slot, page or journal block that something durable refers to is never written: every write
//!    goes to a block that is free, or to the journal behind its last batch.
//! 2. A replaced slot is free only once the record that replaced it is stable and the index names
//!    the new one. What only the old root needs is free only once the new root is durable.
//! 3. The index names stable values only. Loads read the index, then the slot, and believe the bytes
//!    by their checksum alone, which is bound to address and stamp.
//! 4. One batch is under way at a time; the next one's header names it as synced. So only the last
//!    batch that is found can have been torn.
//! 5. A root's free map is that of the moment between two batches that the root stands for; what the
//!    checkpoint itself took is in use in it, what it replaced is free. Every batch says what it
//!    takes and frees, so replaying those behind the root gives the present.
//! 6. Both copies of the identity carry an update before it is acknowledged.
//! 7. After a write or sync that failed nothing is acknowledged ever again.
//! 8. No lock is held while the medium is asked for anything, but for the identity's, which only
//!    those wait for who write it.
//! 9. The stamp of a sector is the one that it was stored under, raised by its floor (`floor`): in
//!    votes, values and comparisons alike. Only the checksum of its data knows the one stored.
//!
//! # Where what is
//! - Formats: `layout` (the fixed area), `identity` with its `fences`, `root`, `free_map`, `batch`,
//!   `page`, all checked by `checksum`; `format` makes a new store. Pinned in `golden`.
//! - In memory: `space` and `block_set` (the allocator), `journal` (where batches go),
//!   `spans`, `entry`, `floor`, `index`, `tree` and `cache` (what is known of a sector), `budget`.
//! - Steps: `plan` and `raise`, `assembly`, `commit`; `rebuild`, `checkpoint`; `load`; `recovery`;
//!   `audit`. They run on an `engine` over a `medium` without threads or a clock, and the crash
//!   tests drive them so (`crash`).
//! - Around them: `file`, `directory`, `disk` with the threads `committer`,
//!   `check_pointer` and `readers`, which share `shared`; `check`.
//! - `memory`: the twin for simulations.

mod assembly;
mod audit;
mod batch;
mod block;
mod block_set;
mod budget;
mod cache;
mod check;
mod check_pointer;
mod checkpoint;
mod checksum;
mod commit;
mod committer;
mod directory;
mod disk;
mod engine;
mod entry;
mod error;
mod fences;
mod file;
mod floor;
mod format;
mod free_map;
mod identity;
mod index;
mod journal;
mod layout;
mod load;
mod manager;
mod medium;
mod memory;
mod page;
mod plan;
mod raise;
mod readers;
mod rebuild;
mod recovery;
mod root;
mod shared;
mod space;
mod spans;
mod tree;

pub use audit::{Progress, Report, Verdict};
pub use check::check;
pub use disk::{DiskSectors, Options, Unrecovered};
pub use engine::Statistics;
pub use error::StoreError;
pub use file::DirectReads;
pub use floor::VOLUME_LIMIT;
pub use manager::{Completion, Completions, SectorsManager, StoreRequest};
pub use memory::MemorySectors;
pub use shared::OnFailure;

#[cfg(test)]
mod faults;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod tests;
