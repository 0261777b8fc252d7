//! An export that each client opens: when it is opened, when it is not, and what goes wrong.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nbd_frontend::{Address, Options, Server};

use crate::client::{
    CACHE, Client, ENOSPC, OPT_ABORT, OPT_EXPORT_NAME, OPT_GO, OPT_INFO, OPT_LIST, READ, REP_ACK,
    REP_ERR_POLICY, REP_ERR_UNSUP, REP_SERVER, TRIM, WRITE, WRITE_ZEROES, header, option_bytes,
    pattern,
};
use crate::desk::{Answer, Desk, SECTORS};
use crate::served::{Served, any_port, eventually, options, serve_export};

const SECTOR: u64 = 4096;

fn serve(answer: Answer) -> Served<Desk> {
    serve_export(Desk::new(answer), options())
}

fn refused(why: &str) -> Answer {
    Answer::Unavailable(why.to_owned())
}

/// A client that waits for the export, having chosen it by `option`.
fn choose(server: &Served<Desk>, option: u32) -> Client {
    let waiting = server.device.opening();
    let mut client = Client::greet(server, 3);
    match option {
        OPT_GO => client.ask(OPT_GO, "", &[]),
        _ => client.option(option, b""),
    }
    eventually("opening", || server.device.opening() == waiting + 1);
    client
}

fn expect_silence(client: &Client) {
    let usual = client.stream.read_timeout().unwrap();
    let brief = Some(Duration::from_millis(50));
    client.stream.set_read_timeout(brief).unwrap();
    let error = client.stream.peek(&mut [0]).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
    client.stream.set_read_timeout(usual).unwrap();
}

#[test]
fn each_client_has_a_device_of_its_own_until_its_last_request_is_done() {
    let server = serve(Answer::Open);
    let desk = &server.device;
    let mut first = Client::simple(&server);
    let mut second = Client::structured(&server);
    assert_eq!((desk.opened(), desk.in_use()), (2, 2));
    assert_eq!(first.write(0, &pattern(1, 5000)), 0);
    assert_eq!(first.read(0, 5000), pattern(1, 5000));
    first.disconnect();
    eventually("the end of the first", || desk.in_use() == 1);
    // The other leaves with a request under way.
    desk.memory.hold();
    second.send_write(1, 8 * SECTOR, &pattern(2, 4096));
    second.header(0, CACHE, 2, 0, 0);
    assert_eq!(second.simple_reply(), (0, 2));
    drop(second);
    let mut third = Client::simple(&server);
    assert_eq!(third.call(0, CACHE, 0, 0), 0);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!((desk.opened(), desk.in_use()), (3, 2));
    desk.memory.release();
    eventually("the end of the second", || desk.in_use() == 1);
    assert_eq!(third.read(8 * SECTOR, 4096), pattern(2, 4096));
    assert_eq!(desk.opened(), 3);
}

#[test]
fn asking_opens_nothing() {
    let server = serve(refused("nobody may have it"));
    let mut client = Client::greet(&server, 3);
    client.option(OPT_LIST, b"");
    assert_eq!(client.option_reply().kind, REP_SERVER);
    assert_eq!(client.option_reply().kind, REP_ACK);
    client.ask(OPT_INFO, "", &[]);
    assert_eq!(client.infos()[0][2..10], (SECTORS * SECTOR).to_be_bytes());
    client.option(OPT_ABORT, b"");
    assert_eq!(client.option_reply().kind, REP_ACK);
    client.expect_closed();
    server.device.answer(Answer::Open);
    drop(Client::greet(&server, 3));
    drop(Client::connect(&server));
    // A name that is not the export's opens nothing either.
    let mut other = Client::greet(&server, 3);
    other.ask(OPT_GO, "another", &[]);
    other.option_reply();
    assert_eq!(server.device.opened(), 0);
    assert_eq!(server.log.lines(), [""; 0]);
}

