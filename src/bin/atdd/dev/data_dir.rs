//! The directory of a cluster on this machine.
//!
//! | in it | what it is |
//! |---|---|
//! | `dev.lock` | held by `atdd dev` and its children |
//! | `cluster.toml`, `client.key`, `system.key` | as `atdd init` makes them |
//! | `process-N` | the storage directory of process N |
//! | `process-N.log` | its log |

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use atdd::config::{
    CLUSTER_FILE, ClusterFile, DiskSize, HostPort, Processes, init, replace_cluster_file,
};
use atdd::domain::Rank;

use super::lock::Lock;
use super::ports;
use crate::output::notice;

/// A directory with a cluster that this process alone may run.
pub(super) struct DataDir {
    path: PathBuf,
    file: ClusterFile,
    is_new: bool,
    _lock: Lock,
}

impl DataDir {
    /// Opens the directory, and makes its cluster if there is none. What is asked for must fit
    /// what is there: as many processes, and a disk that is not larger than asked for.
    pub(super) fn open(path: &Path, processes: Option<u8>, size: Option<DiskSize>) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| {
            let path = path.display();
            format!("{path} cannot be made; choose another --dir, where this user may write")
        })?;
        let lock = Lock::take(path)?;
        let cluster_file = path.join(CLUSTER_FILE);
        let is_new = !cluster_file.exists();
        let file = if is_new {
            make(path, processes.unwrap_or(PROCESSES_DEFAULT), size)?
        } else {
            reuse(ClusterFile::load(&cluster_file)?, processes, size)?
        };
        Ok(Self {
            path: path.to_owned(),
            file,
            is_new,
            _lock: lock,
        })
    }

    /// The cluster.
    pub(super) fn file(&self) -> &ClusterFile {
        &self.file
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the cluster was made just now, so that there is nothing on its disk.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    /// Where the log of this process goes.
    pub(super) fn log_path(&self, rank: Rank) -> PathBuf {
        self.path.join(format!("process-{rank}.log"))
    }

    /// The command line that runs this process.
    pub(super) fn serve_arguments(&self, rank: Rank) -> Vec<OsString> {
        vec![
            "serve".into(),
            "--config".into(),
            self.file.path().into(),
            "--rank".into(),
            rank.to_string().into(),
            "--data".into(),
            self.path.join(format!("process-{rank}")).into(),
            "--exit-with-stdin".into(),
        ]
    }
}

const PROCESSES_DEFAULT: u8 = 3;
const SIZE_DEFAULT: &str = "1GiB";

fn make(path: &Path, processes: u8, size: Option<DiskSize>) -> Result<ClusterFile> {
    let first_data = path.join("process-1");
    if first_data.exists() {
        bail!(
            "{} holds data but no {CLUSTER_FILE}; bring that file and its keys back, or choose \
             another --dir",
            path.display()
        );
    }
    let size = size.map_or_else(|| SIZE_DEFAULT.parse(), Ok)?;
    let addresses = ports::choose(usize::from(processes), &[])?;
    Ok(init(path, &Processes::new(addresses)?, size)?)
}

fn reuse(file: ClusterFile, processes: Option<u8>, size: Option<DiskSize>) -> Result<ClusterFile> {
    let path = file.path().display();
    let count = file.processes().count();
    if let Some(other) = processes.filter(|processes| *processes != count) {
        bail!(
            "{path} has {count} processes, and their number cannot change to {other}; leave \
             --processes out, or choose another --dir for another cluster"
        );
    }
    let old = file.size();
    let size = size.unwrap_or(old);
    if size < old {
        bail!(
            "the disk in {path} has {old} and cannot shrink to {size}, because what lies behind \
             would be lost; leave --size out, or choose another --dir for another disk"
        );
    }
    let addresses = usable_addresses(&file)?;
    if size == old && addresses == file.processes().addresses() {
        return Ok(file);
    }
    Ok(replace_cluster_file(
        &file,
        &Processes::new(addresses)?,
        size,
    )?)
}

/// The addresses of the file, but others where another program listens by now. The lock says that
/// it is no process of this cluster.
fn usable_addresses(file: &ClusterFile) -> Result<Vec<HostPort>> {
    let mut addresses = file.processes().addresses().to_vec();
    for (rank, address) in file.processes().ranks().zip(file.processes().addresses()) {
        if address.host() != "127.0.0.1" {
            bail!(
                "{} has process {rank} at {address}, which `atdd dev` would not have chosen: it \
                 runs clusters of 127.0.0.1 only; choose another --dir, or use `atdd serve`",
                file.path().display()
            );
        }
        if !ports::is_free(address) {
            let other = ports::choose(1, &addresses)?.remove(0);
            notice(&format!(
                "atdd: another program listens on {address}; process {rank} now has {other}"
            ));
            addresses[rank.place()] = other;
        }
    }
    Ok(addresses)
}
