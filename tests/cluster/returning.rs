//! Clients that come back with what they have no answer to, when another host has had the disk.

use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::attachments::{coordinator, heard_of, with_exports};
use crate::gateway::Gateway;
use crate::machine::Machine;
use crate::nbd::NbdClient;

/// The cluster had carried the write out, and the gateway had answered it, so it counted as
/// answered; but the client had lost its connection before it heard. It came back, wrote the same
/// again, and so undid what another host had written and been answered since.
#[test]
fn an_answer_that_nobody_heard_is_none_to_a_gateway() {
    let machine = Machine::running(3, "4MiB");
    let [one, two] = ["one", "two"].map(|name| Gateway::start(&machine, name, &[]));
    comes_back_too_late(one.socket(), two.socket(), "start the gateway again");
}

#[test]
fn an_answer_that_nobody_heard_is_none_to_an_embedded_server() {
    let (_machine, [one, two, _]) = with_exports();
    comes_back_too_late(&one, &two, "start the process again");
}

fn comes_back_too_late(one: &Path, two: &Path, remedy: &str) {
    let mut client = NbdClient::open_in_time(one);
    client.write(7, 1);
    client.send_write(7, 2);
    heard_of();
    drop(client);
    let mut other = NbdClient::open_in_time(two);
    assert_eq!(other.read(7), 2, "it was carried out");
    other.write(7, 3);
    other.goodbye();
    heard_of();
    for _ in 0..2 {
        let Err(refusal) = NbdClient::open(one) else {
            panic!("it would write 2 again");
        };
        assert!(refusal.contains(remedy), "{refusal}");
    }
    assert_eq!(NbdClient::open_in_time(two).read(7), 3);
}

/// For the cluster to give a process up.
const SILENT: Duration = Duration::from_secs(2);

/// The gateway loses its process with a write under way; another host has the disk and gives it back;
/// the client comes back and would send the write again. Nobody fenced the gateway meanwhile, since
/// it had no attachment.
#[test]
fn a_joined_gateway_that_lost_its_process_brings_nothing_old_back() {
    let machine = Machine::running(3, "4MiB");
    let one = Gateway::start(&machine, "one", &["--join", "disk"]);
    let two = Gateway::start(&machine, "two", &[]);
    let mut client = NbdClient::open_in_time(one.socket());
    client.write(7, 1);
    let rank = coordinator(&machine);
    machine.signal(rank, Signal::STOP);
    client.send_write(7, 2);
    std::thread::sleep(SILENT);
    let mut other = NbdClient::open_in_time(two.socket());
    other.write(7, 3);
    other.goodbye();
    assert_eq!(client.error(), None, "it is not answered");
    machine.signal(rank, Signal::CONT);
    machine.wait_for_status(0);
    for _ in 0..2 {
        let Err(refusal) = NbdClient::open(one.socket()) else {
            panic!("it would write 2 again");
        };
        assert!(refusal.contains("start the gateway again"), "{refusal}");
    }
    let started = Gateway::start(&machine, "started", &["--join", "disk"]);
    assert_eq!(NbdClient::open_in_time(started.socket()).read(7), 3);
}

/// Both paths of a device were closed to it for good when each of them had lost its process: each
/// had been fenced by a generation of the other's, and let clients in only where the other one ran.
#[test]
fn both_gateways_of_a_device_go_on_when_they_have_lost_their_process() {
    let machine = Machine::running(3, "4MiB");
    let paths = ["one", "two"].map(|name| Gateway::start(&machine, name, &["--join", "disk"]));
    let open = || {
        paths
            .each_ref()
            .map(|path| NbdClient::open_in_time(path.socket()))
    };
    let mut clients = open();
    for byte in 1..=3 {
        clients[0].write(7, byte);
        assert_eq!(clients[1].read(7), byte);
        let rank = coordinator(&machine);
        machine.signal(rank, Signal::STOP);
        for client in &mut clients {
            client.send_write(8, byte);
        }
        for client in &mut clients {
            assert_eq!(client.error(), None, "it is not answered");
        }
        clients = open();
        assert_eq!(clients[1].read(7), byte);
        machine.signal(rank, Signal::CONT);
        machine.wait_for_status(0);
    }
}
