//! The tools that people use. A test is skipped where its tool is missing, unless
//! `ATDD_REQUIRE_TOOLS=1` says that none may be.

use std::process::{Command, Output};

use nbd_frontend::memory::MemoryDevice;
use nbd_frontend::{Address, Options};

use crate::client::pattern;
use crate::desk::{Answer, Desk};
use crate::served::{Served, options, serve_device, serve_export};

/// A server on a unix socket in a directory of its own.
struct OnSocket {
    served: Served,
    directory: tempfile::TempDir,
}

fn serve() -> OnSocket {
    let directory = tempfile::tempdir().unwrap();
    let address = Address::Unix(directory.path().join("socket"));
    let options = Options {
        description: "tools try it".to_owned(),
        ..options()
    };
    let served = serve_device(MemoryDevice::new((256 << 20) / 4096), options, &address, 2);
    OnSocket { served, directory }
}

impl OnSocket {
    fn uri(&self) -> &str {
        &self.served.uri
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }
}

/// Whether a program can be started; says so when it cannot.
fn has(program: &str, probe: &[&str]) -> bool {
    let found = command(program)
        .args(probe)
        .output()
        .is_ok_and(|output| output.status.success());
    if !found {
        let required = std::env::var_os("ATDD_REQUIRE_TOOLS").is_some_and(|value| value == "1");
        assert!(
            !required,
            "{program} is not installed, and ATDD_REQUIRE_TOOLS=1 asks for it"
        );
        eprintln!("skipped: {program} is not installed");
    }
    found
}

/// A command that finds the system's Python first: its libnbd is a package of the distribution.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("/usr/bin:{path}"));
    command
}

fn run(command: &mut Command) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let (stdout, stderr) = (
        String::from_utf8_lossy(&stdout),
        String::from_utf8_lossy(&stderr),
    );
    assert!(
        status.success(),
        "{command:?}: {status}\n{stdout}\n{stderr}"
    );
    stdout.into_owned()
}

#[test]
fn nbdinfo_shows_the_export() {
    if !has("nbdinfo", &["--version"]) {
        return;
    }
    let server = serve();
    let shown = run(command("nbdinfo").args(["--list", server.uri()]));
    for line in [
        "protocol: newstyle-fixed without TLS, using structured packets",
        "export=\"\":",
        "description: tools try it",
        "export-size: 268435456 (256M)",
        "can_df: true",
        "can_fast_zero: true",
        "can_flush: true",
        "can_fua: true",
        "can_multi_conn: true",
        "can_trim: true",
        "can_zero: true",
        "block_size_minimum: 1",
        "block_size_preferred: 4096",
        "block_size_maximum: 33554432",
    ] {
        assert!(shown.contains(line), "no {line:?} in\n{shown}");
    }
}

#[test]
fn who_cannot_have_the_export_reads_why_and_may_still_look_at_it() {
    let why = "host 1 has it";
    let server = serve_export(Desk::new(Answer::Unavailable(why.to_owned())), options());
    for (program, arguments) in [
        ("nbdinfo", &["--size"][..]),
        ("qemu-io", &["-f", "raw", "-c", "read 0 4096"]),
    ] {
        if !has(program, &["--version"]) {
            continue;
        }
        // libnbd says that it is the server's policy, and the server's words when it debugs.
        let tried = command(program)
            .env("LIBNBD_DEBUG", "1")
            .args(arguments)
            .arg(&server.uri)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&tried.stderr);
        assert!(!tried.status.success(), "{program} has it: {said}");
        assert!(said.contains(why), "{program} says {said}");
    }
    if has("nbdinfo", &["--version"]) {
        let shown = run(command("nbdinfo").args(["--list", &server.uri]));
        assert!(shown.contains("export-size: "), "{shown}");
    }
    assert_eq!(server.device.opened(), 0);
}

#[test]
fn nbdcopy_copies_in_and_out() {
    if !has("nbdcopy", &["--version"]) {
        return;
    }
    let server = serve();
    let (original, copy) = (server.path("original"), server.path("copy"));
    let mut data = pattern(1, 256 << 20);
    data[10 << 20..90 << 20].fill(0);
    std::fs::write(&original, &data).unwrap();
    run(command("nbdcopy").args([original.as_os_str(), server.uri().as_ref()]));
    assert!(
        server.served.device.sectors_stored() < 50_000,
        "zeroes took space"
    );
    run(command("nbdcopy").args([server.uri().as_ref(), copy.as_os_str()]));
    assert!(std::fs::read(&copy).unwrap() == data);
}

