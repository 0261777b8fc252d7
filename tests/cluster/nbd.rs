//! A plain blocking NBD client, which says what it is refused with and keeps its connection.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use atdd::domain::SECTOR_SIZE;

use crate::machine::PATIENCE;

const OPTION_MAGIC: &[u8; 8] = b"IHAVEOPT";
const OPTION_REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;
const REQUEST_MAGIC: u32 = 0x2560_9513;
const REPLY_MAGIC: u32 = 0x6744_6698;
const GO: u32 = 7;
const ACKNOWLEDGED: u32 = 1;
const ERROR: u32 = 1 << 31;
const READ: u16 = 0;
const WRITE: u16 = 1;
const GOODBYE: u16 = 2;

/// A client that uses the export, from its beginning to its drop. To be dropped is no goodbye: for
/// the server it may come back.
pub(crate) struct NbdClient {
    stream: UnixStream,
}

impl NbdClient {
    /// Chooses the export that is served on this socket, or says with which words that is refused.
    pub(crate) fn open(socket: &Path) -> Result<Self, String> {
        let mut stream = connect(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).unwrap();
        // Fixed newstyle, without the zeroes.
        let mut choice = 3_u32.to_be_bytes().to_vec();
        choice.extend(OPTION_MAGIC);
        choice.extend(GO.to_be_bytes());
        // An empty name, and no questions about it.
        choice.extend(6_u32.to_be_bytes());
        choice.extend([0; 6]);
        stream.write_all(&choice).unwrap();
        loop {
            let (kind, data) = option_reply(&mut stream);
            match kind {
                ACKNOWLEDGED => return Ok(Self { stream }),
                kind if kind & ERROR != 0 => return Err(String::from_utf8(data).unwrap()),
                _ => {}
            }
        }
    }

    /// Chooses it as soon as that is not refused.
    pub(crate) fn open_in_time(socket: &Path) -> Self {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match Self::open(socket) {
                Ok(client) => return client,
                Err(refusal) => assert!(Instant::now() < deadline, "{refusal}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Asks for a write, and does not wait for the answer.
    pub(crate) fn send_write(&mut self, sector: u64, byte: u8) {
        let mut request = request(WRITE, sector);
        request.extend(vec![byte; SECTOR_SIZE]);
        self.stream.write_all(&request).unwrap();
    }

    pub(crate) fn write(&mut self, sector: u64, byte: u8) {
        self.send_write(sector, byte);
        assert_eq!(self.error(), Some(0));
    }

    /// The byte that fills the sector.
    pub(crate) fn read(&mut self, sector: u64) -> u8 {
        let request = request(READ, sector);
        self.stream.write_all(&request).unwrap();
        assert_eq!(self.error(), Some(0));
        let mut content = vec![0; SECTOR_SIZE];
        self.stream.read_exact(&mut content).unwrap();
        assert!(content.iter().all(|byte| *byte == content[0]), "it is torn");
        content[0]
    }

    /// Leaves, and says that it won't send anything again.
    pub(crate) fn goodbye(mut self) {
        self.stream.write_all(&request(GOODBYE, 0)).unwrap();
    }

    /// Reads whatever comes until the server has closed the connection; whether a write was
    /// acknowledged before.
    pub(crate) fn acknowledged_before_the_end(&mut self) -> bool {
        let mut acknowledged = false;
        while let Some(error) = self.error() {
            acknowledged |= error == 0;
        }
        acknowledged
    }

    /// The error of the next simple reply, 0 for none; `None` at the connection's end.
    pub(crate) fn error(&mut self) -> Option<u32> {
        let mut reply = [0; 16];
        match self.stream.read_exact(&mut reply) {
            Ok(()) => {}
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset
                ) =>
            {
                return None;
            }
            Err(error) => panic!("no reply: {error}"),
        }
        assert_eq!(reply[..4], REPLY_MAGIC.to_be_bytes());
        Some(u32::from_be_bytes(reply[4..8].try_into().unwrap()))
    }
}

fn request(command: u16, sector: u64) -> Vec<u8> {
    let length = u32::try_from(SECTOR_SIZE).unwrap();
    let mut request = REQUEST_MAGIC.to_be_bytes().to_vec();
    request.extend(0_u16.to_be_bytes());
    request.extend(command.to_be_bytes());
    request.extend(sector.to_be_bytes());
    request.extend((sector * u64::from(length)).to_be_bytes());
    request.extend(length.to_be_bytes());
    request
}

fn connect(socket: &Path) -> UnixStream {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => return stream,
            // The process was started just now.
            Err(error) => assert!(Instant::now() < deadline, "no connection: {error}"),
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn option_reply(stream: &mut UnixStream) -> (u32, Vec<u8>) {
    let mut head = [0; 20];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[..8], OPTION_REPLY_MAGIC.to_be_bytes());
    let kind = u32::from_be_bytes(head[12..16].try_into().unwrap());
    let length = u32::from_be_bytes(head[16..].try_into().unwrap());
    let mut data = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut data).unwrap();
    (kind, data)
}
