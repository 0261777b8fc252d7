//! `cluster.toml`: the file, read strictly and written with its explanations.
//!
//! ```toml
//! cluster = "00112233445566778899aabbccddeeff"
//! size = "1GiB"
//! processes = ["10.0.0.1:7000", "10.0.0.2:7000", "10.0.0.3:7000"]
//! client_key = "client.key"
//! system_key = "system.key"
//! ```
//! The paths of the keys are relative to the file. A client needs no `system_key`, and should not
//! have it; a process needs both.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::DeValue;

use super::toml_reader::{Field, TomlReader};
use super::{
    Cluster, ClusterError, ConfigError, ConfigFault, DiskSize, HostPort, Key, Processes, SystemKey,
};
use crate::domain::{ClusterId, Rank};

/// A longer file is no `cluster.toml`: 254 processes with long names take a tenth of it.
pub const CLUSTER_FILE_BYTES_MAX: u64 = 1 << 20;

/// A `cluster.toml` that was read: everything that it says by itself is valid. The key files that
/// it names are read when they are asked for.
#[derive(Clone, Debug)]
pub struct ClusterFile {
    path: PathBuf,
    id: ClusterId,
    size: DiskSize,
    processes: Placed<Processes>,
    client_key: Placed<PathBuf>,
    system_key: Option<Placed<PathBuf>>,
}

/// A value with its line, for what can only be found wrong later.
#[derive(Clone, Debug)]
struct Placed<T> {
    line: usize,
    value: T,
}

impl ClusterFile {
    /// Reads the file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let fault = |fault| ConfigError {
            file: path.to_owned(),
            line: None,
            fault,
        };
        let text = read_text(path).map_err(|error| fault(ConfigFault::Unreadable(error)))?;
        if u64::try_from(text.len()).is_ok_and(|length| length > CLUSTER_FILE_BYTES_MAX) {
            return Err(fault(ConfigFault::TooLong {
                most: CLUSTER_FILE_BYTES_MAX,
            }));
        }
        Self::parse(path, &text)
    }

    /// Reads the text of a file; the path is for messages and as the place of relative paths.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let reader = TomlReader::parse(path, text, &FIELDS)?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let key_path = |value: Spanned<&str>| Placed {
            line: reader.line(&value),
            value: directory.join(value.get_ref()),
        };
        let id = reader.string(&CLUSTER)?;
        let id = id.get_ref().parse().map_err(|error| {
            let fault = ConfigFault::Cluster {
                key: CLUSTER.key,
                error: ClusterError::Id(error),
            };
            reader.error(&id, fault)
        })?;
        Ok(Self {
            id,
            size: read_size(&reader)?,
            processes: read_processes(&reader)?,
            client_key: key_path(reader.path(&CLIENT_KEY)?),
            system_key: reader.optional_path(&SYSTEM_KEY)?.map(key_path),
            path: path.to_owned(),
        })
    }

    /// What clients know of the cluster; reads the file of the client key.
    pub fn cluster(&self) -> Result<Cluster, ConfigError> {
        Ok(Cluster {
            id: self.id,
            processes: self.processes.value.clone(),
            size: self.size,
            client_key: self.load_key(&CLIENT_KEY, &self.client_key)?,
        })
    }

    /// The secret of the processes; reads its file.
    pub fn system_key(&self) -> Result<SystemKey, ConfigError> {
        match &self.system_key {
            Some(path) => self.load_key(&SYSTEM_KEY, path),
            None => Err(self.error(1, SYSTEM_KEY.missing())),
        }
    }

    /// The rank of this number, which must be one of the listed processes'.
    pub fn rank(&self, number: u64) -> Result<Rank, ConfigError> {
        self.processes.value.rank(number).ok_or_else(|| {
            let fault = ConfigFault::Rank {
                rank: number,
                count: self.processes.value.count(),
            };
            self.error(self.processes.line, fault)
        })
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The cluster's identity.
    pub fn id(&self) -> ClusterId {
        self.id
    }

    /// The size of the disk.
    pub fn size(&self) -> DiskSize {
        self.size
    }

    /// Where the processes listen.
    pub fn processes(&self) -> &Processes {
        &self.processes.value
    }

    fn load_key<const BYTES: usize>(
        &self,
        field: &Field,
        path: &Placed<PathBuf>,
    ) -> Result<Key<BYTES>, ConfigError> {
        Key::load(&path.value).map_err(|error| {
            let fault = ConfigFault::Key {
                key: field.key,
                path: path.value.clone(),
                error,
            };
            self.error(path.line, fault)
        })
    }

    fn error(&self, line: usize, fault: ConfigFault) -> ConfigError {
        ConfigError {
            file: self.path.clone(),
            line: Some(line),
            fault,
        }
    }
}

