//! One process of a cluster: a stand-in until the real one is wired, so that the command line can
//! be developed and tested against its face.

mod stand_in;

pub use stand_in::{ProcessError, run_register_process};
