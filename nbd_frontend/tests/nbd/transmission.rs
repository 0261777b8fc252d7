//! Commands with simple replies, right and wrong.

use nbd_frontend::Options;
use nbd_frontend::memory::Fault;

use crate::client::{
    BLOCK_STATUS, CACHE, Client, DF, DISC, EINVAL, EIO, ENOSPC, ENOTSUP, EOVERFLOW, EPERM,
    ESHUTDOWN, FAST_ZERO, FLUSH, FUA, NO_HOLE, READ, TRIM, WRITE, WRITE_ZEROES, header, pattern,
};
use crate::served::{SIZE, options, serve, serve_with};

const MIB: u32 = 1 << 20;

#[test]
fn what_was_written_is_read_at_any_alignment() {
    let server = serve();
    let mut client = Client::simple(&server);
    let mut expected = vec![0; 40_000];
    for (seed, offset, length) in [
        (1, 0, 4096),
        (2, 5, 10),
        (3, 4095, 2),
        (4, 1000, 20_000),
        (5, 8192, 8192),
        (6, 39_999, 1),
    ] {
        let data = pattern(seed, length);
        expected[offset..offset + length].copy_from_slice(&data);
        assert_eq!(client.write(u64::try_from(offset).unwrap(), &data), 0);
    }
    assert_eq!(client.read(0, 40_000), expected);
    assert_eq!(client.read(4095, 2), &expected[4095..4097]);
    assert_eq!(client.read(4096, 4096), &expected[4096..8192]);
    client.disconnect();
    assert_eq!(Client::simple(&server).read(1, 39_999), &expected[1..]);
}

#[test]
fn large_requests_beyond_what_is_advertised_are_carried_out() {
    let server = serve();
    let mut client = Client::simple(&server);
    let data = pattern(1, 64 << 20);
    assert_eq!(client.write(1234, &data), 0);
    assert!(client.read(1234, 64 * MIB) == data);
}

#[test]
fn trims_free_whole_sectors_only() {
    let server = serve();
    let mut client = Client::simple(&server);
    assert_eq!(client.write(0, &vec![1; 5 * 4096]), 0);
    assert_eq!(client.call(0, TRIM, 4095, 2 * 4096), 0);
    assert_eq!(server.device.sectors_stored(), 4);
    let mut expected = vec![1; 5 * 4096];
    expected[4096..8192].fill(0);
    assert_eq!(client.read(0, 5 * 4096), expected);
    assert_eq!(client.call(0, TRIM, 0, u32::try_from(SIZE).unwrap()), 0);
    assert_eq!(server.device.sectors_stored(), 0);
}

#[test]
fn zeroes_are_written_to_the_byte_and_keep_their_space_when_told_to() {
    let server = serve();
    let mut client = Client::simple(&server);
    for (flags, stored) in [(0, 2), (FAST_ZERO, 2), (FUA | NO_HOLE, 5)] {
        assert_eq!(client.write(0, &vec![1; 5 * 4096]), 0);
        assert_eq!(client.call(flags, WRITE_ZEROES, 100, 4 * 4096), 0);
        let mut expected = vec![1; 5 * 4096];
        expected[100..100 + 4 * 4096].fill(0);
        assert_eq!(client.read(0, 5 * 4096), expected, "flags {flags}");
        assert_eq!(server.device.sectors_stored(), stored, "flags {flags}");
    }
    assert_eq!(
        client.call(NO_HOLE | FAST_ZERO, WRITE_ZEROES, 0, 4096),
        ENOTSUP
    );
    assert_eq!(client.call(0, WRITE_ZEROES, 4097, 5), 0);
}

#[test]
fn zeroes_may_be_longer_than_any_payload() {
    let server = serve();
    let mut client = Client::simple(&server);
    assert_eq!(client.write(SIZE - 4096, &[1; 4096]), 0);
    let length = u32::try_from(SIZE).unwrap() - 1;
    assert_eq!(client.call(0, WRITE_ZEROES, 1, length), 0);
    assert_eq!(server.device.sectors_stored(), 1);
    assert_eq!(client.read(SIZE - 4096, 4096), [0; 4096]);
    assert_eq!(client.call(NO_HOLE, WRITE_ZEROES, 1, length), 0);
    assert_eq!(
        u64::try_from(server.device.sectors_stored()).unwrap(),
        SIZE / 4096
    );
}

