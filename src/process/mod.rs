//! One process of the cluster: everything put together, started, run and stopped.
//!
//! Pure state machines decide, and tasks own one each: a worker the register of its shard, the
//! keeper's task the fence and the attachments of the process, the membership its birth and who is
//! recognized. They wait at their inboxes and tell one another through these; the switchboard fills
//! them from the network. A client's operation goes through `Operations`, which admits it, to the
//! worker of its sectors, always under the fence of an attachment: its own (`AttachedDisk`), or the
//! shared one of all who have none (`Disk`).

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
mod lost_holders;
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