#[test]
fn go_says_why_there_is_no_device_and_the_client_may_go_on() {
    let server = serve(refused("host 1 has it"));
    let mut client = Client::greet(&server, 3);
    client.ask(OPT_GO, "", &[1, 2, 3]);
    let reply = client.option_reply();
    assert_eq!((reply.option, reply.kind), (OPT_GO, REP_ERR_POLICY));
    assert_eq!(reply.data, b"host 1 has it");
    let said = server.log.lines_with("host 1 has it");
    assert_eq!(said.len(), 1, "{said:?}");
    let peer = client.stream.local_addr().unwrap().to_string();
    assert!(said[0].contains(&peer), "{said:?}");
    client.ask(OPT_INFO, "", &[]);
    assert_eq!(client.infos().len(), 1);
    server.device.answer(Answer::Open);
    client.go("");
    assert_eq!(client.call(0, CACHE, 0, 4096), 0);
    assert_eq!((server.device.opened(), server.device.in_use()), (1, 1));
    assert_eq!(server.log.lines().len(), 1);
}

#[test]
fn a_reason_that_is_no_text_for_nbd_is_made_one() {
    let server = serve(refused(&format!("a\0b{}", "\u{e9}".repeat(4000))));
    let mut client = Client::greet(&server, 3);
    client.ask(OPT_GO, "", &[]);
    let text = String::from_utf8(client.option_reply().data).unwrap();
    assert_eq!(text, format!("a b{}", "\u{e9}".repeat(2046)));
}

#[test]
fn export_name_closes_when_there_is_no_device() {
    let server = serve(refused("host 1 has it"));
    let mut client = Client::greet(&server, 3);
    client.option(OPT_EXPORT_NAME, b"");
    client.expect_closed();
    eventually("the log", || {
        server.log.lines_with("host 1 has it").len() == 1
    });
    assert_eq!(server.log.lines().len(), 1);
}

#[test]
fn clients_wait_for_as_long_as_opening_takes() {
    let server = serve(Answer::Wait);
    let mut go = choose(&server, OPT_GO);
    let mut name = choose(&server, OPT_EXPORT_NAME);
    let mut refused_later = choose(&server, OPT_GO);
    expect_silence(&go);
    expect_silence(&name);
    // The others are not held up.
    let mut asking = Client::greet(&server, 3);
    asking.ask(OPT_INFO, "", &[]);
    asking.infos();
    refused_later.half_close();
    eventually("one gives up", || server.device.opening() == 2);
    server.device.answer(Answer::Open);
    go.infos();
    assert_eq!(name.receive_u64(), SECTORS * SECTOR);
    name.receive(2);
    for client in [&mut go, &mut name] {
        assert_eq!(client.call(0, CACHE, 0, 4096), 0);
    }
    assert_eq!(server.device.in_use(), 2);
}

#[test]
fn a_client_that_leaves_while_its_export_is_opened_frees_its_seat() {
    let one_seat = Options {
        connections_max: 1,
        ..options()
    };
    let server = serve_export(Desk::new(Answer::Wait), one_seat);
    let desk = &server.device;
    for option in [OPT_GO, OPT_EXPORT_NAME] {
        for last_words in [&b""[..], b"something that is left unread"] {
            let mut client = choose(&server, option);
            client.send(last_words);
            drop(client);
            eventually("giving up", || desk.opening() == 0);
        }
    }
    assert_eq!(desk.opened(), 0);
    desk.answer(Answer::Open);
    eventually("a free seat", || server.has_a_free_seat());
}

#[test]
fn a_client_that_waits_for_its_export_keeps_its_seat_and_a_refused_one_does_not() {
    let one_seat = Options {
        connections_max: 1,
        ..options()
    };
    let server = serve_export(Desk::new(Answer::Wait), one_seat);
    let mut first = choose(&server, OPT_GO);
    Client::connect(&server).expect_closed();
    server.device.answer(refused("not now"));
    assert_eq!(first.option_reply().kind, REP_ERR_POLICY);
    server.device.answer(Answer::Open);
    let mut second = Client::simple(&server);
    first.expect_closed();
    assert_eq!(second.call(0, CACHE, 0, 4096), 0);
}

