//! What can be wrong with a configuration, where, and what to do about it.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::{ClusterError, KeyError, SizeError};

/// A fault at its place: prints as `FILE:LINE: what is wrong; what to do`.
#[derive(Debug)]
pub struct ConfigError {
    /// The file as it was named.
    pub file: PathBuf,
    /// The line, from 1 on; `None` when the file could not be read at all.
    pub line: Option<usize>,
    /// What is wrong there.
    pub fault: ConfigFault,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}", self.fault)
    }
}

/// The message is complete: a cause stands in it before the remedy, so that there is no source.
impl Error for ConfigError {}

/// What is wrong, each with its remedy.
#[derive(Debug, thiserror::Error)]
pub enum ConfigFault {
    /// The file is missing, or this user may not read it.
    #[error(
        "cannot be read: {0}; name the cluster.toml that `atdd init` wrote, or write one with it"
    )]
    Unreadable(io::Error),
    /// The file is something else altogether.
    #[error("has more than {most} bytes; name the cluster.toml that `atdd init` wrote")]
    TooLong {
        /// How long it may be.
        most: u64,
    },
    /// The text is not TOML.
    #[error("{message}; mend this line: a cluster.toml has lines of the form key = \"value\"")]
    Syntax {
        /// What the parser says.
        message: String,
    },
    /// A key that means nothing.
    #[error("unknown key `{key}`; remove it, the keys are {known}")]
    UnknownKey {
        /// The key.
        key: String,
        /// Every key that there is.
        known: String,
    },
    /// A key without which there is no cluster.
    #[error("the key `{key}` is missing; add a line such as {example}")]
    MissingKey {
        /// The key.
        key: &'static str,
        /// A line that would do.
        example: &'static str,
    },
    /// A value of the wrong type.
    #[error("`{key}` is of type {found}; write it as in {example}")]
    WrongType {
        /// The key.
        key: &'static str,
        /// The type in TOML's words.
        found: &'static str,
        /// A line that would do.
        example: &'static str,
    },
    /// A path that names nothing.
    #[error("`{key}` is empty; write it as in {example}")]
    EmptyPath {
        /// The key.
        key: &'static str,
        /// A line that would do.
        example: &'static str,
    },
    /// The cluster's identity or a process's address is malformed.
    #[error("`{key}`: {error}")]
    Cluster {
        /// The key.
        key: &'static str,
        /// What is wrong, with the remedy.
        error: ClusterError,
    },
    /// The size is malformed.
    #[error("`size`: {0}")]
    Size(SizeError),
    /// A key file gives no key.
    #[error("`{key}`: the file {} {error}; {}", path.display(), key_remedy(path, error))]
    Key {
        /// The key of the configuration.
        key: &'static str,
        /// The key file.
        path: PathBuf,
        /// What is wrong with it.
        error: KeyError,
    },
    /// The rank on the command line is none of the listed processes'.
    #[error(
        "rank {rank} is out of range; the {count} processes listed here have ranks 1 to {count}"
    )]
    Rank {
        /// What was given.
        rank: u64,
        /// How many processes there are.
        count: u8,
    },
}

fn key_remedy(path: &Path, error: &KeyError) -> String {
    match error {
        KeyError::OpenToOthers { .. } => format!("run: chmod 600 {}", path.display()),
        KeyError::Read(_) | KeyError::NotAFile => {
            "name the key file that `atdd init` wrote, by its path from cluster.toml, and let this \
             user own it"
                .to_owned()
        }
        KeyError::WrongLength { .. } | KeyError::NotHex { .. } => {
            "copy the file again from where `atdd init` wrote it".to_owned()
        }
    }
}
