//! Clusters of real processes on this machine: what survives what.

mod classic;
mod faults;
mod limits;
mod machine;
mod service;
mod tools;
