//! Options, one by one.

use nbd_frontend::Options;

use crate::client::{
    CACHE, Client, OPT_ABORT, OPT_EXPORT_NAME, OPT_GO, OPT_INFO, OPT_LIST, OPT_STARTTLS,
    OPT_STRUCTURED_REPLY, OptionReply, READ, REP_ACK, REP_ERR_INVALID, REP_ERR_TOO_BIG,
    REP_ERR_UNKNOWN, REP_ERR_UNSUP, REP_SERVER,
};
use crate::served::{SIZE, Served, options, serve, serve_with};

const INFO_NAME: u16 = 1;
const INFO_DESCRIPTION: u16 = 2;
const INFO_BLOCK_SIZE: u16 = 3;
const FLAGS: u16 = 0xd6d;
const FLAG_DF: u16 = 0x80;

fn named() -> Served {
    serve_with(Options {
        export_name: "disk".to_owned(),
        description: "a tëst".to_owned(),
        ..options()
    })
}

fn export_info(flags: u16) -> Vec<u8> {
    [&[0, 0], &SIZE.to_be_bytes()[..], &flags.to_be_bytes()].concat()
}

/// The connection is in transmission, and in step.
fn expect_transmission(client: &mut Client) {
    assert_eq!(client.call(0, CACHE, 0, 4096), 0);
}

#[test]
fn client_flags_that_were_not_offered_drop_the_connection() {
    let server = serve();
    for flags in [4, 0x8000_0000, 0x0001_0003] {
        let mut client = Client::greet(&server, flags);
        client.expect_closed();
    }
}

#[test]
fn export_name_is_padded_unless_no_zeroes_was_agreed() {
    let server = named();
    for name in [&b""[..], b"disk"] {
        for (flags, padding) in [(0, 124), (1, 124), (2, 0), (3, 0)] {
            let mut client = Client::greet(&server, flags);
            client.option(OPT_EXPORT_NAME, name);
            assert_eq!(client.receive_u64(), SIZE);
            assert_eq!(client.receive(2), FLAGS.to_be_bytes());
            assert_eq!(client.receive(padding), vec![0; padding]);
            expect_transmission(&mut client);
        }
    }
}

#[test]
fn export_name_of_an_unknown_export_drops_the_connection() {
    let server = named();
    for name in [
        b"disk2".to_vec(),
        b"dis".to_vec(),
        vec![0xff],
        vec![b'x'; 5000],
        vec![b'x'; 99_999],
    ] {
        let mut client = Client::greet(&server, 3);
        client.option(OPT_EXPORT_NAME, &name);
        client.expect_closed();
    }
}

#[test]
fn go_tells_what_was_asked_for_and_starts_transmission_without_padding() {
    let server = named();
    let mut client = Client::greet(&server, 1);
    client.ask(
        OPT_GO,
        "disk",
        &[INFO_BLOCK_SIZE, INFO_NAME, 99, INFO_DESCRIPTION],
    );
    assert_eq!(
        client.infos(),
        [
            export_info(FLAGS),
            b"\0\x01disk".to_vec(),
            "\0\x02a tëst".as_bytes().to_vec(),
            b"\0\x03\0\0\0\x01\0\0\x10\0\x02\0\0\0".to_vec(),
        ]
    );
    expect_transmission(&mut client);
}

#[test]
fn info_leaves_the_options_open_and_may_be_asked_often() {
    let server = named();
    let mut client = Client::greet(&server, 3);
    for _ in 0..3 {
        client.ask(OPT_INFO, "", &[]);
        assert_eq!(client.infos(), [export_info(FLAGS)]);
    }
    client.ask(OPT_GO, "", &[INFO_NAME]);
    assert_eq!(client.infos(), [export_info(FLAGS), b"\0\x01disk".to_vec()]);
    expect_transmission(&mut client);
}

#[test]
fn go_for_an_unknown_export_is_refused_and_the_client_may_go_on() {
    let server = named();
    let mut client = Client::greet(&server, 3);
    for option in [OPT_INFO, OPT_GO] {
        client.ask(option, "nothing", &[]);
        let reply = client.option_reply();
        assert_eq!((reply.option, reply.kind), (option, REP_ERR_UNKNOWN));
        assert!(String::from_utf8(reply.data).unwrap().contains("no export"));
    }
    client.go("disk");
    expect_transmission(&mut client);
}