/// The text of a `cluster.toml` whose keys lie beside it under their usual names.
pub(super) fn cluster_file_text(id: ClusterId, size: DiskSize, processes: &Processes) -> String {
    let lines = processes.ranks().zip(processes.addresses());
    let lines = lines.map(|(rank, address)| format!("    \"{address}\", # rank {rank}\n"));
    let addresses: String = lines.collect();
    format!(
        r#"# A cluster of Atomic Disk Drive. Every process and every client has a copy of this file;
# `atdd serve --help` and `atdd status --help` say how it is used.

# What tells this cluster from every other; stores carry it. Never change it.
cluster = "{id}"

# The size of the disk. It may grow: change it in every copy, then restart the processes one after
# another. It cannot shrink.
size = "{size}"

# Where each process listens for clients and for the other processes, in the order of ranks from 1
# on. A process may move to another address; their number and order cannot change.
processes = [
{addresses}]

# The secret of clients: processes and clients have it. Paths are relative to this file, and only
# the owner may be able to read a key.
client_key = "client.key"

# The secret of the processes. Clients do without it, and without this line.
system_key = "system.key"
"#
    )
}

const CLUSTER: Field = Field {
    key: "cluster",
    example: "cluster = \"00112233445566778899aabbccddeeff\" (as in the other processes' files)",
};
const SIZE: Field = Field {
    key: "size",
    example: "size = \"1GiB\"",
};
const PROCESSES: Field = Field {
    key: "processes",
    example: "processes = [\"10.0.0.1:7000\", \"10.0.0.2:7000\", \"10.0.0.3:7000\"]",
};
const CLIENT_KEY: Field = Field {
    key: "client_key",
    example: "client_key = \"client.key\"",
};
const SYSTEM_KEY: Field = Field {
    key: "system_key",
    example: "system_key = \"system.key\"",
};
const FIELDS: [&Field; 5] = [&CLUSTER, &SIZE, &PROCESSES, &CLIENT_KEY, &SYSTEM_KEY];

fn read_text(path: &Path) -> io::Result<String> {
    // Asked before opening, because opening a pipe would wait for its writer.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is not a plain file"));
    }
    let mut text = String::new();
    let most = CLUSTER_FILE_BYTES_MAX + 1;
    File::open(path)?.take(most).read_to_string(&mut text)?;
    Ok(text)
}

fn read_size(reader: &TomlReader) -> Result<DiskSize, ConfigError> {
    let value = reader.required(&SIZE)?;
    let size = match value.get_ref() {
        DeValue::String(text) => text.parse(),
        DeValue::Integer(number) => number.to_string().parse(),
        _ => return Err(reader.wrong_type(&SIZE, value)),
    };
    size.map_err(|error| reader.error(value, ConfigFault::Size(error)))
}

fn read_processes(reader: &TomlReader) -> Result<Placed<Processes>, ConfigError> {
    let list = reader.required(&PROCESSES)?;
    let items = list
        .get_ref()
        .as_array()
        .ok_or_else(|| reader.wrong_type(&PROCESSES, list))?;
    let fault = |place: &Spanned<DeValue>, error| {
        let key = PROCESSES.key;
        reader.error(place, ConfigFault::Cluster { key, error })
    };
    let mut addresses: Vec<HostPort> = Vec::new();
    for item in items {
        let text = item.get_ref().as_str();
        let text = text.ok_or_else(|| reader.wrong_type(&PROCESSES, item))?;
        addresses.push(
            text.parse()
                .map_err(|error| fault(item, ClusterError::from(error)))?,
        );
    }
    let processes = Processes::new(addresses).map_err(|error| match &error {
        ClusterError::SameAddress { ranks, .. } => fault(&items[ranks.1 - 1], error),
        _ => fault(list, error),
    })?;
    Ok(Placed {
        line: reader.line(list),
        value: processes,
    })
}

#[cfg(test)]
mod tests;
