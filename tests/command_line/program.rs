//! Running the program, and making sure that nothing of it stays behind.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Far longer than anything takes: a test that reaches it has failed.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// What a run of the program gave.
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs the program to its end, in this directory.
pub(crate) fn run<A: AsRef<OsStr>>(directory: &Path, arguments: &[A]) -> Finished {
    let mut running = Running::start(directory, arguments);
    running.close_stdin();
    let code = running.wait().code();
    let whole = |lines: &Receiver<String>| lines.iter().map(|line| line + "\n").collect();
    Finished {
        code,
        stdout: whole(&running.stdout),
        stderr: whole(&running.stderr),
    }
}

/// The program with these arguments, free of what the caller's environment says of logs.
pub(crate) fn command<A: AsRef<OsStr>>(directory: &Path, arguments: &[A]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atdd"));
    command
        .args(arguments)
        .current_dir(directory)
        .env_remove("RUST_LOG");
    command
}

/// A program that runs until it is told to end; killed when the test forgets it.
pub(crate) struct Running {
    child: Child,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

impl Running {
    /// Starts the program with an open stdin.
    pub(crate) fn start<A: AsRef<OsStr>>(directory: &Path, arguments: &[A]) -> Self {
        let mut command = command(directory, arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        Self {
            stdout: lines(child.stdout.take().unwrap()),
            stderr: lines(child.stderr.take().unwrap()),
            child,
        }
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line on stdout.
    pub(crate) fn stdout_line(&self) -> String {
        match self.stdout.recv_timeout(DEADLINE) {
            Ok(line) => line,
            Err(error) => panic!(
                "no line on stdout: {error}; stderr: {:?}",
                self.rest_of_stderr()
            ),
        }
    }

    /// The next line on stderr that contains this.
    pub(crate) fn stderr_line(&self, part: &str) -> String {
        let end = Instant::now() + DEADLINE;
        loop {
            let line = self
                .stderr
                .recv_timeout(end.saturating_duration_since(Instant::now()));
            let line = line.unwrap_or_else(|_| panic!("stderr never said `{part}`"));
            if line.contains(part) {
                return line;
            }
        }
    }

    /// What is on stderr and was not asked for yet.
    pub(crate) fn rest_of_stderr(&self) -> Vec<String> {
        self.stderr.try_iter().collect()
    }

    /// Writes to its stdin.
    pub(crate) fn write_stdin(&mut self, bytes: &[u8]) {
        self.child.stdin.as_mut().unwrap().write_all(bytes).unwrap();
    }

    /// Closes its stdin.
    pub(crate) fn close_stdin(&mut self) {
        drop(self.child.stdin.take());
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, with: Signal) {
        signal(self.pid(), with);
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        until("the program ends", || self.child.try_wait().unwrap())
    }

    /// Ends it as a user would, and returns what it said on the way.
    pub(crate) fn stop(mut self) -> Vec<String> {
        self.signal(Signal::TERM);
        assert_eq!(self.wait().code(), Some(0));
        self.stderr.iter().collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }
}

/// A directory with the files of a new cluster on this machine, whose ports nobody has now.
pub(crate) fn new_cluster(processes: usize) -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let listeners: Vec<_> = (0..processes)
        .map(|_| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap())
        .collect();
    let addresses = listeners
        .iter()
        .map(|listener| listener.local_addr().unwrap().to_string());
    let addresses = addresses.collect::<Vec<_>>().join(",");
    let made = run(
        directory.path(),
        &[
            "init",
            "cluster",
            "--processes",
            &addresses,
            "--size",
            "1GiB",
        ],
    );
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let path = directory.path().join("cluster/cluster.toml");
    (directory, path)
}

/// Sends a signal to a process.
pub(crate) fn signal(pid: u32, with: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(pid, with).unwrap();
}

/// Whether a process runs; one that has ended and is not yet buried does not.
pub(crate) fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest.as_bytes()[0]);
    state.is_some_and(|state| state != b'Z' && state != b'X')
}

/// Asks again and again until there is an answer.
pub(crate) fn until<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(Instant::now() < end, "it never happened that {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = sync_channel(1000);
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
