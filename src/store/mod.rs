//! The crash-safe sectors of one process: under construction.

mod assembly;
mod audit;
mod batch;
mod block;
mod block_set;
mod budget;
mod cache;
mod checkpoint;
mod checksum;
mod commit;
mod engine;
mod entry;
mod error;
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
mod rebuild;
mod recovery;
mod root;
mod space;
mod spans;
mod tree;

pub use engine::Statistics;
pub use error::StoreError;
pub use identity::ClusterId;
pub use manager::{Completion, Completions, SectorsManager, StoreRequest};
pub use memory::MemorySectors;

#[cfg(test)]
mod crash;
