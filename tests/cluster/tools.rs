//! Stock programs on the NBD export, while processes die.
//!
//! A program that is not installed skips its test, and says so; with `ATDD_REQUIRE_TOOLS=1`, as in
//! `.ci/run`, that is a failure.

use std::fs::File;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::limits::memory_kib;
use crate::machine::{Machine, spawn};

#[test]
fn nbdinfo_lists_the_export() {
    if !installed("nbdinfo") {
        return;
    }
    let machine = Machine::running(3, "64MiB");
    let listed = run(Command::new("nbdinfo").arg("--list").arg(machine.nbd_uri()));
    assert!(listed.contains("67108864"), "{listed}");
    assert!(
        listed.contains("can_flush: true") && listed.contains("can_fua: true"),
        "{listed}"
    );
}

#[test]
fn nbdcopy_copies_in_and_out() {
    if !installed("nbdcopy") {
        return;
    }
    let mut machine = Machine::running(3, "64MiB");
    let (original, copy) = (machine.path().join("original"), machine.path().join("copy"));
    let bytes: Vec<u8> = (0..64_u32 << 18)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect();
    std::fs::write(&original, &bytes).unwrap();
    run(Command::new("nbdcopy")
        .arg(&original)
        .arg(machine.nbd_uri()));
    machine.kill_all();
    machine.start_all();
    machine.wait_for_status(0);
    run(Command::new("nbdcopy").arg(machine.nbd_uri()).arg(&copy));
    assert!(std::fs::read(&copy).unwrap() == bytes, "the copy differs");
}

#[test]
fn qemu_io_patterns_hold_at_any_alignment() {
    if !installed("qemu-io") {
        return;
    }
    let machine = Machine::running(3, "64MiB");
    let commands = [
        "write -P 1 0 1M",
        "write -P 2 512 512",
        "write -P 3 5000 10000",
        "read -P 1 0 512",
        "read -P 2 512 512",
        "read -P 1 1024 3976",
        "read -P 3 5000 10000",
        "read -P 1 15000 1000000",
        "write -z 4096 8192",
        "read -P 0 4096 8192",
        "discard 65536 65536",
        "read -P 0 65536 65536",
        "write -f -P 4 1048064 1024",
        "read -P 4 1048064 1024",
        "flush",
        "read -P 0 32M 1M",
    ];
    let mut qemu_io = Command::new("qemu-io");
    qemu_io.args(["-f", "raw"]);
    for command in commands {
        qemu_io.args(["-c", command]);
    }
    let said = run(qemu_io.arg(machine.nbd_uri()));
    assert!(!said.contains("failed"), "{said}");
}

#[test]
fn a_trim_of_a_whole_fresh_terabyte_stores_nothing() {
    if !installed("nbdsh") {
        return;
    }
    let machine = Machine::running(3, "1TiB");
    let before = disk_usage_kib(&machine.data(1));
    let trim = "
step = (1 << 32) - (1 << 20)
for offset in range(0, h.get_size(), step):
    h.trim(min(step, h.get_size() - offset), offset)
assert h.pread(4096, h.get_size() - 4096) == bytearray(4096)
";
    // A Python that is found earlier may lack the module that Debian's has.
    let path = format!("/usr/bin:{}", std::env::var("PATH").unwrap());
    run(Command::new("nbdsh")
        .env("PATH", path)
        .arg("-u")
        .arg(machine.nbd_uri())
        .args(["-c", trim]));
    for rank in 1..=3 {
        let peak = memory_kib(&machine, rank, "VmHWM:");
        assert!(peak < 64 * 1024, "process {rank} took {peak} KiB");
        let usage = disk_usage_kib(&machine.data(rank));
        assert!(
            usage < before + 1024,
            "process {rank} stores {usage} KiB, {before} before"
        );
    }
}

#[test]
fn fio_verifies_while_the_other_processes_are_killed_in_turn() {
    if !installed("fio") {
        return;
    }
    let mut machine = Machine::running(3, "64MiB");
    let connections = ["--numjobs=4", "--size=12m", "--offset_increment=12m"];
    let others = ["--randrepeat=0", "--group_reporting"];
    let arguments = [&connections[..], &others].concat();
    let mut fio = Fio::start(&machine, &machine.nbd_uri(), &arguments);
    fio.verifies_while_killed_in_turn(&mut machine, 2..=3);
    fio.end(&machine.log(1));
}

