//! The crash-safe sectors of one process: under construction.

mod manager;

pub use manager::{Completion, Completions, SectorsManager, StoreRequest};
