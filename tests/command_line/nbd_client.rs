//! As much of an NBD client as these tests need: the oldest handshake, and one request at a time.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use crate::program::DEADLINE;

/// A connection that has chosen the export.
pub(crate) struct NbdClient {
    stream: TcpStream,
    pub(crate) size: u64,
}

impl NbdClient {
    /// Connects to a URI of the form `nbd://HOST:PORT`. Fails when the export is refused.
    pub(crate) fn connect(uri: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect(uri.strip_prefix("nbd://").unwrap())?;
        stream.set_read_timeout(Some(DEADLINE))?;
        let greeting: [u8; 18] = receive(&mut stream)?;
        assert_eq!(&greeting[..16], b"NBDMAGICIHAVEOPT");
        // Fixed newstyle without zeroes, then EXPORT_NAME with the empty name.
        stream.write_all(&[0, 0, 0, 3])?;
        stream.write_all(b"IHAVEOPT\0\0\0\x01\0\0\0\0")?;
        let size: [u8; 8] = receive(&mut stream)?;
        let _flags: [u8; 2] = receive(&mut stream)?;
        Ok(Self {
            stream,
            size: u64::from_be_bytes(size),
        })
    }

    pub(crate) fn read(&mut self, offset: u64, length: u32) -> io::Result<Vec<u8>> {
        self.request(0, offset, length, &[])?;
        let mut data = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut data)?;
        Ok(data)
    }

    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.request(1, offset, u32::try_from(data.len()).unwrap(), data)
    }

    /// Returns once the server has closed the connection.
    pub(crate) fn closed(&mut self) -> bool {
        matches!(self.stream.read(&mut [0]), Ok(0))
    }

    fn request(&mut self, kind: u8, offset: u64, length: u32, data: &[u8]) -> io::Result<()> {
        let mut request = vec![0x25, 0x60, 0x95, 0x13, 0, 0, 0, kind];
        request.extend([7; 8]);
        request.extend(offset.to_be_bytes());
        request.extend(length.to_be_bytes());
        request.extend(data);
        self.stream.write_all(&request)?;
        let reply: [u8; 16] = receive(&mut self.stream)?;
        assert_eq!(reply[..4], [0x67, 0x44, 0x66, 0x98]);
        assert_eq!(reply[8..], [7; 8]);
        match u32::from_be_bytes(reply[4..8].try_into().unwrap()) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(i32::try_from(error).unwrap())),
        }
    }
}

fn receive<const N: usize>(stream: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}