#[test]
fn fua_is_taken_on_every_command() {
    let server = serve();
    let mut client = Client::simple(&server);
    for kind in [READ, TRIM, CACHE, WRITE_ZEROES] {
        assert_eq!(client.call(FUA, kind, 0, 0), 0, "command {kind}");
    }
    assert_eq!(client.call(FUA, FLUSH, 0, 0), 0);
    client.send(&[header(FUA, WRITE, 1, 0, 3), b"abc".to_vec()].concat());
    assert_eq!(client.simple_reply(), (0, 1));
    client.header(FUA, DISC, 0, 0, 0);
    client.expect_closed();
}

#[test]
fn nothing_at_all_succeeds_up_to_the_end() {
    let server = serve();
    let mut client = Client::simple(&server);
    for offset in [0, 1, SIZE] {
        for kind in [READ, WRITE, TRIM, CACHE, WRITE_ZEROES] {
            assert_eq!(
                client.call(0, kind, offset, 0),
                0,
                "command {kind} at {offset}"
            );
        }
    }
    assert_eq!(client.call(0, FLUSH, 0, 0), 0);
}

#[test]
fn requests_past_the_end_fail_as_each_command_should() {
    let server = serve();
    let mut client = Client::simple(&server);
    for (kind, error) in [
        (READ, EINVAL),
        (TRIM, EINVAL),
        (CACHE, EINVAL),
        (WRITE_ZEROES, ENOSPC),
    ] {
        for (offset, length) in [(SIZE - 1, 2), (SIZE, 1), (SIZE + 1, 0), (u64::MAX, 4096)] {
            assert_eq!(
                client.call(0, kind, offset, length),
                error,
                "command {kind} at {offset}"
            );
        }
    }
    for offset in [SIZE - 1, SIZE, u64::MAX] {
        assert_eq!(client.write(offset, b"no"), ENOSPC);
    }
    assert_eq!(server.device.sectors_stored(), 0);
    assert_eq!(client.write(SIZE - 2, b"ok"), 0);
    assert_eq!(client.read(SIZE - 2, 2), b"ok");
}

#[test]
fn a_read_only_export_refuses_writes_and_stays_in_step() {
    let server = serve_with(Options {
        read_only: true,
        ..options()
    });
    let mut client = Client::simple(&server);
    assert_eq!(client.write(0, &pattern(1, 100_000)), EPERM);
    assert_eq!(client.call(0, TRIM, 0, 4096), EPERM);
    assert_eq!(client.call(0, WRITE_ZEROES, 0, 4096), EPERM);
    assert_eq!(client.call(0, FLUSH, 0, 0), 0);
    assert_eq!(client.read(0, 5), [0; 5]);
    assert_eq!(server.device.sectors_stored(), 0);
}

#[test]
fn unknown_commands_and_flags_are_invalid_and_leave_the_stream_in_step() {
    let server = serve();
    let mut client = Client::simple(&server);
    for kind in [BLOCK_STATUS, 8, 9, 255, u16::MAX] {
        assert_eq!(client.call(0, kind, 0, 4096), EINVAL);
    }
    for (flags, kind) in [
        (2, READ),
        (8, READ),
        (DF, READ),
        (0x8000, TRIM),
        (4, WRITE_ZEROES),
    ] {
        assert_eq!(client.call(flags, kind, 0, 4096), EINVAL);
    }
    client.send(&[header(NO_HOLE, WRITE, 9, 0, 5000), pattern(1, 5000)].concat());
    assert_eq!(client.simple_reply(), (EINVAL, 9));
    assert_eq!(client.call(0, FLUSH, 4096, 0), EINVAL);
    assert_eq!(client.call(0, FLUSH, 0, 1), EINVAL);
    assert_eq!(client.write(0, b"in step"), 0);
    assert_eq!(client.read(0, 7), b"in step");
}

#[test]
fn oversize_requests_overflow_and_their_payload_is_consumed() {
    let server = serve();
    let mut client = Client::simple(&server);
    assert_eq!(client.call(0, READ, 0, 64 * MIB + 1), EOVERFLOW);
    client.send(&header(0, WRITE, 9, 0, 66 * MIB));
    let mebibyte = vec![0x25; 1 << 20];
    for _ in 0..66 {
        client.send(&mebibyte);
    }
    assert_eq!(client.simple_reply(), (EOVERFLOW, 9));
    assert_eq!(client.write(0, b"in step"), 0);
    assert_eq!(server.device.sectors_stored(), 1);
}

#[test]
fn a_request_out_of_step_closes_the_connection() {
    let server = serve();
    let mut client = Client::simple(&server);
    client.send(&[0; 28]);
    client.expect_closed();
    Client::simple(&server).disconnect();
}

