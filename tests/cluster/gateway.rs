//! Gateways: `atdd nbd` beside a cluster, each on a unix socket of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::machine::{Machine, PATIENCE, spawn};

/// `atdd nbd`, killed when it is dropped.
pub(crate) struct Gateway {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Gateway {
    /// One that clients can connect to; `name` is that of its files.
    pub(crate) fn start(machine: &Machine, name: &str, arguments: &[&str]) -> Self {
        let socket = machine.path().join(format!("{name}.sock"));
        let path = machine.path().join(format!("{name}.log"));
        let log = File::create(&path).unwrap();
        let mut program = Command::new(env!("CARGO_BIN_EXE_atdd"));
        program
            .args(["nbd", "--config"])
            .arg(machine.config())
            .arg("--unix")
            .arg(&socket)
            .args(arguments);
        let child = spawn(&mut program, log);
        let gateway = Self {
            child,
            socket,
            log: path,
        };
        gateway.wait_for_socket();
        gateway
    }

    /// SIGSTOP; returns once no thread of it runs any more.
    pub(crate) fn pause(&self) {
        let pid = self.pid();
        kill_process(pid, Signal::STOP).unwrap();
        let stopped = waitpid(Some(pid), WaitOptions::UNTRACED).unwrap();
        let (_, status) = stopped.expect("it waits until there is something to say");
        assert!(status.stopped(), "{status:?}: {}", self.log());
    }

    /// SIGCONT.
    pub(crate) fn wake(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    pub(crate) fn uri(&self) -> String {
        format!("nbd+unix:///?socket={}", self.socket.display())
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn wait_for_socket(&self) {
        let begin = Instant::now();
        while !self.socket.exists() {
            assert!(begin.elapsed() < PATIENCE, "{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
