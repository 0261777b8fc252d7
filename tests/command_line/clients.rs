//! The commands that use the disk: `nbd`, `read`, `write`, `attachments` and `bench`.

use std::fs::Permissions;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::nbd_client::NbdClient;
use crate::program::{Finished, Running, command, new_cluster, run, until};
use crate::volume::Processes;

/// Runs a command with the cluster's file.
fn client(file: &Path, arguments: &str) -> Finished {
    run(file.parent().unwrap(), &words(file, arguments))
}

fn words(file: &Path, arguments: &str) -> Vec<String> {
    let (name, rest) = arguments.split_once(' ').unwrap_or((arguments, ""));
    let config = ["--config", file.to_str().unwrap()];
    let words = [name].into_iter().chain(config);
    words
        .chain(rest.split_whitespace())
        .map(str::to_owned)
        .collect()
}

/// Runs `atdd write` with this input.
fn write(file: &Path, arguments: &str, input: &[u8]) -> Finished {
    let mut command = command(file.parent().unwrap(), &words(file, arguments));
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// A gateway, and the URI that it serves.
fn gateway(file: &Path, arguments: &str) -> (Running, String) {
    let arguments = format!("nbd --port 0 {arguments}");
    let running = Running::start(file.parent().unwrap(), &words(file, &arguments));
    let uri = running.stdout_line();
    (running, uri)
}

#[test]
fn what_is_written_is_read_back() {
    let (directory, file) = new_cluster(3);
    let _processes = Processes::serve(&file);
    let image = directory.path().join("image");
    let data: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    std::fs::write(&image, &data).unwrap();
    let written = client(
        &file,
        &format!("write --sector 10 --input {}", image.display()),
    );
    assert_eq!(written.code, Some(0), "{}", written.stderr);
    assert_eq!(
        written.stderr,
        "the last sector is filled up with 2368 bytes of zeroes\n"
    );

    // Sectors 5 to 9 are holes, and there is one more behind.
    let copy = directory.path().join("copy");
    let sectors = data.len().div_ceil(4096) + 6;
    let read = format!(
        "read --sector 5 --count {sectors} --output {}",
        copy.display()
    );
    let read = client(&file, &read);
    assert_eq!(
        (read.code, read.stderr.as_str()),
        (Some(0), ""),
        "{}",
        read.stderr
    );
    let copy = std::fs::read(copy).unwrap();
    assert_eq!(copy.len(), sectors * 4096);
    let (before, rest) = copy.split_at(5 * 4096);
    let (same, after) = rest.split_at(data.len());
    assert!(same == data && before.iter().chain(after).all(|byte| *byte == 0));
}

#[test]
fn pipes_are_read_and_written() {
    let (_directory, file) = new_cluster(1);
    let processes = Processes::serve(&file);
    let written = write(&file, "write --sector 3", b"hello");
    assert_eq!(written.code, Some(0), "{}", written.stderr);
    let read = client(&file, "read --sector 3");
    assert_eq!(read.stdout, format!("hello{}\n", "\0".repeat(4091)));

    let written = write(&file, "write --sector 7 --count 2", &[b'x'; 4 * 4096]);
    assert_eq!(written.code, Some(0), "{}", written.stderr);
    assert_eq!(
        (processes.sector(8), processes.sector(9)),
        (Some(b'x'), None)
    );

    let short = write(&file, "write --sector 7 --count 2", b"y");
    assert_eq!(short.code, Some(1));
    assert!(
        short.stderr.contains("ended after 1 of 2 sectors"),
        "{}",
        short.stderr
    );
    let past = write(&file, "write --sector 262143", &[1; 8192]);
    assert_eq!(past.code, Some(1));
    assert!(
        past.stderr.contains("the input is longer than the disk"),
        "{}",
        past.stderr
    );
    let past = client(&file, "read --sector 262143 --count 2");
    assert_eq!(past.code, Some(1));
    assert!(
        past.stderr.contains("of a disk of 262144"),
        "{}",
        past.stderr
    );
}

/// An empty input and a long write both ended without a word.
#[test]
fn a_write_says_what_it_did_where_that_is_not_plain() {
    let (directory, file) = new_cluster(1);
    let _processes = Processes::serve(&file);
    let nothing = write(&file, "write --sector 3", b"");
    assert_eq!((nothing.code, nothing.stdout.as_str()), (Some(0), ""));
    let said = "nothing was written, since the input is empty\n";
    assert_eq!(nothing.stderr, said);
    let nothing = write(&file, "write --sector 3 --count 1", b"");
    assert_eq!(nothing.code, Some(1));
    assert!(nothing.stderr.ends_with(said), "{}", nothing.stderr);

    let mut long = Running::start(directory.path(), &words(&file, "write --sector 3"));
    long.write_stdin(&[1; 4096]);
    std::thread::sleep(Duration::from_millis(1100));
    long.write_stdin(&[2; 4096]);
    long.close_stdin();
    let said = long.stderr_line(" written in ");
    assert!(said.starts_with("8 KiB written in 1."), "{said}");
    assert!(said.ends_with(" KiB/s"), "{said}");
    assert_eq!(long.wait().code(), Some(0));
}

#[test]
fn a_gateway_serves_goes_on_and_gives_back() {
    let (_directory, file) = new_cluster(3);
    let processes = Processes::serve(&file);
    let (gateway, uri) = gateway(&file, "");
    assert_eq!(processes.attachments(), 0, "nobody uses it yet");
    let mut disk = NbdClient::connect(&uri).unwrap();
    assert_eq!(disk.size, 1 << 30);
    disk.write(4096, &[5; 8192]).unwrap();
    assert_eq!(processes.attachments(), 1);

    let killed_at = Instant::now();
    processes.kill_holder();
    disk.write(4097, &[6; 10]).unwrap();
    assert!(killed_at.elapsed() < Duration::from_secs(2));
    let mut expected = vec![5; 8192];
    expected[1..11].fill(6);
    assert_eq!(disk.read(4096, 8192).unwrap(), expected);
    gateway.stderr_line("the disk goes on through this process");

    drop(disk);
    until("it is given back", || {
        (processes.attachments() == 0).then_some(())
    });
    let _again = NbdClient::connect(&uri).unwrap();
    assert_eq!(processes.attachments(), 1);
    gateway.stop();
    until("it is given back", || {
        (processes.attachments() == 0).then_some(())
    });
}

#[test]
fn whoever_comes_second_is_refused_unless_he_takes_over() {
    let (_directory, file) = new_cluster(3);
    let processes = Processes::serve(&file);
    let (first, uri) = gateway(&file, "");
    let mut disk = NbdClient::connect(&uri).unwrap();

    let refused = write(&file, "write --sector 0", b"mine");
    assert_eq!(refused.code, Some(1));
    for said in [
        "the disk is held by 127.0.0.1:",
        "since 2025-10-09 08:53:20 UTC",
        "or take it over with --take-over",
    ] {
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
    let times = refused.stderr.matches("is held by").count();
    assert_eq!(times, 1, "it is said once: {}", refused.stderr);
    let (second, second_uri) = gateway(&file, "");
    assert!(NbdClient::connect(&second_uri).is_err());
    second.stderr_line("the disk is held by 127.0.0.1:");
    let read = client(&file, "read --sector 0");
    assert_eq!(read.code, Some(0), "reading disturbs nobody");

    let written = write(&file, "write --sector 0 --take-over", b"mine");
    assert_eq!(written.code, Some(0), "{}", written.stderr);
    assert!(disk.closed(), "it has lost the disk");
    first.stderr_line("another attachment has taken the disk over: owner ");
    assert_eq!(processes.sector(0), Some(b'm'));
    assert!(NbdClient::connect(&uri).is_err(), "it has writes of before");
    first.stderr_line("start the gateway again");
    first.stop();
    let (first, uri) = gateway(&file, "");
    let mut again = NbdClient::connect(&uri).unwrap();
    assert_eq!(again.read(0, 4).unwrap(), b"mine");
    first.stop();
    second.stop();
}

#[test]
fn gateways_of_one_name_share_the_disk() {
    let (_directory, file) = new_cluster(3);
    let processes = Processes::serve(&file);
    let secret = file.with_file_name("client.key");
    let (first, first_uri) = gateway(&file, "--join disk");
    let joined = format!("--join disk --join-secret {}", secret.display());
    let (second, second_uri) = gateway(&file, &joined);
    let mut disk = NbdClient::connect(&first_uri).unwrap();
    let mut same = NbdClient::connect(&second_uri).unwrap();
    disk.write(0, b"both").unwrap();
    assert_eq!(same.read(0, 4).unwrap(), b"both");
    assert_eq!(processes.attachments(), 2);
    let refused = write(&file, "write --sector 0", b"mine");
    assert_eq!(refused.code, Some(1));
    first.stop();
    second.stop();
}

#[test]
fn a_gateway_that_ends_gives_the_disk_back_first() {
    for with in [Signal::TERM, Signal::INT] {
        let (_directory, file) = new_cluster(1);
        let processes = Processes::serve(&file);
        let (mut gateway, uri) = gateway(&file, "--read-only");
        let mut disk = NbdClient::connect(&uri).unwrap();
        assert!(disk.write(0, &[1; 4096]).is_err());
        gateway.signal(with);
        assert_eq!(gateway.wait().code(), Some(0));
        assert_eq!(processes.attachments(), 0);
    }
}

#[test]
fn attachments_are_listed_and_released() {
    let (_directory, file) = new_cluster(3);
    let processes = Processes::serve(&file);
    let nobody = client(&file, "attachments");
    assert_eq!(
        (nobody.code, nobody.stdout.as_str()),
        (Some(0), "nobody uses the disk\n")
    );
    let (gateway, uri) = gateway(&file, "");
    let mut disk = NbdClient::connect(&uri).unwrap();
    let listed = client(&file, "attachments");
    assert_eq!(listed.stdout.lines().count(), 2, "{}", listed.stdout);
    assert!(
        listed.stdout.contains("exclusive  127.0.0.1:"),
        "{}",
        listed.stdout
    );

    let json: serde_json::Value =
        serde_json::from_str(&client(&file, "attachments --json").stdout).unwrap();
    let processes_listed = json["processes"].as_array().unwrap();
    let owner = processes_listed
        .iter()
        .find_map(|process| process["attachments"][0]["owner"].as_str())
        .unwrap();
    let released = client(&file, &format!("attachments --release {owner}"));
    assert_eq!(released.code, Some(0), "{}", released.stderr);
    assert!(disk.closed());
    let attached = gateway.stderr_line("attached the disk");
    assert!(
        attached.contains(&format!("owner={owner} process=")),
        "{attached}"
    );
    gateway.stderr_line("or an operator has released it");
    until("it is gone", || {
        (processes.attachments() == 0).then_some(())
    });
    let again = client(&file, &format!("attachments --release {owner}"));
    assert_eq!(again.code, Some(1));
    assert!(
        again.stderr.contains("nobody is attached as"),
        "{}",
        again.stderr
    );
    gateway.stop();
    drop(processes);
    let down = client(&file, "attachments");
    assert_eq!(down.code, Some(1));
    assert!(
        down.stdout
            .contains("incomplete: process 1 does not answer"),
        "{}",
        down.stdout
    );
}

#[test]
fn a_benchmark_overwrites_only_what_it_may() {
    let (_directory, file) = new_cluster(1);
    let processes = Processes::serve(&file);
    let refused = client(&file, "bench --read 0 --duration 1");
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("say so with --yes"),
        "{}",
        refused.stderr
    );

    let read = client(&file, "bench --duration 1 --depth 4");
    assert_eq!(read.code, Some(0), "{}", read.stderr);
    assert!(read.stdout.contains("latency of a read"), "{}", read.stdout);
    assert_eq!(processes.sector(0), None);

    let mixed = "bench --read 50 --yes --duration 1 --block-size 8KiB --sequential --json";
    let mixed = client(&file, mixed);
    assert_eq!(mixed.code, Some(0), "{}", mixed.stderr);
    let json: serde_json::Value = serde_json::from_str(&mixed.stdout).unwrap();
    assert_eq!(json["block_bytes"], 8192);
    for kind in ["reads", "writes"] {
        assert!(json[kind]["count"].as_u64().unwrap() > 0, "{json}");
        assert!(
            json[kind]["latency_us"]["p99"].as_u64().unwrap() > 0,
            "{json}"
        );
    }
    assert_eq!(processes.attachments(), 0);
}

/// They said that they wait, and not where to look.
#[test]
fn whoever_waits_names_the_command_that_says_for_what() {
    let (_directory, file) = new_cluster(3);
    for waits in ["read --sector 0", "write --sector 0", "bench"] {
        let running = Running::start(file.parent().unwrap(), &words(&file, waits));
        let said = running.stderr_line("the disk waits for processes to answer");
        assert!(
            said.contains("; `atdd status --config …` says how"),
            "{said}"
        );
    }
}

/// A path where nobody may write was answered with advice about ports, a secret with none at all,
/// and what was wrong with a port came after what to do.
#[test]
fn a_gateway_that_cannot_start_says_what_is_wrong_and_then_what_to_do() {
    let (directory, file) = new_cluster(1);
    let socket = client(&file, "nbd --unix /sys/disk.sock");
    assert_eq!(socket.code, Some(1), "{}", socket.stderr);
    assert!(
        socket
            .stderr
            .contains("not permitted to make the socket /sys/disk.sock: choose a dir")
            && !socket.stderr.contains("port"),
        "{}",
        socket.stderr
    );

    let secret = directory.path().join("secret");
    let arguments = format!(
        "nbd --port 0 --join disk --join-secret {}",
        secret.display()
    );
    let missing = client(&file, &arguments);
    assert!(
        missing.stderr.contains("cannot be read: No such file")
            && missing
                .stderr
                .contains("; name a file of this user with 64 hex digits"),
        "{}",
        missing.stderr
    );
    std::fs::write(&secret, "ab".repeat(32)).unwrap();
    std::fs::set_permissions(&secret, Permissions::from_mode(0o644)).unwrap();
    let open = client(&file, &arguments);
    let advice = format!("; run: chmod 600 {}\n", secret.display());
    assert!(open.stderr.ends_with(&advice), "{}", open.stderr);

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let taken = client(&file, &format!("nbd --port {port}"));
    let said = "cannot be served: Address already in use (os error 98); end the program";
    assert!(taken.stderr.contains(said), "{}", taken.stderr);
}

#[test]
fn a_client_of_another_cluster_is_told_so() {
    let (_directory, file) = new_cluster(1);
    let _processes = Processes::serve(&file);
    let text = std::fs::read_to_string(&file).unwrap();
    let key = file.with_file_name("client.key");
    let digits = std::fs::read_to_string(&key).unwrap();
    let other: String = digits.trim().chars().rev().collect();
    std::fs::write(&key, other).unwrap();
    let refused = client(&file, "read --sector 0");
    assert_eq!(refused.code, Some(1), "{text}");
    assert!(
        refused.stderr.contains("does not let this client in")
            && refused.stderr.contains("client key"),
        "{}",
        refused.stderr
    );
    let advice = "give both ends the client.key of the same cluster\n";
    assert!(refused.stderr.ends_with(advice), "{}", refused.stderr);
    assert_eq!(refused.stderr.matches("client key").count(), 1);
}
