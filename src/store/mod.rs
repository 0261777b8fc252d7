//! The crash-safe sectors of one process: under construction.

mod manager;
mod memory;
mod spans;

pub use manager::{Completion, Completions, SectorsManager, StoreRequest};
pub use memory::MemorySectors;
