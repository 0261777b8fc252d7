//! The keeper itself.

use crate::domain::{Fence, Incarnation, Rank};

use super::{Input, Output};

/// The keeper's place in the cluster.
#[derive(Copy, Clone, Debug)]
pub struct Config {
    /// This process.
    pub own: Rank,
    /// How many processes there are, this one included: 1 to 254.
    pub processes: u8,
    /// This start of the process's store.
    pub incarnation: Incarnation,
    /// The fence that the process's store has on record.
    pub fence: Fence,
    /// How many registers the process has, numbered from 0 on.
    pub shards: u8,
}

/// Keeps the fence of one volume in one process, and opens generations for its clients.
#[derive(Debug)]
pub struct AttachmentKeeper {}

impl AttachmentKeeper {
    /// A keeper to which nobody is attached.
    pub fn new(_config: Config) -> Self {
        todo!("keeper")
    }

    /// Takes one input, and appends to `out` what is to be done about it, in this order.
    pub fn step(&mut self, _input: Input, _out: &mut Vec<Output>) {
        todo!("keeper")
    }

    /// The newest fence that is stable here.
    pub fn fence(&self) -> Fence {
        todo!("keeper")
    }
}
