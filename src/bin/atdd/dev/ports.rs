//! Ports for the processes of a cluster on this machine.
//!
//! They are kept in cluster.toml, so they lie outside the range from which the kernel serves those
//! who do not ask for a certain one: a process that comes back would find its port taken by any
//! outgoing connection, and a peer that keeps connecting to it might even connect to itself.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;

use anyhow::{Context, Result};
use atdd::config::HostPort;

/// So many addresses of this machine on which nobody listens, none of them in `except`.
pub(super) fn choose(count: usize, except: &[HostPort]) -> Result<Vec<HostPort>> {
    let mut ports: BTreeSet<u16> = except.iter().map(HostPort::port).collect();
    let mut chosen = Vec::new();
    while chosen.len() < count {
        let port = free_port(&ports)?;
        ports.insert(port);
        chosen.push(format!("{}:{port}", Ipv4Addr::LOCALHOST).parse()?);
    }
    Ok(chosen)
}

/// Whether a process could listen there now.
pub(super) fn is_free(address: &HostPort) -> bool {
    TcpListener::bind(address.to_string()).is_ok()
}

/// Well-known services are below.
const CANDIDATES: RangeInclusive<u16> = 15_000..=32_000;

/// More than enough on any machine that has a port to spare.
const TRIES: usize = 200;

fn free_port(taken: &BTreeSet<u16>) -> Result<u16> {
    let handed_out = handed_out_by_the_kernel();
    for _ in 0..TRIES {
        let port = rand::random_range(CANDIDATES);
        let avoided = taken.contains(&port) || handed_out.contains(&port);
        if !avoided && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    // The kernel's range covers the candidates: then its choice is as good as any.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    let listener = listener.context("no port of 127.0.0.1 is free")?;
    Ok(listener.local_addr()?.port())
}

fn handed_out_by_the_kernel() -> RangeInclusive<u16> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut bounds = text.split_whitespace().map(str::parse);
    match (bounds.next(), bounds.next()) {
        (Some(Ok(low)), Some(Ok(high))) => low..=high,
        _ => 32_768..=60_999,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chosen_ports_are_free_and_distinct() {
        let first = choose(5, &[]).unwrap();
        let second = choose(5, &first).unwrap();
        let all: BTreeSet<_> = first.iter().chain(&second).map(HostPort::port).collect();
        assert_eq!(all.len(), 10);
    }

    #[test]
    fn a_port_that_someone_listens_on_is_not_free() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address: HostPort = listener.local_addr().unwrap().to_string().parse().unwrap();
        assert!(!is_free(&address));
    }
}
