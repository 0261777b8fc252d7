//! `atdd store check`: a directory verified offline.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use super::audit::{Progress, Report, audit};
use super::directory::{Lock, sectors_path};
use super::error::StoreError;
use super::file::FileMedium;
use super::identity::Identity;

/// Verifies everything that is in a store's directory: every checksum, every page of the map, the
/// journal, and that each block is either in use once or free. The store is locked meanwhile and
/// not changed; whatever is read comes from the medium.
///
/// An error means that a start would fail as well; what is found damaged otherwise is in the
/// report.
pub fn check(directory: &Path, progress: &mut dyn FnMut(Progress)) -> Result<Report, StoreError> {
    let path = sectors_path(directory);
    let doing = || format!("opening {}", path.display());
    // Looked for first, so that a mistyped directory does not get a lock file.
    std::fs::metadata(&path).map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => StoreError::NoStore {
            directory: directory.to_owned(),
        },
        _ => StoreError::io(doing())(error),
    })?;
    let _lock = Lock::take(directory, Duration::ZERO)?;
    let medium = FileMedium::open_read_only(&path).map_err(StoreError::io(doing()))?;
    let (identity, _) = Identity::read(&medium)?;
    audit(&medium, &identity, progress)
}
