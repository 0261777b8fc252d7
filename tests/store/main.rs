//! The store from outside: what every implementation promises, and what a directory goes through.

mod conformance;
mod directory;
mod disk_usage;
mod measure;
mod support;
