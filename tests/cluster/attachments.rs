//! Who may use the disk while somebody else does.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use atdd::wire::ClientCommand;
use rustix::process::Signal;
use serde_json::Value;

use crate::classic::{Client, sector_of};
use crate::machine::{Machine, PATIENCE};
use crate::nbd::NbdClient;

/// A cluster of three that serves, each process with an NBD socket of its own.
pub(crate) fn with_exports() -> (Machine, [PathBuf; 3]) {
    let mut machine = Machine::new(3, "1MiB");
    let sockets = [2, 3].map(|rank| machine.path().join(format!("nbd-{rank}.sock")));
    machine.start(1, &[]);
    for (rank, socket) in (2..).zip(&sockets) {
        start_with_export(&mut machine, rank, socket);
    }
    machine.wait_for_status(0);
    let first = machine.nbd_socket();
    let [second, third] = sockets;
    (machine, [first, second, third])
}

fn start_with_export(machine: &mut Machine, rank: usize, socket: &std::path::Path) {
    machine.start(rank, &["--nbd", &format!("unix:{}", socket.display())]);
}

/// Who holds the disk is told from process to process; it takes a moment.
pub(crate) fn heard_of() {
    std::thread::sleep(Duration::from_millis(300));
}

pub(crate) fn until(what: &str, mut met: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !met() {
        assert!(Instant::now() < deadline, "{what} does not come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The kinds of what every process runs, in order.
pub(crate) fn kinds(machine: &Machine) -> Vec<Vec<String>> {
    let listed = machine.command("attachments", &["--json"], &[]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let processes = listed["processes"].as_array().unwrap().iter();
    let kinds = processes.map(|process| {
        let attachments = process["attachments"].as_array().unwrap().iter();
        let kind = |attachment: &Value| attachment["kind"].as_str().unwrap().to_owned();
        let mut kinds: Vec<_> = attachments.map(kind).collect();
        kinds.sort();
        kinds
    });
    kinds.collect()
}

/// The process that runs what there is.
pub(crate) fn coordinator(machine: &Machine) -> usize {
    let listed = kinds(machine);
    let coordinates = listed.iter().position(|kinds| !kinds.is_empty());
    1 + coordinates.expect("it is attached")
}

#[test]
fn the_second_export_is_refused_until_the_last_client_of_the_first_has_left() {
    let (machine, exports) = with_exports();
    let mut first = NbdClient::open(&exports[0]).unwrap();
    let mut beside = NbdClient::open(&exports[0]).unwrap();
    first.write(1, 1);
    beside.write(2, 2);
    heard_of();
    for export in &exports[1..] {
        let Err(refusal) = NbdClient::open(export) else {
            panic!("the disk is held");
        };
        let expected = format!(
            "the disk is held by NBD at {} through process 1",
            machine.nbd_uri()
        );
        assert!(refusal.contains(&expected), "{refusal}");
    }
    first.goodbye();
    heard_of();
    assert!(NbdClient::open(&exports[1]).is_err(), "one is left");
    beside.goodbye();
    let mut second = NbdClient::open_in_time(&exports[1]);
    assert_eq!((second.read(1), second.read(2)), (1, 2));
    second.write(1, 3);
    heard_of();
    assert!(NbdClient::open(&exports[0]).is_err());
}

/// It called a process healthy whose NBD server lets nobody in.
#[test]
fn the_status_tells_which_exports_let_nobody_in() {
    let (machine, exports) = with_exports();
    let mut first = NbdClient::open(&exports[0]).unwrap();
    first.write(1, 1);
    let (code, status) = machine.status();
    assert_eq!(code, 0, "one of several is in use, as is usual: {status:#}");
    let holder = format!("NBD at {} through process 1", machine.nbd_uri());
    let holder: String = holder.chars().take(20).collect();
    for place in [1, 2] {
        let by = status["processes"][place]["nbd_held_by"].as_str().unwrap();
        assert!(by.starts_with(&holder), "{by}");
    }
    assert!(
        status["processes"][0]["nbd_held_by"].is_null(),
        "{status:#}"
    );

    let taken = machine.command("write", &["--sector", "1", "--take-over"], b"mine");
    assert!(taken.status.success(), "{taken:?}");
    drop(first);
    let (code, status) = machine.status();
    assert_eq!(code, 1, "{status:#}");
    let reasons = status["reasons"].as_array().unwrap();
    assert_eq!(reasons.len(), 1, "{status:#}");
    let reason = reasons[0].as_str().unwrap();
    assert!(
        reason.contains("the NBD server of process 1 lets nobody in")
            && reason.contains("start the process again"),
        "{reason}"
    );
    assert!(NbdClient::open(&exports[0]).is_err());
}

#[test]
fn classic_clients_are_closed_while_somebody_holds_the_disk_and_served_again_after() {
    let (machine, exports) = with_exports();
    Client::to(&machine, 2).write(1, sector_of(1));
    let mut before = Client::to(&machine, 2);
    assert_eq!(before.read(1), sector_of(1));
    let mut holder = NbdClient::open(&exports[0]).unwrap();
    assert_eq!(holder.read(1), 1);
    holder.write(1, 2);
    heard_of();
    for rank in 1..=3 {
        let mut client = Client::to(&machine, rank);
        client.send(1, ClientCommand::Write(sector_of(9)));
        assert!(client.receive().is_none(), "process {rank} does not answer");
    }
    before.send(1, ClientCommand::Read);
    assert!(before.receive().is_none(), "nor over an old connection");
    let said = machine.log(2);
    assert!(said.contains("the disk is held by NBD at"), "{said}");
    assert_eq!(holder.read(1), 2);
    drop(holder);
    until("the end of it", || {
        let mut client = Client::to(&machine, 3);
        client.send(1, ClientCommand::Read);
        client
            .receive()
            .is_some_and(|response| response.content == sector_of(2))
    });
    Client::to(&machine, 1).write(1, sector_of(4));
    assert_eq!(Client::to(&machine, 2).read(1), sector_of(4));
}

#[test]
fn every_attachment_raises_the_generation_and_no_restart_forgets_it() {
    let (mut machine, exports) = with_exports();
    assert_eq!(machine.generations(), [0, 0, 0]);
    for generation in 1..=3 {
        let mut client = NbdClient::open_in_time(&exports[0]);
        client.write(1, 1);
        client.goodbye();
        until("the generation", || {
            machine.generations() == [generation; 3]
        });
    }
    machine.kill_all();
    machine.start(1, &[]);
    machine.start(2, &[]);
    machine.start(3, &[]);
    machine.wait_for_status(0);
    assert_eq!(machine.generations(), [3, 3, 3]);
    let mut client = NbdClient::open(&exports[0]).unwrap();
    assert_eq!(client.read(1), 1);
    until("the generation", || machine.generations() == [4; 3]);
}

#[test]
fn a_disk_whose_process_died_is_taken_by_the_next_who_asks() {
    let (mut machine, exports) = with_exports();
    let mut first = NbdClient::open(&exports[0]).unwrap();
    first.write(1, 1);
    heard_of();
    machine.kill(1);
    let mut second = NbdClient::open_in_time(&exports[1]);
    assert_eq!(second.read(1), 1);
    second.write(1, 2);
    until("the sweep", || {
        let log = machine.log(2);
        log.contains("settled the whole disk under generation 2")
    });
    machine.start(1, &[]);
    machine.wait_for_status(0);
    heard_of();
    assert!(
        NbdClient::open(&exports[0]).is_err(),
        "it is held elsewhere"
    );
    drop(second);
    assert_eq!(NbdClient::open_in_time(&exports[0]).read(1), 2);
}

/// A host writes through one process and hears nothing, since that is paused; it goes on through
/// another. When the first one wakes it must not put the old value on top of the newer one.
#[test]
fn a_write_of_a_process_that_slept_through_its_end_does_nothing() {
    let (machine, exports) = with_exports();
    let mut first = NbdClient::open(&exports[0]).unwrap();
    first.write(1, 1);
    machine.signal(1, Signal::STOP);
    first.send_write(1, 2);
    let mut second = NbdClient::open_in_time(&exports[1]);
    second.write(1, 3);
    machine.signal(1, Signal::CONT);
    assert!(!first.acknowledged_before_the_end());
    assert_eq!(second.read(1), 3);
    drop(second);
    assert_eq!(NbdClient::open_in_time(&exports[2]).read(1), 3);
}
