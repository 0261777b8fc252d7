//! The crash-safe sectors of one process: under construction.

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
mod file;
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
pub use manager::{Completion, Completions, SectorsManager, StoreRequest};
pub use memory::MemorySectors;
pub use shared::OnFailure;

#[cfg(test)]
mod crash;
#[cfg(test)]
mod faults;
