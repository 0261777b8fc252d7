//! Real processes of the real binary: started, killed, stopped and started again.

use std::fs::File;
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Nothing here takes as long, unless something hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A cluster on this machine. Whatever still runs when it is dropped is killed.
pub(crate) struct Machine {
    directory: TempDir,
    pub(crate) addresses: Vec<String>,
    children: Vec<Option<Child>>,
}

impl Machine {
    /// The files of a cluster of so many processes; none is started yet.
    pub(crate) fn new(processes: usize, size: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let listeners: Vec<TcpListener> = (0..processes)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let addresses: Vec<String> = listeners
            .iter()
            .map(|it| it.local_addr().unwrap().to_string())
            .collect();
        drop(listeners);
        let cluster = directory.path().join("cluster");
        let made = atdd()
            .arg("init")
            .arg(&cluster)
            .args(["--processes", &addresses.join(","), "--size", size])
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(made.success());
        Self {
            directory,
            addresses,
            children: (0..processes).map(|_| None).collect(),
        }
    }

    /// A cluster that serves.
    pub(crate) fn running(processes: usize, size: &str) -> Self {
        let mut machine = Self::new(processes, size);
        machine.start_all();
        machine.wait_for_status(0);
        machine
    }

    pub(crate) fn start_all(&mut self) {
        for rank in 1..=self.children.len() {
            self.start(rank, &[]);
        }
    }

    /// Starts a process; the first one serves NBD on a unix socket.
    pub(crate) fn start(&mut self, rank: usize, arguments: &[&str]) {
        assert!(
            self.children[rank - 1].is_none(),
            "process {rank} runs already"
        );
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path(rank))
            .unwrap();
        let mut command = self.serve(rank);
        if rank == 1 {
            command
                .arg("--nbd")
                .arg(format!("unix:{}", self.nbd_socket().display()));
        }
        self.children[rank - 1] = Some(spawn(command.args(arguments), log));
    }

    /// `atdd serve` of a process, as it is.
    pub(crate) fn serve(&self, rank: usize) -> Command {
        let mut command = atdd();
        command
            .arg("serve")
            .arg("--config")
            .arg(self.config())
            .args(["--rank", &rank.to_string(), "--data"])
            .arg(self.data(rank));
        command
    }

    pub(crate) fn pid(&self, rank: usize) -> Pid {
        let child = self.children[rank - 1].as_ref().expect("it runs");
        Pid::from_child(child)
    }

    pub(crate) fn signal(&self, rank: usize, signal: Signal) {
        kill_process(self.pid(rank), signal).unwrap();
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self, rank: usize) {
        self.signal(rank, Signal::KILL);
        self.wait(rank);
    }

    pub(crate) fn kill_all(&mut self) {
        for rank in 1..=self.children.len() {
            if self.children[rank - 1].is_some() {
                self.signal(rank, Signal::KILL);
            }
        }
        for rank in 1..=self.children.len() {
            if self.children[rank - 1].is_some() {
                self.wait(rank);
            }
        }
    }

    /// SIGTERM.
    pub(crate) fn stop(&mut self, rank: usize) -> ExitStatus {
        self.signal(rank, Signal::TERM);
        self.wait(rank)
    }

    /// Waits until a process has ended.
    pub(crate) fn wait(&mut self, rank: usize) -> ExitStatus {
        let mut child = self.children[rank - 1].take().expect("it runs");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            if Instant::now() > deadline {
                child.kill().unwrap();
                panic!("process {rank} does not end; its log:\n{}", self.log(rank));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What `atdd status --json` says, and its exit code.
    pub(crate) fn status(&self) -> (i32, Value) {
        let output = atdd()
            .arg("status")
            .arg("--config")
            .arg(self.config())
            .arg("--json")
            .output()
            .unwrap();
        let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
        (output.status.code().unwrap(), json)
    }

    /// The generations that the processes have, by what they report.
    pub(crate) fn generations(&self) -> Vec<u64> {
        let (_, status) = self.status();
        let processes = status["processes"].as_array().unwrap();
        let generation = |process: &Value| process["report"]["generation"].as_u64();
        processes.iter().filter_map(generation).collect()
    }

    /// A command that uses the disk, from its beginning to its end.
    pub(crate) fn command(&self, name: &str, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = atdd()
            .arg(name)
            .arg("--config")
            .arg(self.config())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that fails early does not read what it is given.
        stdin.write_all(input).ok();
        drop(stdin);
        child.wait_with_output().unwrap()
    }

    /// Waits until `atdd status` exits with this code.
    pub(crate) fn wait_for_status(&self, code: i32) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (found, status) = self.status();
            if found == code {
                return;
            }
            if Instant::now() > deadline {
                let logs: Vec<String> = (1..=self.children.len()).map(|r| self.log(r)).collect();
                panic!(
                    "status is {found}, not {code}: {status:#}\n{}",
                    logs.join("\n--\n")
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.directory.path().join("cluster").join("cluster.toml")
    }

    pub(crate) fn client_key(&self) -> atdd::wire::ClientKey {
        let path = self.directory.path().join("cluster").join("client.key");
        let key = atdd::config::ClientKey::load(&path).unwrap();
        atdd::wire::ClientKey::new(key.bytes())
    }

    pub(crate) fn data(&self, rank: usize) -> PathBuf {
        self.directory.path().join(format!("process-{rank}"))
    }

    pub(crate) fn nbd_socket(&self) -> PathBuf {
        self.directory.path().join("nbd.sock")
    }

    pub(crate) fn nbd_uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.nbd_socket().display())
    }

    /// A place for the test's own files.
    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    /// What a process has logged, over all of its starts.
    pub(crate) fn log(&self, rank: usize) -> String {
        std::fs::read_to_string(self.log_path(rank)).unwrap_or_default()
    }

    fn log_path(&self, rank: usize) -> PathBuf {
        self.directory.path().join(format!("process-{rank}.log"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        for child in self.children.iter_mut().flatten() {
            // It may have ended by itself.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Starts a program that says everything into this file.
pub(crate) fn spawn(program: &mut Command, log: File) -> Child {
    let program = program.stdin(Stdio::null());
    let program = program.stdout(log.try_clone().unwrap()).stderr(log);
    program.spawn().unwrap()
}

fn atdd() -> Command {
    Command::new(env!("CARGO_BIN_EXE_atdd"))
}
