//! From files to a [`Configuration`] that cannot be wrong.
//!
//! Parsing is the only way in: what has been parsed needs no further check. Everything that is
//! unknown, missing, malformed or out of range is a [`ConfigError`] that names the file, the line
//! and what to do about it. Keys never appear in `Debug` output, hence not in logs.

mod address;
mod cluster;
mod cluster_file;
mod configuration;
mod error;
mod init;
mod key;
mod size;
mod toml_reader;

pub use address::{AddressError, HostPort};
pub use cluster::{Cluster, ClusterError, Processes};
pub use cluster_file::{CLUSTER_FILE_BYTES_MAX, ClusterFile};
pub use configuration::{Configuration, STORE_LOCK_WAIT};
pub use error::{ConfigError, ConfigFault};
pub use init::{
    CLIENT_KEY_FILE, CLUSTER_FILE, InitError, SYSTEM_KEY_FILE, init, replace_cluster_file,
};
pub use key::{ClientKey, Key, KeyError, SystemKey};
pub use size::{DiskSize, SizeError};
