//! One process of the cluster: everything put together, started, run and stopped.

mod attached;
mod birth;
#[cfg(test)]
mod crowd;
mod disk;
mod export;
mod inbox;
mod membership;
mod run;
mod service;
mod start;
mod switchboard;
mod worker;

pub use attached::AttachedDisk;
pub use disk::{Disk, DiskError};
pub use run::{ProcessError, RegisterProcess, run_register_process};
