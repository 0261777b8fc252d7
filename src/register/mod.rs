//! The (N,N)-AtomicRegister: under construction.

mod atomic_register;
mod coordinator;
mod event;
mod extents;
mod fault;
mod operation;
mod quorum;
mod range_locks;
mod read;
mod replica;
mod token;
mod write;

#[cfg(test)]
mod tests;

pub use atomic_register::AtomicRegister;
pub use coordinator::Config;
pub use event::{
    Command, DISCARD_SECTORS_MAX, Input, LoadToken, OPERATION_SECTORS_MAX, Outcome, Output,
    RegisterError, StoreToken, Ticket,
};
pub use fault::PeerFault;
