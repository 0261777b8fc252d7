//! Stock programs on the NBD export, while processes die.
//!
//! A program that is not installed skips its test, and says so; with `ATDD_REQUIRE_TOOLS=1`, as in
//! `.ci/run`, that is a failure.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

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
    let others = ["--randrepeat=0", "--group_reporting", "--runtime=60"];
    let arguments = [&connections[..], &others].concat();
    let fio = fio(&machine, &machine.nbd_uri(), &arguments);
    for rank in [2, 3] {
        std::thread::sleep(Duration::from_secs(1));
        machine.kill(rank);
        std::thread::sleep(Duration::from_secs(1));
        machine.start(rank, &[]);
        machine.wait_for_status(0);
    }
    assert_verified(fio, &machine, &machine.log(1));
}

/// Random writes at depth 32, read back and compared; it says what it saw in `fio.log`.
pub(crate) fn fio(machine: &Machine, uri: &str, arguments: &[&str]) -> Child {
    let log = File::create(machine.path().join("fio.log")).unwrap();
    let mut fio = Command::new("fio");
    fio.args(["--name=verify", "--ioengine=nbd", "--rw=randwrite"])
        .args(["--bs=4k", "--iodepth=32"])
        .args(["--verify=crc32c", "--verify_fatal=1"])
        .args(arguments)
        .arg(format!("--uri={uri}"))
        .current_dir(machine.path());
    spawn(&mut fio, log)
}

/// Asserts that it saw no error.
pub(crate) fn assert_verified(mut fio: Child, machine: &Machine, server_log: &str) {
    let ended = fio.wait().unwrap();
    let output = std::fs::read_to_string(machine.path().join("fio.log")).unwrap();
    assert!(ended.success(), "{output}\n{server_log}");
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
