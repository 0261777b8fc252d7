//! The directory of a store: its lock, its file, and what it must not be.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::error::StoreError;
use super::file::{DirectReads, FileMedium};
use super::format::format;
use crate::domain::{ClusterId, Rank, StoreId};

const SECTORS: &str = "sectors";
/// What [`SECTORS`] is called until it is whole.
const SECTORS_NEW: &str = "sectors.new";
const LOCK: &str = "lock";

/// How long to wait before asking for a lock again.
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// The lock on a directory, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Locks the directory against every other process, waiting up to `wait` for one that is
    /// ending.
    pub(crate) fn take(directory: &Path, wait: Duration) -> Result<Self, StoreError> {
        let path = directory.join(LOCK);
        let doing = || format!("locking {}", path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(StoreError::io(doing()))?;
        let deadline = Instant::now() + wait;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => {
                    std::thread::sleep(LOCK_PAUSE);
                }
                Err(Errno::WOULDBLOCK) => return Err(locked(directory, &path)),
                Err(error) => return Err(StoreError::io(doing())(error.into())),
            }
        }
        // Whoever is refused reads here by whom.
        file.set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()))
            .map_err(StoreError::io(doing()))?;
        Ok(Self { _file: file })
    }
}

fn locked(directory: &Path, path: &Path) -> StoreError {
    let holder = fs::read_to_string(path).unwrap_or_default();
    let holder = match holder.trim() {
        "" => "another process".to_owned(),
        number => format!("process {number}"),
    };
    StoreError::Locked {
        directory: directory.to_owned(),
        holder,
    }
}

/// The path of the file with the sectors.
pub(crate) fn sectors_path(directory: &Path) -> PathBuf {
    directory.join(SECTORS)
}

/// Makes the directory if it is not there.
pub(crate) fn create(directory: &Path) -> Result<(), StoreError> {
    if directory.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(directory)
        .and_then(|()| match directory.parent() {
            Some(parent) if parent.is_dir() => File::open(parent)?.sync_all(),
            _ => Ok(()),
        })
        .map_err(StoreError::io(format!("creating {}", directory.display())))
}

/// Opens the store's file in a locked directory, or makes a new store where the directory is empty.
pub(crate) fn open(
    directory: &Path,
    cluster: ClusterId,
    rank: Rank,
    direct_reads: DirectReads,
) -> Result<FileMedium, StoreError> {
    let path = sectors_path(directory);
    let doing = format!("opening {}", path.display());
    if !path.try_exists().map_err(StoreError::io(doing.clone()))? {
        refuse_strangers(directory)?;
        create_sectors(directory, cluster, rank)?;
    }
    FileMedium::open(&path, direct_reads).map_err(StoreError::io(doing))
}

/// Nothing may be in a directory where a new store is made: it might be all that is left of one.
fn refuse_strangers(directory: &Path) -> Result<(), StoreError> {
    let doing = format!("listing {}", directory.display());
    let entries = fs::read_dir(directory).map_err(StoreError::io(doing.clone()))?;
    for entry in entries {
        let name = entry.map_err(StoreError::io(doing.clone()))?.file_name();
        if name != LOCK && name != SECTORS_NEW && name != "lost+found" {
            return Err(StoreError::NotAStore {
                directory: directory.to_owned(),
                found: name.to_string_lossy().into_owned(),
            });
        }
    }
    Ok(())
}

/// Makes a store under another name and renames it when it is whole and durable, so that a crash
/// leaves either nothing or a store.
fn create_sectors(directory: &Path, cluster: ClusterId, rank: Rank) -> Result<(), StoreError> {
    let (path, new) = (sectors_path(directory), directory.join(SECTORS_NEW));
    let doing = format!("creating {}", path.display());
    let medium = FileMedium::create(&new).map_err(StoreError::io(doing.clone()))?;
    format(&medium, StoreId(rand::random()), cluster, rank)?;
    drop(medium);
    fs::rename(&new, &path)
        .and_then(|()| sync_directory(directory))
        .map_err(StoreError::io(doing))
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
