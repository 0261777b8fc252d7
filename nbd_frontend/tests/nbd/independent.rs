//! The crate `nbd` as a client that was not written by us: `EXPORT_NAME` without `NO_ZEROES`, simple
//! replies, one request at a time.

use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpStream;

use nbd::client::{NbdClient, NbdExt, handshake};
use nbd_frontend::DEFAULT_PORT;

use crate::client::pattern;
use crate::served::{SIZE, serve};

#[test]
fn the_default_port_is_that_of_everybody_else() {
    assert_eq!(DEFAULT_PORT, nbd::server::DEFAULT_TCP_PORT);
}

#[test]
fn an_independent_client_writes_reads_flushes_and_trims() {
    let server = serve();
    let mut stream = TcpStream::connect(server.socket_address()).unwrap();
    let export = handshake(&mut stream, b"").unwrap();
    assert_eq!(export.size, SIZE);
    assert!(export.send_flush && export.send_trim && !export.readonly);
    let mut disk = NbdClient::new(&mut stream, &export);
    let data = pattern(1, 300_000);
    disk.seek(SeekFrom::Start(12_345)).unwrap();
    disk.write_all(&data).unwrap();
    disk.flush().unwrap();
    let mut found = vec![0; data.len()];
    disk.seek(SeekFrom::Start(12_345)).unwrap();
    disk.read_exact(&mut found).unwrap();
    assert!(found == data);
    disk.seek(SeekFrom::Start(16_384)).unwrap();
    disk.trim(8192).unwrap();
    disk.seek(SeekFrom::Start(16_384)).unwrap();
    disk.read_exact(&mut found[..8193]).unwrap();
    assert_eq!(&found[..8192], [0; 8192]);
    assert_eq!(found[8192], data[16_384 - 12_345 + 8192]);
}
