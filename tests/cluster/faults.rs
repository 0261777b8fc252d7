//! What a cluster of three survives.

use atdd::wire::{ClientCommand, ClientStatus};
use rustix::process::Signal;

use crate::classic::{Client, sector_of};
use crate::machine::Machine;

#[test]
fn a_killed_process_is_not_missed_and_comes_back() {
    let mut machine = Machine::running(3, "1MiB");
    Client::to(&machine, 1).write(1, sector_of(1));
    machine.kill(2);
    let mut client = Client::to(&machine, 1);
    assert_eq!(client.read(1), sector_of(1));
    client.write(1, sector_of(2));
    client.write(2, sector_of(2));
    machine.wait_for_status(1);
    machine.start(2, &[]);
    machine.wait_for_status(0);
    machine.kill(3);
    let mut client = Client::to(&machine, 2);
    assert_eq!(
        client.read(1),
        sector_of(2),
        "what it missed it learns from the majority"
    );
    assert_eq!(client.read(2), sector_of(2));
}

#[test]
fn a_killed_cluster_has_everything_that_was_acknowledged() {
    let mut machine = Machine::running(3, "4MiB");
    let mut expected = [0; 1024];
    for round in 1..=3 {
        let mut client = Client::to(&machine, usize::from(round));
        for sector in 0..1024 {
            client.send(sector, ClientCommand::Write(sector_of(round)));
        }
        for _ in 0..400 {
            let response = client.receive().unwrap();
            let sector = usize::try_from((response.number - 1) % 1024).unwrap();
            expected[sector] = round;
        }
        machine.kill_all();
        machine.start_all();
        machine.wait_for_status(0);
        let mut client = Client::to(&machine, 1);
        for (sector, byte) in expected.iter_mut().enumerate() {
            let found = client.read(u64::try_from(sector).unwrap());
            assert!(
                found.iter().all(|each| *each == found[0]),
                "sector {sector} is torn"
            );
            assert!(
                found[0] == *byte || (found[0] == round && found[0] > *byte),
                "sector {sector} holds {} and {byte} was acknowledged in round {round}",
                found[0]
            );
            *byte = found[0];
        }
    }
}

#[test]
fn without_a_majority_operations_wait_and_then_go_on() {
    let mut machine = Machine::running(3, "1MiB");
    machine.kill(2);
    machine.kill(3);
    machine.wait_for_status(2);
    let (_, status) = machine.status();
    assert!(
        status.to_string().contains("waiting_for_majority"),
        "{status}"
    );
    let mut client = Client::to(&machine, 1);
    client.send(7, ClientCommand::Write(sector_of(7)));
    machine.start(3, &[]);
    assert_eq!(client.receive().unwrap().status, ClientStatus::Ok);
    assert_eq!(client.read(7), sector_of(7));
}

#[test]
fn a_stop_does_not_wait_for_a_majority() {
    let mut machine = Machine::running(3, "1MiB");
    machine.kill(2);
    machine.kill(3);
    let mut client = Client::to(&machine, 1);
    client.send(7, ClientCommand::Write(sector_of(7)));
    machine.wait_for_status(2);
    assert!(machine.stop(1).success(), "{}", machine.log(1));
    assert!(client.receive().is_none(), "it is not acknowledged");
}

#[test]
fn an_empty_directory_has_no_vote_in_a_born_cluster() {
    let mut machine = Machine::running(3, "1MiB");
    Client::to(&machine, 1).write(1, sector_of(1));
    machine.kill(2);
    std::fs::remove_dir_all(machine.data(2)).unwrap();
    machine.start(2, &[]);
    let ended = machine.wait(2);
    assert!(!ended.success());
    let log = machine.log(2);
    assert!(
        log.contains("not the one that the cluster was born with"),
        "{log}"
    );
    assert_eq!(Client::to(&machine, 3).read(1), sector_of(1));
}

#[test]
fn a_paused_process_is_done_without_and_catches_nobody_out() {
    let machine = Machine::running(3, "1MiB");
    machine.signal(3, Signal::STOP);
    let mut client = Client::to(&machine, 1);
    for round in 0..20 {
        client.write(3, sector_of(round));
        assert_eq!(client.read(3), sector_of(round));
    }
    machine.signal(3, Signal::CONT);
    assert_eq!(Client::to(&machine, 3).read(3), sector_of(19));
}
