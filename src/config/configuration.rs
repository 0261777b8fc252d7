//! Everything that one process is started with.

use std::num::{NonZeroU8, NonZeroU64};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Cluster, ClusterFile, ConfigError, HostPort, SystemKey};
use crate::domain::Rank;

/// How long a start waits for the lock of its storage directory: a process that was told to end,
/// or whose parent was killed, may still be on its way out.
pub const STORE_LOCK_WAIT: Duration = Duration::from_secs(5);

/// What `run_register_process` runs: one process of a cluster. Its rank is one of the cluster's.
#[derive(Clone, Debug)]
pub struct Configuration {
    cluster: Cluster,
    rank: Rank,
    /// The secret of the processes.
    pub system_key: SystemKey,
    /// The process's storage directory, created at the first start.
    pub storage_dir: PathBuf,
    /// Where to serve NBD, if at all.
    pub nbd: Option<nbd_frontend::Address>,
    /// How many workers share the sectors; see [`Self::workers`] for when it is not set.
    pub threads: Option<NonZeroU8>,
    /// After so many seconds without a majority an operation fails; never, when not set.
    pub io_timeout_seconds: Option<NonZeroU64>,
    /// How long to wait for the lock of the storage directory.
    pub store_lock_wait: Duration,
    /// Whether the operator vouches that the cluster is new, so that a majority may begin without
    /// the others.
    pub new_cluster: bool,
}

impl Configuration {
    /// The process of this rank, with everything that is optional left out; `None` when the
    /// cluster has no such rank.
    pub fn new(
        cluster: Cluster,
        rank: Rank,
        system_key: SystemKey,
        storage_dir: PathBuf,
    ) -> Option<Self> {
        cluster.processes.rank(u64::from(rank.number()))?;
        Some(Self {
            cluster,
            rank,
            system_key,
            storage_dir,
            nbd: None,
            threads: None,
            io_timeout_seconds: None,
            store_lock_wait: STORE_LOCK_WAIT,
            new_cluster: false,
        })
    }

    /// The process of this rank of the cluster in this file, with everything that is optional left
    /// out. Reads the key files too.
    pub fn load(cluster_file: &Path, rank: u64, storage_dir: PathBuf) -> Result<Self, ConfigError> {
        let file = ClusterFile::load(cluster_file)?;
        let rank = file.rank(rank)?;
        let configuration = Self::new(file.cluster()?, rank, file.system_key()?, storage_dir);
        Ok(configuration.expect("the file has checked the rank"))
    }

    /// The cluster that the process belongs to.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The process's rank.
    pub fn rank(&self) -> Rank {
        self.rank
    }

    /// How many workers share the sectors: as told, or one for every two processors, at most four.
    /// A worker on a core of its own is never waited for; a core for the disk and the sockets of
    /// each is used as well.
    pub fn workers(&self) -> u8 {
        let default = || {
            let processors = std::thread::available_parallelism().map_or(1, usize::from);
            u8::try_from((processors / 2).clamp(1, 4)).expect("at most four")
        };
        self.threads.map_or_else(default, NonZeroU8::get)
    }

    /// Where the process listens.
    pub fn address(&self) -> &HostPort {
        self.cluster.processes.address(self.rank)
    }
}
