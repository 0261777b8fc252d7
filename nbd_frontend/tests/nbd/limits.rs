//! Clients that misbehave, or are many: memory, seats, and what is left behind.

use std::process::Command;
use std::time::Duration;

use nbd_frontend::Options;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::client::{CACHE, Client, FLUSH, READ, TRIM, WRITE, header, pattern};
use crate::served::{Served, eventually, options, serve, serve_with};

const MIB: u64 = 1 << 20;

fn expect_service<D>(server: &Served<D>) {
    assert_eq!(Client::simple(server).call(0, CACHE, 0, 4096), 0);
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_payload_writes_nothing_and_frees_its_memory() {
    let server = serve_with(Options {
        memory_bytes_max: MIB,
        ..options()
    });
    for length in [100, 5000, 200_000, 1 << 20] {
        for _ in 0..10 {
            let mut client = Client::simple(&server);
            client.send(&header(0, WRITE, 1, 0, length));
            client.send(&vec![1; usize::try_from(length / 2).unwrap()]);
        }
    }
    // All of the memory is needed for this one.
    let mut client = Client::simple(&server);
    assert_eq!(client.write(MIB, &pattern(1, 1 << 20)), 0);
    assert_eq!(client.read(0, 1 << 20), vec![0; 1 << 20]);
}

#[test]
fn requests_beyond_the_memory_wait_for_one_another_and_all_get_done() {
    let server = serve_with(Options {
        memory_bytes_max: MIB,
        ..options()
    });
    std::thread::scope(|scope| {
        for place in 0..4 {
            let server = &server;
            scope.spawn(move || {
                let mut client = Client::simple(server);
                let offset = place * 4 * MIB;
                let data = pattern(place, 3 << 20);
                for round in 0..5 {
                    assert_eq!(client.write(offset, &data), 0);
                    for cookie in 0..10 {
                        let length = 1 << 19;
                        client.header(0, READ, cookie, offset + cookie * 4096, length);
                    }
                    for _ in 0..10 {
                        let (error, cookie) = client.simple_reply();
                        assert_eq!(error, 0);
                        let begin = usize::try_from(cookie * 4096).unwrap();
                        assert!(
                            client.receive(1 << 19) == data[begin..begin + (1 << 19)],
                            "{round}"
                        );
                    }
                }
            });
        }
    });
}

#[test]
fn a_client_that_sends_much_before_it_reads_is_held_back_not_dropped() {
    let server = serve();
    let mut client = Client::simple(&server);
    let mut sender = client.stream.try_clone().unwrap();
    let writer = std::thread::spawn(move || {
        for cookie in 0..3000 {
            let request = header(0, READ, cookie, cookie * 4096, 16_384);
            std::io::Write::write_all(&mut sender, &request).unwrap();
        }
    });
    writer.join().unwrap();
    let mut seen = vec![false; 3000];
    for _ in 0..3000 {
        let (error, cookie) = client.simple_reply();
        assert_eq!(error, 0);
        client.receive(16_384);
        assert!(!std::mem::replace(
            &mut seen[usize::try_from(cookie).unwrap()],
            true
        ));
    }
}

#[test]
fn no_more_requests_are_taken_than_allowed() {
    let server = serve_with(Options {
        requests_max: 3,
        ..options()
    });
    let mut client = Client::simple(&server);
    server.device.hold();
    for cookie in 0..3 {
        client.header(0, FLUSH, cookie, 0, 0);
    }
    // Would be answered at once, if it were taken.
    client.header(0, CACHE, 9, 0, 4096);
    expect_service(&server);
    client
        .stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let error = client.stream.peek(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    client
        .stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    server.device.release();
    let mut cookies: Vec<u64> = (0..4).map(|_| client.simple_reply().1).collect();
    cookies.sort_unstable();
    assert_eq!(cookies, [0, 1, 2, 9]);
}

#[test]
fn the_oldest_client_without_an_export_makes_room() {
    let server = serve_with(Options {
        connections_max: 3,
        ..options()
    });
    let mut first = Client::simple(&server);
    let mut oldest = Client::greet(&server, 3);
    let mut silent = Client::connect(&server);
    silent.receive(18);
    let mut newest = Client::greet(&server, 3);
    oldest.expect_closed();
    newest.go("");
    let mut third = Client::simple(&server);
    silent.expect_closed();
    // All three chose an export by now, and a fourth one is turned away.
    Client::connect(&server).expect_closed();
    for client in [&mut first, &mut newest, &mut third] {
        assert_eq!(client.call(0, CACHE, 0, 4096), 0);
    }
}

#[test]
fn seats_do_not_leak() {
    let server = serve_with(Options {
        connections_max: 2,
        ..options()
    });
    let _other = Client::simple(&server);
    for round in 0..50 {
        // The server may not have noticed yet that the one before has gone.
        let mut client = wait_for_seat(&server);
        if round % 2 == 0 {
            client.disconnect();
        } else {
            client.send(b"half a request");
        }
    }
    wait_for_seat(&server);
}

/// A client in transmission, as soon as there is a seat for it.
fn wait_for_seat(server: &Served) -> Client {
    eventually("a free seat", || server.has_a_free_seat());
    // The one that tried has chosen no export, so it makes room if it is still there.
    Client::simple(server)
}

#[test]
fn a_client_that_died_frees_its_seat_while_its_requests_finish() {
    let server = serve_with(Options {
        connections_max: 1,
        ..options()
    });
    server.device.hold();
    for (sector, last_words) in [(0, &b""[..]), (8, b"and half a request")] {
        let mut client = wait_for_seat(&server);
        client.send_write(1, sector * 4096, &pattern(sector, 5000));
        client.send(last_words);
    }
    let mut client = wait_for_seat(&server);
    server.device.release();
    eventually("the writes", || server.device.sectors_stored() == 4);
    for sector in [0, 8] {
        assert_eq!(client.read(sector * 4096, 5000), pattern(sector, 5000));
    }
}

/// The tests of memory measure this whole process, so they run in one of their own.
#[test]
fn memory_is_measured_alone() {
    let tests = ["--ignored", "--test-threads=1", "limits::measured"];
    let output = Command::new(std::env::current_exe().unwrap())
        .args(tests)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
}

mod measured {
    use super::*;

    #[test]
    #[ignore = "run by memory_is_measured_alone"]
    fn claims_of_memory_that_never_comes_cost_none() {
        let server = serve_with(Options {
            memory_bytes_max: 1 << 40,
            ..options()
        });
        let before = resident_bytes();
        let mut clients: Vec<Client> = (0..100).map(|_| Client::simple(&server)).collect();
        for client in &mut clients {
            client.send(&header(0, WRITE, 1, 0, 64 << 20));
            client.send(b"and nothing more");
        }
        expect_service(&server);
        let grown = resident_bytes().saturating_sub(before);
        assert!(grown < 64 * MIB, "100 claims of 64 MiB took {grown} bytes");
    }

    #[test]
    #[ignore = "run by memory_is_measured_alone"]
    fn a_thousand_idle_clients_cost_little_and_disturb_nobody() {
        const IDLE: usize = 1000;
        let limit = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: limit.maximum,
            ..limit
        };
        setrlimit(Resource::Nofile, raised).unwrap();
        let server = serve_with(Options {
            connections_max: 2 * IDLE,
            ..options()
        });
        let before = resident_bytes();
        let mut clients: Vec<Client> = (0..IDLE)
            .map(|place| match place % 3 {
                0 => Client::connect(&server),
                1 => Client::greet(&server, 3),
                _ => Client::simple(&server),
            })
            .collect();
        let grown = resident_bytes().saturating_sub(before);
        let each = grown / u64::try_from(IDLE).unwrap();
        assert!(each < 16 << 10, "an idle client costs {each} bytes");
        let mut busy = Client::simple(&server);
        for offset in 0..1000 {
            assert_eq!(busy.write(offset * 4096, &pattern(offset, 4096)), 0);
        }
        for client in clients.iter_mut().skip(2).step_by(3) {
            assert_eq!(client.call(0, TRIM, 0, 4096), 0);
        }
    }

    fn resident_bytes() -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
            * 1024
    }
}
