//! Making the files of a new cluster.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::cluster_file::cluster_file_text;
use super::{ClientKey, ClusterFile, ConfigError, DiskSize, Processes, SystemKey};
use crate::domain::ClusterId;

/// The name of the file that describes the cluster.
pub const CLUSTER_FILE: &str = "cluster.toml";

/// The name of the client key's file: 64 hex digits and a newline.
pub const CLIENT_KEY_FILE: &str = "client.key";

/// The name of the system key's file: 128 hex digits and a newline.
pub const SYSTEM_KEY_FILE: &str = "system.key";

/// Writes the files of a new cluster into `directory`, which is made if it is not there, and reads
/// them back. Nothing is overwritten: when a file is there already, none of the others stays.
///
/// `cluster.toml` comes last and the directory is synced, so that a `cluster.toml` that can be
/// read has its keys.
pub fn init(
    directory: &Path,
    processes: &Processes,
    size: DiskSize,
) -> Result<ClusterFile, InitError> {
    let id = ClusterId(rand_bytes()?);
    let client_key = ClientKey::from_bytes(rand_bytes()?);
    let system_key = SystemKey::from_bytes(rand_bytes()?);
    let files = [
        (CLIENT_KEY_FILE, client_key.to_file_content(), KEY_MODE),
        (SYSTEM_KEY_FILE, system_key.to_file_content(), KEY_MODE),
        (
            CLUSTER_FILE,
            cluster_file_text(id, size, processes),
            FILE_MODE,
        ),
    ];
    create_directory(directory)?;
    let mut written = Vec::new();
    for (name, content, mode) in &files {
        let path = directory.join(name);
        if let Err(error) = write_new(&path, content, *mode) {
            remove_all(&written);
            return Err(InitError::writing(path, error));
        }
        written.push(path);
    }
    sync_directory(directory)?;
    Ok(ClusterFile::load(&directory.join(CLUSTER_FILE))?)
}

/// Gives the cluster of this file another size or other addresses, atomically: whoever reads the
/// file at any moment, also after a crash, finds the old or the new one.
///
/// The file is written anew, with the explanations that [`init`] gives it; comments of the user
/// are lost.
pub fn replace_cluster_file(
    file: &ClusterFile,
    processes: &Processes,
    size: DiskSize,
) -> Result<ClusterFile, InitError> {
    let path = file.path();
    let temporary = path.with_extension("toml.new");
    let failed = |error| InitError::writing(temporary.clone(), error);
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let text = cluster_file_text(file.id(), size, processes);
    write_new(&temporary, &text, FILE_MODE).map_err(failed)?;
    fs::rename(&temporary, path).map_err(failed)?;
    sync_directory(path.parent().unwrap_or(Path::new("")))?;
    Ok(ClusterFile::load(path)?)
}

/// Why the files of a cluster could not be made.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// Something is there already.
    #[error(
        "{} exists already and is not overwritten; choose another directory, or remove it if no \
         process uses it any more", path.display()
    )]
    Exists {
        /// What is there.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("{} cannot be written: {error}; see that this user may write there and that there is space", path.display())]
    Write {
        /// The file or directory in question.
        path: PathBuf,
        /// What the file system says.
        error: io::Error,
    },
    /// The operating system gives no random bytes.
    #[error("the system's source of random numbers cannot be used")]
    Random(#[from] rand::rngs::SysError),
    /// What was written cannot be read back.
    #[error(transparent)]
    ReadBack(#[from] ConfigError),
}

impl InitError {
    fn writing(path: PathBuf, error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::AlreadyExists => Self::Exists { path },
            _ => Self::Write { path, error },
        }
    }
}

const KEY_MODE: u32 = 0o600;
const FILE_MODE: u32 = 0o644;

fn rand_bytes<const BYTES: usize>() -> Result<[u8; BYTES], rand::rngs::SysError> {
    use rand::TryRng;
    let mut bytes = [0; BYTES];
    rand::rngs::SysRng.try_fill_bytes(&mut bytes)?;
    Ok(bytes)
}

fn create_directory(directory: &Path) -> Result<(), InitError> {
    let failed = |error| InitError::Write {
        path: directory.to_owned(),
        error,
    };
    if directory.is_dir() {
        return Ok(());
    }
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o755);
    builder.create(directory).map_err(failed)?;
    // Its name must outlive a crash too, or the keys would be gone with it.
    let parent = directory.canonicalize().map_err(failed)?;
    sync_directory(parent.parent().unwrap_or(Path::new("/")))
}

fn write_new(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(content.as_bytes())?;
    file.sync_all()
}

fn sync_directory(directory: &Path) -> Result<(), InitError> {
    let directory = if directory.as_os_str().is_empty() {
        Path::new(".")
    } else {
        directory
    };
    let synced = File::open(directory).and_then(|opened| opened.sync_all());
    synced.map_err(|error| InitError::Write {
        path: directory.to_owned(),
        error,
    })
}

fn remove_all(paths: &[PathBuf]) {
    for path in paths {
        if let Err(error) = fs::remove_file(path) {
            tracing::warn!(path = %path.display(), %error, "an unfinished file stays behind");
        }
    }
}
