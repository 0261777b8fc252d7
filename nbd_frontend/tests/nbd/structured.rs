//! Structured replies.

use nbd_frontend::memory::Fault;

use crate::client::{
    BLOCK_STATUS, CHUNK_DATA, CHUNK_HOLE, CHUNK_NONE, Chunk, Client, DF, EINVAL, EIO, FLUSH, READ,
    TRIM, WRITE, header, pattern,
};
use crate::served::{SIZE, serve};

fn data(done: bool, offset: u64, data: &[u8]) -> Chunk {
    let payload = [&offset.to_be_bytes()[..], data].concat();
    Chunk {
        done,
        kind: CHUNK_DATA,
        cookie: 5,
        payload,
    }
}

fn hole(done: bool, offset: u64, length: u32) -> Chunk {
    let payload = [&offset.to_be_bytes()[..], &length.to_be_bytes()].concat();
    Chunk {
        done,
        kind: CHUNK_HOLE,
        cookie: 5,
        payload,
    }
}

#[test]
fn reads_come_in_chunks_with_holes_as_holes() {
    let server = serve();
    let mut client = Client::structured(&server);
    let written = pattern(1, 3 * 4096);
    assert_eq!(client.write(2 * 4096, &written), 0);
    client.header(0, READ, 5, 0, 7 * 4096);
    assert_eq!(client.chunk(), hole(false, 0, 2 * 4096));
    assert_eq!(client.chunk(), data(false, 2 * 4096, &written));
    assert_eq!(client.chunk(), hole(true, 5 * 4096, 2 * 4096));
    // The same at no sector's edge, in parts that are copied and parts that are not.
    client.header(0, READ, 5, 8191, 3 * 4096 + 2);
    assert_eq!(client.chunk(), hole(false, 8191, 1));
    assert_eq!(client.chunk(), data(false, 8192, &written));
    assert_eq!(client.chunk(), hole(true, 5 * 4096, 1));
    client.header(0, READ, 5, 8200, 7);
    assert_eq!(client.chunk(), data(true, 8200, &written[8..15]));
    client.header(0, READ, 5, 0, 64 << 20);
    assert_eq!(client.chunk(), hole(false, 0, 2 * 4096));
    assert_eq!(client.chunk(), data(false, 2 * 4096, &written));
    assert_eq!(client.chunk(), hole(true, 5 * 4096, (64 << 20) - 5 * 4096));
}

#[test]
fn an_unfragmented_read_is_one_chunk() {
    let server = serve();
    let mut client = Client::structured(&server);
    assert_eq!(client.write(4096, b"data"), 0);
    let mut expected = vec![0; 3 << 20];
    expected[4096..4100].copy_from_slice(b"data");
    client.header(DF, READ, 5, 0, 3 << 20);
    assert_eq!(client.chunk(), data(true, 0, &expected));
    client.header(DF, READ, 5, 8192, 65_536);
    assert_eq!(client.chunk(), hole(true, 8192, 65_536));
}

#[test]
fn an_empty_read_is_an_empty_chunk() {
    let server = serve();
    let mut client = Client::structured(&server);
    for offset in [0, 5, SIZE] {
        client.header(0, READ, 5, offset, 0);
        let empty = Chunk {
            done: true,
            kind: CHUNK_NONE,
            cookie: 5,
            payload: Vec::new(),
        };
        assert_eq!(client.chunk(), empty);
    }
}

#[test]
fn errors_come_with_a_text() {
    let server = serve();
    let mut client = Client::structured(&server);
    client.header(0, READ, 5, SIZE, 4096);
    let (error, text) = client.error_chunk();
    assert_eq!(error, EINVAL);
    assert!(text.contains("pass the end"), "{text}");
    for (flags, kind) in [(2, READ), (0, BLOCK_STATUS), (8, TRIM)] {
        client.header(flags, kind, 5, 0, 4096);
        assert_eq!(client.error_chunk().0, EINVAL);
    }
    client.send(&[header(4, WRITE, 5, 0, 4096), pattern(1, 4096)].concat());
    assert_eq!(client.error_chunk().0, EINVAL);
    server.device.set_fault(Some(Fault::Io));
    client.header(0, READ, 5, 0, 4096);
    let expected = (EIO, "the device failed: told to fail".to_owned());
    assert_eq!(client.error_chunk(), expected);
    client.header(0, FLUSH, 5, 0, 0);
    assert_eq!(client.error_chunk(), expected);
}