/// fio with random writes at depth 32, which reads back and compares what it has written all the
/// time, until it is told to end. Killed when it is dropped.
pub(crate) struct Fio {
    child: Child,
    log: PathBuf,
    report: PathBuf,
}

/// How many blocks a job writes until it reads them back.
const BACKLOG: u64 = 1024;

/// What fio exits with when it was told to end.
const TOLD_TO_END: i32 = 128;

/// For so long each process is away, and there are all of them before each is.
const BETWEEN_KILLS: Duration = Duration::from_millis(800);

impl Fio {
    pub(crate) fn start(machine: &Machine, uri: &str, arguments: &[&str]) -> Self {
        let log = machine.path().join("fio.log");
        let report = machine.path().join("fio.json");
        let mut fio = Command::new("fio");
        fio.args(["--name=verify", "--ioengine=nbd", "--rw=randwrite"])
            .args(["--bs=4k", "--iodepth=32"])
            .args(["--time_based", "--runtime=1h"])
            .args(["--verify=crc32c", "--verify_fatal=1"])
            .arg(format!("--verify_backlog={BACKLOG}"))
            .arg("--output-format=json")
            .arg(format!("--output={}", report.display()))
            .args(arguments)
            .arg(format!("--uri={uri}"))
            .current_dir(machine.path());
        let child = spawn(&mut fio, File::create(&log).unwrap());
        Self { child, log, report }
    }

    /// Kills these processes and starts them again, one after another, while it writes and verifies.
    pub(crate) fn verifies_while_killed_in_turn(
        &mut self,
        machine: &mut Machine,
        ranks: RangeInclusive<usize>,
    ) {
        for rank in ranks {
            std::thread::sleep(BETWEEN_KILLS);
            self.assert_runs();
            machine.kill(rank);
            std::thread::sleep(BETWEEN_KILLS);
            machine.start(rank, &[]);
            machine.wait_for_status(0);
        }
        std::thread::sleep(BETWEEN_KILLS);
        self.assert_runs();
    }

    /// Tells it to end, asserts that it has verified and saw no error, and gives the longest time
    /// that a request has taken.
    pub(crate) fn end(mut self, server_log: &str) -> Duration {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        let ended = self.child.wait().unwrap();
        let said = self.said();
        assert_eq!(ended.code(), Some(TOLD_TO_END), "{said}\n{server_log}");
        // Its report begins with what it says of the signal.
        let json = &said[said.find('{').expect("it reports")..];
        let json = json.rsplit_once('}').expect("the report has an end").0;
        let report: Value = serde_json::from_str(&format!("{json}}}")).unwrap();
        let job = &report["jobs"][0];
        assert_eq!(job["error"], 0, "{said}\n{server_log}");
        let verified = job["read"]["total_ios"].as_u64().unwrap();
        assert!(verified >= BACKLOG, "{verified} blocks were verified");
        let longest = ["read", "write"].map(|way| job[way]["lat_ns"]["max"].as_u64().unwrap());
        Duration::from_nanos(longest.into_iter().max().unwrap_or_default())
    }

    #[track_caller]
    fn assert_runs(&mut self) {
        let ended = self.child.try_wait().unwrap();
        assert!(ended.is_none(), "it has ended: {ended:?}\n{}", self.said());
    }

    fn said(&self) -> String {
        let report = std::fs::read_to_string(&self.report).unwrap_or_default();
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        format!("{report}\n{log}")
    }
}

impl Drop for Fio {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn disk_usage_kib(directory: &Path) -> u64 {
    let said = run(Command::new("du").arg("-sk").arg(directory));
    said.split_whitespace().next().unwrap().parse().unwrap()
}

fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(output.status.success(), "{command:?} failed: {text}");
    text
}

pub(crate) fn installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|directory| directory.join(program).is_file());
    if !found {
        let required = std::env::var_os("ATDD_REQUIRE_TOOLS").is_some_and(|value| value == "1");
        assert!(
            !required,
            "{program} is not installed, and no test may be skipped here"
        );
        eprintln!("skipped: {program} is not installed");
    }
    found
}