#[test]
fn what_a_client_sends_ahead_is_not_lost() {
    let server = serve(Answer::Wait);
    let mut client = choose(&server, OPT_GO);
    let data = pattern(1, 100_000);
    let (ahead, rest) = data.split_at(3000);
    client.header(0, CACHE, 1, 0, 4096);
    client.send(&[&header(0, WRITE, 2, 100, 100_000)[..], ahead].concat());
    // It is read by now.
    expect_silence(&client);
    server.device.answer(Answer::Open);
    client.infos();
    assert_eq!(client.simple_reply(), (0, 1));
    client.send(rest);
    assert_eq!(client.simple_reply(), (0, 2));
    assert_eq!(client.read(100, 100_000), data);
}

#[test]
fn options_after_a_refused_one_are_answered_in_their_order() {
    let server = serve(Answer::Wait);
    let mut client = choose(&server, OPT_GO);
    let list = option_bytes(OPT_LIST, b"");
    let unknown = option_bytes(99, &[0; 5000]);
    client.send(&[&list[..], &unknown, &list, &unknown[..100]].concat());
    expect_silence(&client);
    server.device.answer(refused("not now"));
    assert_eq!(client.option_reply().data, b"not now");
    for kind in [REP_SERVER, REP_ACK, REP_ERR_UNSUP, REP_SERVER, REP_ACK] {
        assert_eq!(client.option_reply().kind, kind);
    }
    client.send(&unknown[100..]);
    assert_eq!(client.option_reply().kind, REP_ERR_UNSUP);
    server.device.answer(Answer::Open);
    client.go("");
    assert_eq!(client.call(0, CACHE, 0, 4096), 0);
}

#[test]
fn a_client_has_the_size_of_its_device() {
    let server = serve(Answer::Open);
    let mut small = Client::simple(&server);
    server
        .device
        .device_sectors
        .store(2 * SECTORS, Ordering::SeqCst);
    let mut client = Client::greet(&server, 3);
    client.ask(OPT_INFO, "", &[]);
    assert_eq!(client.infos()[0][2..10], (SECTORS * SECTOR).to_be_bytes());
    client.ask(OPT_GO, "", &[]);
    let grown = (2 * SECTORS * SECTOR).to_be_bytes();
    assert_eq!(client.infos()[0][2..10], grown);
    let mut named = Client::greet(&server, 3);
    named.option(OPT_EXPORT_NAME, b"");
    assert_eq!(named.receive_u64().to_be_bytes(), grown);
    let last = 2 * SECTORS * SECTOR - 100;
    assert_eq!(client.write(last, &[1; 100]), 0);
    assert_eq!(client.read(last, 100), [1; 100]);
    assert_ne!(small.call(0, READ, last, 100), 0);
}

/// Each client changes bytes of its own in one sector, through a device of its own.
#[test]
fn parts_of_a_sector_are_kept_apart_over_all_devices() {
    let server = serve(Answer::Open);
    let desk = &server.device;
    let mut clients: Vec<Client> = (0..4).map(|_| Client::simple(&server)).collect();
    desk.memory.set_delay(Duration::from_millis(1));
    for (place, client) in (0_u64..).zip(&mut clients) {
        for part in 0..8 {
            client.send_write(part, (part * 4 + place) * 128, &pattern(place, 128));
        }
    }
    for client in &mut clients {
        for _ in 0..8 {
            assert_eq!(client.simple_reply().0, 0);
        }
    }
    let expected: Vec<u8> = (0..4).flat_map(|place| pattern(place, 128)).collect();
    assert_eq!(clients[0].read(0, 4096), expected.repeat(8));
}

#[test]
fn shutdown_does_not_wait_for_an_export_that_is_opened() {
    let mut server = serve(Answer::Wait);
    let mut clients = [
        choose(&server, OPT_GO),
        choose(&server, OPT_EXPORT_NAME),
        choose(&server, OPT_GO),
    ];
    clients[2].header(0, CACHE, 1, 0, 4096);
    let begin = Instant::now();
    server.stop();
    for client in &mut clients {
        client.expect_closed();
    }
    server.join();
    assert!(begin.elapsed() < options().grace);
    assert_eq!((server.device.opening(), server.device.opened()), (0, 0));
}