#[test]
fn requests_run_side_by_side_and_are_answered_as_they_get_done() {
    let server = serve();
    let mut client = Client::simple(&server);
    server.device.hold();
    for cookie in 0..100 {
        client.send_write(cookie, cookie * 4096, &pattern(cookie, 4096));
    }
    client.header(0, CACHE, 1000, 0, 4096);
    // Nothing else has a reply while the device holds the writes.
    assert_eq!(client.simple_reply(), (0, 1000));
    server.device.release();
    let mut cookies: Vec<u64> = (0..100).map(|_| client.simple_reply().1).collect();
    cookies.sort_unstable();
    assert!(cookies.into_iter().eq(0..100));
    for sector in 0..100 {
        assert_eq!(client.read(sector * 4096, 4096), pattern(sector, 4096));
    }
}

#[test]
fn disconnect_lets_requests_under_way_finish_first() {
    let server = serve();
    let mut client = Client::simple(&server);
    server.device.hold();
    client.send_write(1, 0, b"first");
    client.header(0, READ, 2, 4096, 8);
    client.header(0, DISC, 3, 0, 0);
    // Another connection proves that the server has read all three: this one is served after them.
    Client::simple(&server).disconnect();
    server.device.release();
    let mut replies = Vec::new();
    for _ in 0..2 {
        let reply = client.simple_reply();
        if reply.1 == 2 {
            assert_eq!(client.receive(8), [0; 8]);
        }
        replies.push(reply);
    }
    replies.sort_unstable();
    assert_eq!(replies, [(0, 1), (0, 2)]);
    client.expect_closed();
    assert_eq!(Client::simple(&server).read(0, 5), b"first");
}

#[test]
fn a_client_that_closes_its_side_still_gets_its_replies() {
    let server = serve();
    let mut client = Client::simple(&server);
    client.send_write(1, 0, &pattern(1, 50_000));
    client.half_close();
    assert_eq!(client.simple_reply(), (0, 1));
    client.expect_closed();
    assert_eq!(Client::simple(&server).read(0, 50_000), pattern(1, 50_000));
}

#[test]
fn trouble_of_the_device_is_told_and_ends_with_the_trouble() {
    let server = serve();
    let mut client = Client::simple(&server);
    for (fault, read, write) in [
        (Fault::Io, EIO, EIO),
        (Fault::NoSpace, 0, ENOSPC),
        (Fault::ShuttingDown, ESHUTDOWN, ESHUTDOWN),
    ] {
        server.device.set_fault(Some(fault));
        assert_eq!(
            client.call(0, READ, 0, 0),
            0,
            "nothing is asked of the device"
        );
        assert_eq!(client.call(0, READ, 0, 4096), read);
        if read == 0 {
            client.receive(4096);
        }
        for data in [&[1; 4096][..], b"a part"] {
            assert_eq!(client.write(0, data), write);
        }
        for kind in [TRIM, WRITE_ZEROES] {
            assert_eq!(client.call(0, kind, 0, 4096), write);
        }
        assert_eq!(client.call(0, FLUSH, 0, 0), write);
    }
    server.device.set_fault(None);
    assert_eq!(client.write(0, &[1; 4096]), 0);
}

#[test]
fn requests_may_arrive_byte_by_byte_and_all_at_once() {
    let server = serve();
    let mut client = Client::simple(&server);
    let mut stream = Vec::new();
    for (cookie, length) in [(0, 0), (1, 1), (2, 2047), (3, 2048), (4, 5000), (5, 40_000)] {
        let offset = cookie * 100_000;
        stream.extend(header(
            0,
            WRITE,
            cookie,
            offset,
            u32::try_from(length).unwrap(),
        ));
        stream.extend(pattern(cookie, length));
        stream.extend(header(9, WRITE, cookie + 50, offset, 3));
        stream.extend(b"bad");
    }
    let expect_replies = |client: &mut Client| {
        let mut replies: Vec<_> = (0..12).map(|_| client.simple_reply()).collect();
        replies.sort_unstable_by_key(|(_, cookie)| *cookie);
        let good = (0..6).map(|cookie| (0, cookie));
        let bad = (50..56).map(|cookie| (EINVAL, cookie));
        assert!(replies.into_iter().eq(good.chain(bad)));
    };
    client.send(&stream);
    expect_replies(&mut client);
    for bytes in stream.chunks(7) {
        client.send(bytes);
    }
    expect_replies(&mut client);
    assert_eq!(client.read(500_000, 40_000), pattern(5, 40_000));
}