#[test]
fn malformed_go_is_invalid_and_the_client_may_go_on() {
    let server = named();
    let mut client = Client::greet(&server, 3);
    let long_name = [&[0, 0, 0x10, 1], vec![b'a'; 4097].as_slice(), &[0, 0]].concat();
    for data in [
        &b""[..],
        b"\0\0\0",
        b"\0\0\0\x05disk\0\0",
        b"\xff\xff\xff\xffdisk\0\0",
        b"\0\0\0\x04disk",
        b"\0\0\0\x04disk\0\x02\0\x03",
        b"\0\0\0\x04disk\0\0\0",
        b"\0\0\0\x01\xff\0\0",
        &long_name,
    ] {
        for option in [OPT_INFO, OPT_GO] {
            client.option(option, data);
            let reply = client.option_reply();
            assert_eq!(
                (reply.option, reply.kind),
                (option, REP_ERR_INVALID),
                "{data:?}"
            );
        }
    }
    client.option(OPT_GO, &vec![0; 70_000]);
    assert_eq!(client.option_reply().kind, REP_ERR_TOO_BIG);
    client.go("disk");
    expect_transmission(&mut client);
}

#[test]
fn list_shows_name_and_description() {
    let server = named();
    let mut client = Client::greet(&server, 3);
    client.option(OPT_LIST, b"");
    let line = OptionReply {
        option: OPT_LIST,
        kind: REP_SERVER,
        data: "\0\0\0\x04diska tëst".as_bytes().to_vec(),
    };
    assert_eq!(client.option_reply(), line);
    let end = OptionReply {
        option: OPT_LIST,
        kind: REP_ACK,
        data: Vec::new(),
    };
    assert_eq!(client.option_reply(), end);
    client.option(OPT_LIST, b"x");
    assert_eq!(client.option_reply().kind, REP_ERR_INVALID);
    client.go("disk");
    expect_transmission(&mut client);
}

#[test]
fn abort_is_acknowledged_and_ends_the_connection() {
    let server = serve();
    let mut client = Client::greet(&server, 3);
    client.option(OPT_ABORT, b"");
    let end = OptionReply {
        option: OPT_ABORT,
        kind: REP_ACK,
        data: Vec::new(),
    };
    assert_eq!(client.option_reply(), end);
    client.expect_closed();
}

#[test]
fn structured_replies_are_offered_once_they_are_asked_for() {
    let server = serve();
    let mut client = Client::greet(&server, 3);
    client.option(OPT_STRUCTURED_REPLY, b"x");
    assert_eq!(client.option_reply().kind, REP_ERR_INVALID);
    client.ask(OPT_INFO, "", &[]);
    assert_eq!(client.infos(), [export_info(FLAGS)]);
    client.option(OPT_STRUCTURED_REPLY, b"");
    assert_eq!(client.option_reply().kind, REP_ACK);
    client.ask(OPT_GO, "", &[]);
    assert_eq!(client.infos(), [export_info(FLAGS | FLAG_DF)]);
    client.header(0, READ, 5, 0, 4096);
    assert_eq!(client.chunk().cookie, 5);
}

#[test]
fn unknown_options_are_refused_with_their_data_consumed() {
    let server = serve();
    let mut client = Client::greet(&server, 3);
    for (option, length) in [
        (0, 0),
        (4, 10),
        (OPT_STARTTLS, 0),
        (9, 30),
        (10, 20),
        (11, 0),
        (12, 1),
        (9999, 200_000),
    ] {
        client.option(option, &vec![0x5a; length]);
        let reply = client.option_reply();
        assert_eq!((reply.option, reply.kind), (option, REP_ERR_UNSUP));
    }
    client.go("");
    expect_transmission(&mut client);
}

#[test]
fn an_option_out_of_step_drops_the_connection() {
    let server = serve();
    let mut client = Client::greet(&server, 3);
    client.send(b"IHAVEOPX\0\0\0\x03\0\0\0\0");
    client.expect_closed();
    // What speaks another protocol ends at its first words.
    let mut browser = Client::connect(&server);
    browser.receive(18);
    browser.send(b"GET / HTTP/1.1\r\n\r\n");
    browser.expect_closed();
}

#[test]
fn clients_that_leave_in_the_handshake_harm_nobody() {
    let server = serve();
    for bytes in [
        &b""[..],
        b"\0",
        b"\0\0\0\x03",
        b"\0\0\0\x03IHAVE",
        b"\0\0\0\x03IHAVEOPT\0\0\0\x07",
    ] {
        let mut client = Client::connect(&server);
        client.receive(18);
        client.send(bytes);
    }
    let mut client = Client::greet(&server, 3);
    client.send(b"IHAVEOPT\0\0\0\x07\0\0\x10\0not all of it");
    drop(client);
    expect_transmission(&mut Client::simple(&server));
}
