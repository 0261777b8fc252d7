//! `atdd dev`: a cluster whose processes nobody else ever sees.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::net::{UnixListener, UnixStream};

use atdd::config::{ClusterFile, HostPort};
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use tempfile::TempDir;

use crate::program::{Finished, Running, is_running, run, signal, until};

/// The arguments of a cluster in this directory that takes no port from anybody.
fn arguments<'a>(more: &[&'a str]) -> Vec<&'a str> {
    let arguments = ["dev", "--dir", "data", "--nbd", "unix:disk.sock"];
    arguments.iter().chain(more).copied().collect()
}

/// A cluster that serves, its two lines and the pids that the first one names.
struct Cluster {
    dev: Running,
    lines: [String; 2],
    pids: Vec<u32>,
}

impl Cluster {
    fn start(directory: &TempDir, more: &[&str]) -> Self {
        let dev = Running::start(directory.path(), &arguments(more));
        let lines = [dev.stdout_line(), dev.stdout_line()];
        let (_, pids) = lines[0].split_once("(pid ").unwrap();
        let (pids, _) = pids.split_once(')').unwrap();
        let pids = pids.split(", ").map(|pid| pid.parse().unwrap()).collect();
        Self { dev, lines, pids }
    }

    /// Ends it, and returns what it said on stderr.
    fn stop(self) -> Vec<String> {
        let said = self.dev.stop();
        assert!(!self.pids.iter().copied().any(is_running));
        said
    }
}

fn refused(directory: &TempDir, more: &[&str]) -> String {
    let Finished {
        code,
        stdout,
        stderr,
    } = run(directory.path(), &arguments(more));
    assert_eq!((code, stdout.as_str()), (Some(1), ""), "{stderr}");
    stderr
}

fn cluster_file(directory: &TempDir) -> ClusterFile {
    ClusterFile::load(&directory.path().join("data/cluster.toml")).unwrap()
}

fn status(directory: &TempDir) -> Option<i32> {
    run(
        directory.path(),
        &["status", "--config", "data/cluster.toml"],
    )
    .code
}

#[test]
fn two_lines_say_what_is_served_and_what_to_type() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&directory, &[]);
    assert!(cluster.lines[0].starts_with("1GiB in data on 3 processes (pid "));
    assert!(cluster.lines[0].contains("served at nbd+unix:///?socket="));
    assert!(cluster.lines[1].starts_with("Next: nbdinfo 'nbd+unix:///?socket=/"));
    assert!(cluster.lines[1].contains("sudo mkfs.ext4 /dev/nbd0"));
    assert!(cluster.pids.len() == 3 && cluster.pids.iter().copied().all(is_running));
    until("all is well", || {
        (status(&directory) == Some(0)).then_some(())
    });
    assert_eq!(cluster.stop(), [""; 0]);
    assert_eq!(status(&directory), Some(2));

    let again = Cluster::start(&directory, &[]);
    assert!(again.lines[0].starts_with("1GiB in data on 3 processes"));
    assert!(
        !again.lines[1].contains("mkfs"),
        "a disk with data must not be formatted"
    );
    assert_eq!(again.stop(), [""; 0]);
}

#[test]
fn other_numbers_of_processes_work() {
    for processes in ["1", "2", "5"] {
        let directory = tempfile::tempdir().unwrap();
        let cluster = Cluster::start(&directory, &["--processes", processes, "--size", "8MiB"]);
        assert_eq!(cluster.pids.len().to_string(), processes);
        assert!(cluster.lines[0].starts_with("8MiB in data"));
        cluster.stop();
    }
}

#[test]
fn kill_9_leaves_nothing_behind_and_the_next_start_finds_everything() {
    let directory = tempfile::tempdir().unwrap();
    let mut cluster = Cluster::start(&directory, &[]);
    let before = cluster_file(&directory);
    cluster.dev.signal(Signal::KILL);
    // At once, while the children are still on their way out.
    let again = Cluster::start(&directory, &[]);
    assert!(!cluster.pids.iter().copied().any(is_running));
    cluster.dev.wait();
    let after = cluster_file(&directory);
    assert_eq!(before.id(), after.id());
    assert_eq!(before.processes(), after.processes());
    assert_eq!(again.stop(), [""; 0]);
}

#[test]
fn a_process_that_dies_is_started_again() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&directory, &[]);
    for rank in [1, 2] {
        let pid = cluster.pids[rank - 1];
        signal(pid, Signal::KILL);
        let died = cluster.dev.stderr_line("was killed");
        assert!(died.contains(&format!(
            "process {rank} (pid {pid}) was killed; starting it again"
        )));
        let back = cluster.dev.stderr_line("runs again");
        assert!(
            back.contains(&format!("process {rank} runs again (pid ")),
            "{back}"
        );
        until("all is well", || {
            (status(&directory) == Some(0)).then_some(())
        });
    }
    cluster.stop();
}

#[test]
fn one_directory_has_one_dev() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&directory, &[]);
    let said = refused(&directory, &[]);
    assert!(
        said.contains("waiting for data, which is still in use"),
        "{said}"
    );
    let expected = format!(
        "data is in use by `atdd dev` with pid {}; end",
        cluster.dev.pid()
    );
    assert!(said.contains(&expected), "{said}");
    assert_eq!(status(&directory), Some(0));
    cluster.stop();
}

