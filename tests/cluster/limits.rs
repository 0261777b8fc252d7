//! Descriptors, memory, and time to bind.

use std::net::TcpStream;

use rustix::process::{Resource, Rlimit, prlimit};

use crate::classic::{Client, sector_of};
use crate::machine::Machine;

#[test]
fn five_hundred_clients_fit_into_1024_descriptors() {
    let machine = Machine::running(3, "1MiB");
    let limit = Rlimit {
        current: Some(1024),
        maximum: Some(1024),
    };
    prlimit(Some(machine.pid(1)), Resource::Nofile, limit).unwrap();
    let mut clients: Vec<Client> = (0..500).map(|_| Client::to(&machine, 1)).collect();
    for (sector, client) in (0..).zip(&mut clients) {
        client.write(sector % 256, sector_of(1));
    }
    for client in &mut clients {
        assert_eq!(client.read(1), sector_of(1));
    }
}

#[test]
fn a_thousand_idle_connections_do_not_shut_out_a_good_client() {
    let machine = Machine::running(3, "1MiB");
    let idle: Vec<TcpStream> = (0..1000)
        .map(|_| TcpStream::connect(&machine.addresses[0]).unwrap())
        .collect();
    let mut client = Client::to(&machine, 1);
    client.write(1, sector_of(1));
    assert_eq!(client.read(1), sector_of(1));
    assert!(resident_kib(&machine, 1) < 64 * 1024);
    drop(idle);
}

#[test]
fn a_terabyte_disk_costs_no_memory_at_rest() {
    let machine = Machine::running(3, "1TiB");
    let mut client = Client::to(&machine, 1);
    client.write((1 << 28) - 1, sector_of(1));
    for rank in 1..=3 {
        let resident = resident_kib(&machine, rank);
        assert!(resident < 64 * 1024, "process {rank} takes {resident} KiB");
    }
}

fn resident_kib(machine: &Machine, rank: usize) -> u64 {
    memory_kib(machine, rank, "VmRSS:")
}

/// A line of the process's `/proc/PID/status`: `VmRSS:` is its memory now, `VmHWM:` at most.
pub(crate) fn memory_kib(machine: &Machine, rank: usize, field: &str) -> u64 {
    let path = format!("/proc/{}/status", machine.pid(rank).as_raw_nonzero());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
