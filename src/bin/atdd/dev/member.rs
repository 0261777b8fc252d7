//! One process of the cluster: a child that is started again when it ends.

use std::ffi::OsString;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use atdd::domain::Rank;
use rustix::process::{Pid, Signal, kill_process};

use super::log_tail::{LogTail, Severity};
use super::shown::Shown;
use crate::output::notice;

/// A process that should run, whether it does at the moment or not.
pub(super) struct Member {
    rank: Rank,
    arguments: Vec<OsString>,
    log: LogTail,
    shown: Shown,
    phase: Phase,
    /// How long it rests when it ends the next time.
    rest: Duration,
    /// Whether its last end was said: one that fails in the same way again and again is not news
    /// each time.
    end_was_said: bool,
}

enum Phase {
    Running { child: Child, since: Instant },
    Resting { until: Instant },
}

impl Member {
    /// The process of this rank, started at the first [`Self::tend`].
    pub(super) fn new(rank: Rank, arguments: Vec<OsString>, log: PathBuf) -> Self {
        Self {
            rank,
            arguments,
            log: LogTail::new(log),
            shown: Shown::default(),
            phase: Phase::Resting {
                until: Instant::now(),
            },
            rest: REST_MIN,
            end_was_said: false,
        }
    }

    /// Starts it for the first time.
    pub(super) fn start(&mut self) -> Result<()> {
        let child = self.spawn()?;
        self.phase = Phase::Running {
            child,
            since: Instant::now(),
        };
        Ok(())
    }

    /// Starts it again if it has ended and rested, and says so.
    pub(super) fn tend(&mut self) {
        match &mut self.phase {
            Phase::Running { child, since } => match child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => {
                    let after = since.elapsed();
                    let cause = format!("(pid {}) {}", child.id(), in_words(status));
                    // A signal is someone's doing, and said each time.
                    let failed = format!("process {} {}", self.rank, in_words(status));
                    self.end_was_said = status.code().is_none()
                        || after >= HEALTHY_RUN
                        || self.shown.is_news(&failed, Instant::now());
                    self.rest(after, &cause);
                }
                Err(error) => {
                    let after = since.elapsed();
                    self.end_was_said = true;
                    self.rest(after, &format!("cannot be watched: {error}"));
                }
            },
            Phase::Resting { until } if *until <= Instant::now() => match self.start() {
                Ok(()) if !self.end_was_said => {}
                Ok(()) => {
                    let pid = self.pid().map(|pid| pid.to_string()).unwrap_or_default();
                    notice(&format!(
                        "atdd: process {} runs again (pid {pid})",
                        self.rank
                    ));
                }
                Err(error) => {
                    self.end_was_said = true;
                    self.rest(Duration::ZERO, &format!("did not start: {error:#}"));
                }
            },
            Phase::Resting { .. } => {}
        }
    }

    /// Shows what was added to its log: errors, and warnings too where they are wanted.
    pub(super) fn show_log(&mut self, warnings: bool) {
        for (severity, line) in self.log.poll() {
            let wanted = warnings || severity == Severity::Error;
            if wanted && self.shown.is_news(&line, Instant::now()) {
                notice(&format!("process {}: {line}", self.rank));
            }
        }
    }

    /// Its rank.
    pub(super) fn rank(&self) -> Rank {
        self.rank
    }

    /// Its pid, while it runs.
    pub(super) fn pid(&self) -> Option<u32> {
        match &self.phase {
            Phase::Running { child, .. } => Some(child.id()),
            Phase::Resting { .. } => None,
        }
    }

    /// Whether a child is there, which is asked of the system.
    pub(super) fn is_running(&mut self) -> bool {
        match &mut self.phase {
            Phase::Running { child, .. } => matches!(child.try_wait(), Ok(None)),
            Phase::Resting { .. } => false,
        }
    }

    /// Sends it a signal, if it runs.
    pub(super) fn signal(&mut self, signal: Signal) {
        if self.is_running()
            && let Some(pid) = self
                .pid()
                .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?))
            && let Err(error) = kill_process(pid, signal)
        {
            notice(&format!(
                "atdd: process {} cannot be told to end: {error}",
                self.rank
            ));
        }
    }

    /// Lets it rest, the longer the sooner it ended.
    fn rest(&mut self, after: Duration, cause: &str) {
        if after >= HEALTHY_RUN {
            self.rest = REST_MIN;
        }
        let (rank, rest) = (self.rank, self.rest.as_secs_f32());
        if self.end_was_said {
            notice(&format!(
                "atdd: process {rank} {cause}; starting it again in {rest} s"
            ));
        }
        self.phase = Phase::Resting {
            until: Instant::now() + self.rest,
        };
        self.rest = (self.rest * 2).min(REST_MAX);
    }

    fn spawn(&self) -> Result<Child> {
        let mut command = Command::new(own_program()?);
        command.arg0("atdd").args(&self.arguments);
        command.stdin(Stdio::piped());
        command.stdout(self.log.open_for_child()?);
        command.stderr(self.log.open_for_child()?);
        // A group of its own: Ctrl-C is for this process, which ends its children in order.
        command.process_group(0);
        let spawned = command.spawn();
        spawned.with_context(|| format!("process {} cannot be started", self.rank))
    }
}

/// After a run as long as this, the next rest is short again.
const HEALTHY_RUN: Duration = Duration::from_secs(10);
const REST_MIN: Duration = Duration::from_millis(100);
const REST_MAX: Duration = Duration::from_secs(10);

/// The program that runs now, even if its file has been replaced by a newer build.
fn own_program() -> Result<PathBuf> {
    let program = std::env::current_exe().context("the program's own file is not known")?;
    if program.exists() {
        Ok(program)
    } else {
        Ok(Path::new("/proc/self/exe").to_owned())
    }
}

fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => "has ended".to_owned(),
        (Some(code), _) => format!("failed with exit code {code}"),
        (None, Some(9)) => "was killed".to_owned(),
        (None, Some(6)) => "aborted".to_owned(),
        (None, signal) => format!("died of signal {}", signal.unwrap_or_default()),
    }
}