#[test]
fn a_child_that_does_not_end_keeps_the_directory() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&directory, &[]);
    let path = directory.path().join("data/dev.lock");
    for pid in &cluster.pids {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
        let mut files = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        assert!(
            files.any(|file| file == path),
            "process {pid} keeps the lock"
        );
    }
    cluster.stop();

    // Somebody holds the lock, and the pid in it is of one who is gone.
    let lock = File::open(&path).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let said = refused(&directory, &[]);
    let expected =
        "data is in use by processes of an earlier `atdd dev` that do not end; `fuser -v";
    assert!(said.contains(expected), "{said}");
    drop(lock);
    Cluster::start(&directory, &[]).stop();
}

#[test]
fn a_disk_grows_and_never_shrinks() {
    let directory = tempfile::tempdir().unwrap();
    Cluster::start(&directory, &["--size", "16MiB"]).stop();
    let before = cluster_file(&directory);

    let said = refused(&directory, &["--size", "8MiB"]);
    assert!(said.contains("the disk in data/cluster.toml has 16MiB and cannot shrink to 8MiB"));
    assert!(said.contains("leave --size out"), "{said}");
    assert_eq!(cluster_file(&directory).size(), before.size());

    let grown = Cluster::start(&directory, &["--size", "32MiB"]);
    assert!(grown.lines[0].starts_with("32MiB in data"));
    grown.stop();
    let after = cluster_file(&directory);
    assert_eq!(
        (after.id(), after.processes()),
        (before.id(), before.processes())
    );
    assert_eq!(after.size().to_string(), "32MiB");
    let kept = Cluster::start(&directory, &[]);
    assert!(kept.lines[0].starts_with("32MiB in data"));
    kept.stop();
}

#[test]
fn the_number_of_processes_never_changes() {
    let directory = tempfile::tempdir().unwrap();
    Cluster::start(&directory, &[]).stop();
    let said = refused(&directory, &["--processes", "5"]);
    assert!(
        said.contains("has 3 processes, and their number cannot change to 5; leave"),
        "{said}"
    );
    Cluster::start(&directory, &["--processes", "3"]).stop();
}

#[test]
fn a_port_that_was_taken_meanwhile_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    Cluster::start(&directory, &[]).stop();
    let before = cluster_file(&directory);
    let taken: &HostPort = &before.processes().addresses()[1];
    let other_program = TcpListener::bind(taken.to_string()).unwrap();

    let cluster = Cluster::start(&directory, &[]);
    let said = cluster.dev.stderr_line("another program listens");
    let after = cluster_file(&directory);
    let replaced = &after.processes().addresses()[1];
    assert_ne!(replaced, taken);
    assert!(
        said.contains(&format!("listens on {taken}; process 2 now has {replaced}")),
        "{said}"
    );
    assert_eq!(
        after.processes().addresses()[0],
        before.processes().addresses()[0]
    );
    until("all is well", || {
        (status(&directory) == Some(0)).then_some(())
    });
    cluster.stop();
    drop(other_program);
}

#[test]
fn a_cluster_of_other_machines_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let processes = "10.0.0.1:7000,10.0.0.2:7000,10.0.0.3:7000";
    let made = run(
        directory.path(),
        &["init", "data", "--processes", processes, "--size", "1GiB"],
    );
    assert_eq!(made.code, Some(0));
    let said = refused(&directory, &[]);
    assert!(said.contains("process 1 at 10.0.0.1:7000"), "{said}");
    assert_eq!(
        cluster_file(&directory).processes().addresses()[0].port(),
        7000
    );
}

#[test]
fn data_without_its_cluster_is_not_taken_for_new() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join("data/process-1")).unwrap();
    let said = refused(&directory, &[]);
    assert!(
        said.contains("data holds data but no cluster.toml; bring that file"),
        "{said}"
    );
}

#[test]
fn an_nbd_address_that_is_taken_is_refused_before_anything_starts() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let on_port = run(directory.path(), &["dev", "--nbd", &address]);
    assert_eq!(on_port.code, Some(1));
    let said = format!(
        "nbd://{address} cannot be served: Address already in use (os error 98); end the program \
         that listens there, or"
    );
    assert!(on_port.stderr.contains(&said), "{}", on_port.stderr);
    assert!(!directory.path().join("atdd-data/process-1.log").exists());

    let socket = directory.path().join("disk.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let said = refused(&directory, &[]);
    assert!(
        said.contains("another program serves on disk.sock; end it, or"),
        "{said}"
    );
    drop(listener);
    fs::remove_file(&socket).unwrap();
    fs::write(&socket, "precious").unwrap();
    let said = refused(&directory, &[]);
    assert!(
        said.contains("disk.sock is there already and is no socket"),
        "{said}"
    );
    assert_eq!(fs::read(&socket).unwrap(), b"precious");
}

#[test]
fn a_socket_that_nobody_answers_on_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("disk.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let cluster = Cluster::start(&directory, &[]);
    assert!(UnixStream::connect(&socket).is_ok());
    cluster.stop();
}
