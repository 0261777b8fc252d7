//! Clients that come back with what they have no answer to, when another host has had the disk.

use std::path::Path;

use crate::attachments::{heard_of, with_exports};
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
