//! One process of the cluster: everything put together, started, run and stopped.

mod attached;
mod attached_clients;
mod attachments;
mod birth;
mod confirmation;
mod disk;
mod export;
mod inbox;
mod items;
mod keeper_task;
mod membership;
mod operations;
mod run;
mod service;
mod shared_authority;
mod start;
mod sweeper;
mod switchboard;
#[cfg(test)]
mod tests;
mod timer;
mod worker;

pub use attached::AttachedDisk;
pub use disk::{Disk, DiskError};
pub use run::{ProcessError, RegisterProcess, run_register_process};
