//! A device that is lost to its client.

use std::time::{Duration, Instant};

use nbd_frontend::Options;
use nbd_frontend::memory::Fault;

use crate::client::{CACHE, Client, EIO, ESHUTDOWN, FLUSH, READ, WRITE, header, pattern};
use crate::desk::{Answer, Desk};
use crate::served::{Served, eventually, options, serve_export};

const GRACE: Duration = Duration::from_secs(1);

fn serve() -> Served<Desk> {
    serve_export(Desk::new(Answer::Open), options())
}

/// Requests under way: the server has taken all that was sent before.
fn hold_requests(client: &mut Client, count: u64) {
    for cookie in 0..count {
        client.header(0, READ, cookie, cookie * 4096, 4096);
    }
    client.header(0, CACHE, 99, 0, 0);
    assert_eq!(client.simple_reply(), (0, 99));
}

fn replies(client: &mut Client, count: usize) -> Vec<(u32, u64)> {
    let mut replies: Vec<_> = (0..count).map(|_| client.simple_reply()).collect();
    replies.sort_unstable();
    replies
}

#[test]
fn connections_without_requests_are_closed_and_others_stay() {
    let server = serve();
    let mut idle = Client::simple(&server);
    let mut half = Client::structured(&server);
    half.send(&header(0, WRITE, 1, 0, 5000));
    half.send(&pattern(1, 100));
    server.device.lose_devices();
    idle.expect_closed();
    half.expect_closed();
    // They close their side as well.
    drop((idle, half));
    eventually("their end", || server.device.in_use() == 0);
    let mut next = Client::simple(&server);
    assert_eq!(next.read(0, 4096), [0; 4096]);
    assert_eq!(server.log.lines_with("the device is lost").len(), 2);
    assert_eq!(server.log.lines().len(), 2);
}

#[test]
fn requests_under_way_end_as_the_device_ends_them() {
    let server = serve();
    let desk = &server.device;
    let mut client = Client::simple(&server);
    desk.memory.hold();
    hold_requests(&mut client, 3);
    desk.lose_devices();
    eventually("the log", || server.log.lines().len() == 1);
    // This one comes too late.
    client.header(0, FLUSH, 9, 0, 0);
    desk.memory.set_fault(Some(Fault::Io));
    desk.memory.release();
    assert_eq!(replies(&mut client, 3), [(EIO, 0), (EIO, 1), (EIO, 2)]);
    client.expect_closed();
    let peer = client.stream.local_addr().unwrap().to_string();
    drop(client);
    eventually("its end", || desk.in_use() == 0);
    let said = server.log.lines();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains(&peer), "{said:?}");
}

#[test]
fn requests_that_do_not_end_are_dropped_after_a_second() {
    let server = serve();
    let desk = &server.device;
    let mut simple = Client::simple(&server);
    let mut structured = Client::structured(&server);
    desk.memory.hold();
    hold_requests(&mut simple, 2);
    hold_requests(&mut structured, 1);
    let begin = Instant::now();
    desk.lose_devices();
    // Without an answer: another connection may lead to the same disk.
    simple.expect_closed();
    structured.expect_closed();
    assert!(begin.elapsed() >= GRACE, "{:?}", begin.elapsed());
    drop((simple, structured));
    eventually("its end", || desk.in_use() == 0);
}

#[test]
fn the_requests_of_a_client_that_has_gone_do_not_keep_a_lost_device() {
    let one_seat = Options {
        connections_max: 1,
        ..options()
    };
    for last_words in [&b""[..], b"and half a request"] {
        let server = serve_export(Desk::new(Answer::Open), one_seat.clone());
        let desk = &server.device;
        let mut client = Client::simple(&server);
        desk.memory.hold();
        hold_requests(&mut client, 2);
        client.send(last_words);
        drop(client);
        eventually("a free seat", || server.has_a_free_seat());
        assert_eq!(desk.in_use(), 1);
        desk.lose_devices();
        eventually("its end", || desk.in_use() == 0);
        // Lets the server end where it does not end by itself.
        desk.memory.release();
    }
}

#[test]
fn shutdown_ends_a_connection_whose_device_is_lost_and_the_other_way_round() {
    for lost_first in [true, false] {
        let short = Options {
            grace: if lost_first {
                Duration::ZERO
            } else {
                Duration::from_secs(20)
            },
            ..options()
        };
        let mut server = serve_export(Desk::new(Answer::Open), short);
        let mut client = Client::simple(&server);
        server.device.memory.hold();
        hold_requests(&mut client, 1);
        let begin = Instant::now();
        if lost_first {
            server.device.lose_devices();
            eventually("the log", || server.log.lines().len() == 1);
            server.stop();
        } else {
            let mut idle = Client::simple(&server);
            server.stop();
            // The server tells all of its connections in one go.
            idle.expect_closed();
            server.device.lose_devices();
        }
        if !lost_first {
            assert_eq!(replies(&mut client, 1), [(ESHUTDOWN, 0)]);
        }
        client.expect_closed();
        drop(client);
        server.join();
        assert!(begin.elapsed() < 10 * GRACE, "{:?}", begin.elapsed());
        assert_eq!(server.device.in_use(), 0);
    }
}
