//! The crash-safe sectors of one process: under construction.

mod manager;
mod memory;
mod spans;
mod stub;
pub use stub::*;

pub use manager::{Completion, Completions, SectorsManager, StoreRequest};
pub use memory::MemorySectors;
