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

/// A write that was not acknowledged may take effect at any later time, or never; once a value was
/// acknowledged or read, nothing but such a write may replace it.
#[test]
fn a_killed_cluster_has_everything_that_was_acknowledged() {
    let mut machine = Machine::running(3, "4MiB");
    let mut known = [0; 1024];
    let mut open = vec![Vec::new(); 1024];
    for round in 1..=3 {
        let mut client = Client::to(&machine, usize::from(round));
        for (sector, open) in (0..).zip(&mut open) {
            client.send(sector, ClientCommand::Write(sector_of(round)));
            open.push(round);
        }
        for _ in 0..400 {
            let response = client.receive().unwrap();
            let sector = usize::try_from(response.number - 1).unwrap();
            known[sector] = round;
            open[sector].pop();
        }
        machine.kill_all();
        machine.start_all();
        machine.wait_for_status(0);
        let mut client = Client::to(&machine, 1);
        for (sector, known) in known.iter_mut().enumerate() {
            let content = client.read(u64::try_from(sector).unwrap());
            let found = content[0];
            assert!(
                content.iter().all(|byte| *byte == found),
                "sector {sector} is torn"
            );
            assert!(
                found == *known || open[sector].contains(&found),
                "sector {sector} holds {found} after round {round}; {known} was known, and {:?} \
                 were not acknowledged",
                open[sector]
            );
            *known = found;
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

/// Its peers have seen later incarnations and do not let it in; it only said that it had no links,
/// and waited for ever.
#[test]
fn an_empty_directory_in_place_of_one_that_was_restarted_says_so() {
    let mut machine = Machine::running(3, "1MiB");
    for _ in 0..2 {
        machine.kill(2);
        machine.start(2, &[]);
        machine.wait_for_status(0);
    }
    machine.kill(2);
    std::fs::remove_dir_all(machine.data(2)).unwrap();
    machine.start(2, &[]);
    assert!(!machine.wait(2).success());
    let log = machine.log(2);
    assert!(
        log.contains("is not the one that the cluster was born with: process ")
            && log.contains("for this rank")
            && log.contains("Start with the original directory"),
        "{log}"
    );
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
