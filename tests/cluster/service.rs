//! What a cluster does while nothing fails, and how it starts and stops.

use atdd::domain::SECTOR_SIZE;
use atdd::wire::{ClientCommand, ClientStatus};
use bytes::Bytes;

use crate::classic::{Client, sector_of};
use crate::machine::Machine;

#[test]
fn every_process_of_one_to_five_reads_what_any_wrote() {
    for processes in 1..=5 {
        let machine = Machine::running(processes, "1MiB");
        for rank in 1..=processes {
            let sector = u64::try_from(rank).unwrap();
            let content = sector_of(u8::try_from(rank).unwrap());
            Client::to(&machine, rank).write(sector, content.clone());
            for reader in 1..=processes {
                assert_eq!(Client::to(&machine, reader).read(sector), content);
            }
        }
        assert_eq!(
            Client::to(&machine, 1).read(255),
            sector_of(0),
            "never written"
        );
    }
}

#[test]
fn many_requests_of_one_connection_are_under_way_together() {
    let machine = Machine::running(3, "1MiB");
    let mut client = Client::to(&machine, 2);
    for sector in 0..200 {
        let byte = u8::try_from(sector).unwrap();
        client.send(sector, ClientCommand::Write(sector_of(byte)));
    }
    let mut numbers: Vec<u64> = (0..200).map(|_| client.receive().unwrap().number).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=200).collect::<Vec<_>>());
    for sector in 0..200 {
        assert_eq!(
            client.read(sector),
            sector_of(u8::try_from(sector).unwrap())
        );
    }
}

#[test]
fn a_sector_past_the_end_is_refused() {
    let machine = Machine::running(1, "1MiB");
    let mut client = Client::to(&machine, 1);
    client.send(256, ClientCommand::Read);
    let response = client.receive().unwrap();
    assert_eq!(response.status, ClientStatus::InvalidSectorIndex);
    assert!(response.content.is_empty());
    client.send(
        u64::MAX,
        ClientCommand::Write(Bytes::from(vec![1; SECTOR_SIZE])),
    );
    assert_eq!(
        client.receive().unwrap().status,
        ClientStatus::InvalidSectorIndex
    );
}

#[test]
fn sigterm_ends_every_process_with_exit_code_0_and_nothing_is_lost() {
    let mut machine = Machine::running(3, "1MiB");
    let mut client = Client::to(&machine, 1);
    for sector in 0..64 {
        client.send(sector, ClientCommand::Write(sector_of(9)));
    }
    machine.signal(1, rustix::process::Signal::TERM);
    let mut acknowledged = Vec::new();
    while let Some(response) = client.receive() {
        acknowledged.push(response.number - 1);
    }
    assert!(machine.wait(1).success(), "{}", machine.log(1));
    for rank in 2..=3 {
        assert!(machine.stop(rank).success(), "{}", machine.log(rank));
    }
    machine.start_all();
    machine.wait_for_status(0);
    let mut client = Client::to(&machine, 3);
    for sector in acknowledged {
        assert_eq!(client.read(sector), sector_of(9));
    }
}

#[test]
fn a_cluster_is_born_when_all_have_met() {
    let mut machine = Machine::new(3, "1MiB");
    machine.start(1, &[]);
    machine.start(2, &[]);
    let mut early = Client::to(&machine, 1);
    early.send(0, ClientCommand::Write(sector_of(3)));
    machine.wait_for_status(2);
    let (_, status) = machine.status();
    assert!(
        status.to_string().contains("missing"),
        "status names who is missing: {status}"
    );
    machine.start(3, &[]);
    machine.wait_for_status(0);
    assert_eq!(
        early.receive().unwrap().status,
        ClientStatus::Ok,
        "what came early has waited"
    );
}

#[test]
fn the_operator_may_begin_with_a_majority() {
    let mut machine = Machine::new(3, "1MiB");
    machine.start(1, &["--new-cluster"]);
    machine.start(2, &["--new-cluster"]);
    machine.wait_for_status(1);
    Client::to(&machine, 2).write(5, sector_of(5));
    machine.start(3, &[]);
    machine.wait_for_status(0);
    machine.kill(1);
    assert_eq!(Client::to(&machine, 3).read(5), sector_of(5));
}
