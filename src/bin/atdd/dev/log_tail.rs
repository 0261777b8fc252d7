//! What an operator should see of a child's log.
//!
//! The child writes the file by itself: it never depends on anyone's reading, and its last words
//! are there even when `atdd dev` is gone.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// Follows a log from where it was when this began.
pub(super) struct LogTail {
    path: PathBuf,
    offset: u64,
    unfinished: Vec<u8>,
}

/// How much a line matters.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    /// The process is well, but something is not.
    Warning,
    /// The process failed, or says why it ends.
    Error,
}

impl LogTail {
    /// Begins at the log's present end. A log that has grown large is put aside first.
    pub(super) fn new(path: PathBuf) -> Self {
        let length = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        let set_aside = length > LOG_BYTES_MAX && fs::rename(&path, old_path(&path)).is_ok();
        Self {
            path,
            offset: if set_aside { 0 } else { length },
            unfinished: Vec::new(),
        }
    }

    /// The log opened for a child to write at its end.
    pub(super) fn open_for_child(&self) -> Result<File> {
        let mut options = OpenOptions::new();
        let opened = options.create(true).append(true).open(&self.path);
        opened.with_context(|| format!("{} cannot be written", self.path.display()))
    }

    /// The warnings and errors that were added since the last call. A log that cannot be read
    /// shows nothing: the processes matter more.
    pub(super) fn poll(&mut self) -> Vec<(Severity, String)> {
        let mut added = Vec::new();
        if self.read(&mut added).is_err() {
            return Vec::new();
        }
        self.offset += u64::try_from(added.len()).expect("no more than was asked for");
        self.unfinished.extend_from_slice(&added);
        let whole = self.unfinished.iter().rposition(|byte| *byte == b'\n');
        let Some(end) = whole else {
            self.unfinished.truncate(LINE_BYTES_MAX);
            return Vec::new();
        };
        let lines: Vec<u8> = self.unfinished.drain(..=end).collect();
        let lines = String::from_utf8_lossy(&lines);
        lines.lines().filter_map(what_to_show).collect()
    }

    fn read(&self, added: &mut Vec<u8>) -> std::io::Result<()> {
        let mut file = File::open(&self.path)?;
        file.seek(SeekFrom::Start(self.offset))?;
        file.take(POLL_BYTES_MAX).read_to_end(added)?;
        Ok(())
    }
}

/// A larger log is put aside at the next start, in place of the one put aside before.
const LOG_BYTES_MAX: u64 = 8 << 20;

/// A flood is shown bit by bit.
const POLL_BYTES_MAX: u64 = 64 << 10;

/// What is kept of a line that does not end.
const LINE_BYTES_MAX: usize = 4096;

fn old_path(path: &Path) -> PathBuf {
    path.with_extension("log.old")
}

/// The part of a line that an operator should see: without its time, which is now.
fn what_to_show(line: &str) -> Option<(Severity, String)> {
    if let Some(last_words) = line.strip_prefix("atdd: ") {
        return Some((Severity::Error, last_words.to_owned()));
    }
    let (_time, rest) = line.split_once(' ')?;
    let rest = rest.trim_start();
    let severity = match rest.split(' ').next()? {
        "WARN" => Severity::Warning,
        "ERROR" => Severity::Error,
        _ => return panic_message(line),
    };
    Some((severity, rest.to_owned()))
}

fn panic_message(line: &str) -> Option<(Severity, String)> {
    let is_panic = line.starts_with("thread '") && line.contains("panicked");
    is_panic.then(|| (Severity::Error, line.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn warnings_errors_and_last_words_are_shown() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("process-1.log");
        fs::write(
            &path,
            "2026-01-01T00:00:00.0Z ERROR atdd: of an earlier run\n",
        )
        .unwrap();
        let mut tail = LogTail::new(path);
        assert_eq!(tail.poll(), []);

        let mut log = tail.open_for_child().unwrap();
        write!(
            log,
            "2026-01-01T00:00:00.0Z  INFO atdd::process: serving\n\
             2026-01-01T00:00:00.0Z  WARN atdd::net: process 2 is gone\n\
             2026-01-01T00:00:00.0Z ERROR atdd::store: bro"
        )
        .unwrap();
        let warning = "WARN atdd::net: process 2 is gone".to_owned();
        assert_eq!(tail.poll(), [(Severity::Warning, warning)]);
        write!(
            log,
            "ken\natdd: the store failed\nthread 'main' (1) panicked at x\n"
        )
        .unwrap();
        let errors = [
            "ERROR atdd::store: broken",
            "the store failed",
            "thread 'main' (1) panicked at x",
        ];
        let errors = errors.map(|line| (Severity::Error, line.to_owned()));
        assert_eq!(tail.poll(), errors);
    }

    #[test]
    fn a_large_log_is_put_aside() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("process-1.log");
        File::create(&path)
            .unwrap()
            .set_len(LOG_BYTES_MAX + 1)
            .unwrap();
        let tail = LogTail::new(path.clone());
        assert_eq!(tail.offset, 0);
        assert!(!path.exists() && directory.path().join("process-1.log.old").exists());
    }
}