#[test]
fn qemu_io_finds_its_patterns() {
    if !has("qemu-io", &["--version"]) {
        return;
    }
    let server = serve();
    run(command("qemu-io").args(["-f", "raw", server.uri()]).args([
        "-c",
        "write -P 1 0 1M",
        "-c",
        "write -P 2 -f 4097 511",
        "-c",
        "aio_write -P 3 2M 8M",
        "-c",
        "aio_flush",
        "-c",
        "write -z 65536 5000",
        "-c",
        "write -z -u 128k 64k",
        "-c",
        "discard 256k 64k",
        "-c",
        "flush",
        "-c",
        "read -P 1 0 4097",
        "-c",
        "read -P 2 4097 511",
        "-c",
        "read -P 1 4608 60928",
        "-c",
        "read -P 0 65536 5000",
        "-c",
        "read -P 1 70536 60536",
        "-c",
        "read -P 0 128k 64k",
        "-c",
        "read -P 0 256k 64k",
        "-c",
        "read -P 3 2M 8M",
        "-c",
        "read -P 0 10M 32M",
    ]));
}

const NBDSH: &str = r"
import errno
h.connect_uri(uri)
assert h.get_size() == 256 << 20
assert h.get_structured_replies_negotiated()
data = bytes(range(256)) * 100
h.pwrite(data, 12345, nbd.CMD_FLAG_FUA)
assert h.pread(len(data), 12345) == data
h.zero(1000, 13000, nbd.CMD_FLAG_NO_HOLE)
h.zero(4096, 8192, nbd.CMD_FLAG_FAST_ZERO)
h.trim(4096, 16384)
h.cache(4096, 0)
h.flush()
expected = bytearray(40960)
expected[12345:12345 + len(data)] = data
expected[13000:14000] = bytes(1000)
expected[8192:12288] = bytes(4096)
expected[16384:20480] = bytes(4096)
assert h.pread(40960, 0) == expected
chunks = []
def chunk(part, offset, kind, error):
    chunks.append((offset, len(part), kind))
h.pread_structured(40960, 0, chunk)
assert [c[2] for c in chunks] == [nbd.READ_HOLE, nbd.READ_DATA, nbd.READ_HOLE, nbd.READ_DATA], chunks
chunks.clear()
h.pread_structured(40960, 0, chunk, nbd.CMD_FLAG_DF)
assert chunks == [(0, 40960, nbd.READ_DATA)], chunks
h.set_strict_mode(0)
for attempt, number in [
    (lambda: h.pwrite(b'x' * 4096, 256 << 20), errno.ENOSPC),
    (lambda: h.pread(4096, 256 << 20), errno.EINVAL),
    (lambda: h.trim(4096, 256 << 20), errno.EINVAL),
    (lambda: h.zero(4096, 0, nbd.CMD_FLAG_FAST_ZERO | nbd.CMD_FLAG_NO_HOLE), errno.ENOTSUP),
]:
    try:
        attempt()
        assert False, number
    except nbd.Error as e:
        assert e.errnum == number, (e.errnum, number)
# Many at once, of which the first is answered whenever it is.
for i in range(500):
    h.aio_pwrite(nbd.Buffer.from_bytearray(bytearray([i % 251]) * 4096), i * 4096)
while h.aio_in_flight() > 0:
    h.poll(-1)
for i in range(500):
    assert h.pread(4096, i * 4096) == bytes([i % 251]) * 4096
h.shutdown()
";

#[test]
fn libnbd_agrees_in_every_detail() {
    if !has("nbdsh", &["-c", "pass"]) {
        return;
    }
    let server = serve();
    let script = format!("uri = {:?}\n{NBDSH}", server.uri());
    run(command("nbdsh").args(["-c", &script]));
}

#[test]
fn fio_verifies_random_writes_at_depth() {
    if !has("fio", &["--enghelp=nbd"]) {
        return;
    }
    let server = serve();
    let fio = |arguments: &[&str]| {
        let mut command = command("fio");
        command.current_dir(server.directory.path()).args([
            "--name=verify",
            "--ioengine=nbd",
            &format!("--uri={}", server.uri()),
            "--rw=randwrite",
            "--size=8m",
            "--numjobs=4",
            "--offset_increment=8m",
            "--iodepth=32",
            "--verify=crc32c",
            "--verify_fatal=1",
        ]);
        run(command.args(arguments));
    };
    fio(&["--bs=4k"]);
    // Blocks whose edges share sectors, between jobs too.
    fio(&["--bs=3584", "--offset=512"]);
}
