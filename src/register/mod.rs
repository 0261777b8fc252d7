//! The (N,N)-AtomicRegister: under construction.

mod event;

pub use event::{
    Command, DISCARD_SECTORS_MAX, Input, LoadToken, OPERATION_SECTORS_MAX, Outcome, Output,
    RegisterError, StoreToken, Ticket,
};