#[test]
fn no_device_is_left_after_a_shutdown() {
    let short = Options {
        grace: Duration::from_millis(50),
        ..options()
    };
    let mut server = serve_export(Desk::new(Answer::Open), short);
    server.device.memory.hold();
    let idle = Client::simple(&server);
    let mut gone = Client::simple(&server);
    let mut busy = Client::simple(&server);
    for client in [&mut gone, &mut busy] {
        client.send_write(1, 0, b"x");
        assert_eq!(client.call(0, CACHE, 0, 0), 0);
    }
    drop(gone);
    assert_eq!(server.device.in_use(), 3);
    server.stop();
    server.join();
    assert_eq!(server.device.in_use(), 0);
    drop((idle, busy));
}

#[test]
fn no_device_is_left_when_the_server_is_dropped() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let desk = Arc::new(Desk::new(Answer::Open));
    let server = runtime
        .block_on(Server::bind(&any_port(), options(), Arc::clone(&desk)))
        .unwrap();
    let Address::Tcp { host, port } = server.address() else {
        panic!("it listens on {}", server.address());
    };
    let address = (host.parse::<std::net::IpAddr>().unwrap(), *port).into();
    let running = runtime.spawn(server.run(std::future::pending()));
    let connect = || {
        let mut client = Client::connect_to(address);
        client.answer_greeting(3);
        client
    };
    let mut busy = connect();
    busy.go("");
    desk.memory.hold();
    busy.send_write(1, 0, b"x");
    assert_eq!(busy.call(0, CACHE, 0, 0), 0);
    desk.answer(Answer::Wait);
    let mut waiting = connect();
    waiting.ask(OPT_GO, "", &[]);
    eventually("opening", || desk.opening() == 1);
    assert_eq!(desk.in_use(), 1);
    running.abort();
    eventually("the end", || desk.in_use() == 0 && desk.opening() == 0);
    busy.expect_closed();
    waiting.expect_closed();
}

/// What a client wrote may have been carried out without its hearing so; then it writes it again as
/// soon as it is back.
#[test]
fn whoever_changes_something_and_leaves_without_goodbye_may_come_back() {
    let server = serve(Answer::Open);
    let desk = &server.device;
    let gone = || eventually("the end of the client", || desk.in_use() == 0);
    drop(Client::greet(&server, 3));
    let mut client = Client::simple(&server);
    client.read(0, 4096);
    assert_eq!(
        client.call(0, WRITE_ZEROES, 2 * SECTORS * SECTOR, 4096),
        ENOSPC
    );
    drop(client);
    gone();
    assert!(!desk.unsettled.is_any(), "it has changed nothing");

    for kind in [WRITE, WRITE_ZEROES, TRIM] {
        let mut client = Client::simple(&server);
        if kind == WRITE {
            assert_eq!(client.write(0, &pattern(1, 4096)), 0);
        } else {
            assert_eq!(client.call(0, kind, 0, 4096), 0);
        }
        assert!(desk.unsettled.is_any(), "it is there");
        client.disconnect();
        gone();
        assert!(!desk.unsettled.is_any(), "it has said goodbye");
    }

    let mut client = Client::simple(&server);
    client.half_close();
    client.expect_closed();
    gone();
    let mut client = Client::simple(&server);
    client.send_write(1, 0, &pattern(1, 4096));
    assert_eq!(client.simple_reply(), (0, 1));
    client.half_close();
    client.expect_closed();
    gone();
    assert!(desk.unsettled.is_any(), "an end is no goodbye");
}

/// Where a change is held up before it gets to the device, and never does.
#[test]
fn a_change_counts_from_its_arrival_on() {
    let server = serve(Answer::Open);
    let desk = &server.device;
    desk.memory.hold();
    let mut client = Client::simple(&server);
    // Less than a sector, which is read first.
    client.send_write(1, 10, &pattern(1, 10));
    eventually("its arrival", || desk.unsettled.is_any());
    desk.lose_devices();
    client.expect_closed();
    eventually("the end of the client", || desk.in_use() == 0);
    assert!(desk.unsettled.is_any());
    desk.memory.release();
}
