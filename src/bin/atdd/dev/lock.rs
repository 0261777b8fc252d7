//! One `atdd dev` for each directory.
//!
//! The lock is on an open file that the children inherit: it is free only when this process and
//! all of its children have ended, so that whoever has it finds no port and no store taken by an
//! earlier run.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{Pid, test_kill_process};

use crate::output::notice;

/// Holds the lock until it is dropped and all children have ended.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of `directory`, waiting a while for those who are on their way out.
    pub(super) fn take(directory: &Path) -> Result<Self> {
        let path = directory.join("dev.lock");
        let mut options = OpenOptions::new();
        let opened = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path);
        let mut file = opened.with_context(|| {
            let path = path.display();
            format!("{path} cannot be opened; see that this user may write there")
        })?;
        let begin = Instant::now();
        let mut said = false;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::AGAIN) if begin.elapsed() < WAIT => {
                    if !said && begin.elapsed() >= PATIENCE {
                        said = true;
                        let directory = directory.display();
                        notice(&format!(
                            "atdd: waiting for {directory}, which is still in use"
                        ));
                    }
                    std::thread::sleep(STEP);
                }
                Err(Errno::AGAIN) => return refuse(directory, &path, &mut file),
                Err(error) => {
                    let path = path.display();
                    return Err(error).with_context(|| format!("{path} cannot be locked"));
                }
            }
        }
        // Children inherit what is not closed on exec.
        fcntl_setfd(&file, FdFlags::empty()).context("the lock cannot be passed on")?;
        file.set_len(0)?;
        write!(file, "{}", std::process::id())?;
        Ok(Self { _file: file })
    }
}

/// How long those of an earlier run may take to end.
const WAIT: Duration = Duration::from_secs(5);
/// After so long it is said what is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
const STEP: Duration = Duration::from_millis(20);

fn refuse(directory: &Path, path: &Path, file: &mut File) -> Result<Lock> {
    let mut pid = String::new();
    file.rewind()?;
    file.take(16).read_to_string(&mut pid)?;
    let owner = pid.trim().parse().ok().and_then(Pid::from_raw);
    let directory = directory.display();
    match owner.filter(|pid| test_kill_process(*pid) != Err(Errno::SRCH)) {
        Some(pid) => bail!(
            "{directory} is in use by `atdd dev` with pid {}; end that one, or choose another --dir",
            pid.as_raw_nonzero()
        ),
        None => bail!(
            "{directory} is in use by processes of an earlier `atdd dev` that do not end; \
             `fuser -v {}` names them, `fuser -k` ends them",
            path.display()
        ),
    }
}
