//! A client that says exactly what a test tells it to, right or wrong.
//!
//! It knows nothing of the server's code: the constants are written out once more, from the
//! specification.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use crate::served::Served;

pub(crate) const READ: u16 = 0;
pub(crate) const WRITE: u16 = 1;
pub(crate) const DISC: u16 = 2;
pub(crate) const FLUSH: u16 = 3;
pub(crate) const TRIM: u16 = 4;
pub(crate) const CACHE: u16 = 5;
pub(crate) const WRITE_ZEROES: u16 = 6;
pub(crate) const BLOCK_STATUS: u16 = 7;

pub(crate) const FUA: u16 = 1;
pub(crate) const NO_HOLE: u16 = 2;
pub(crate) const DF: u16 = 4;
pub(crate) const FAST_ZERO: u16 = 16;

pub(crate) const OPT_EXPORT_NAME: u32 = 1;
pub(crate) const OPT_ABORT: u32 = 2;
pub(crate) const OPT_LIST: u32 = 3;
pub(crate) const OPT_STARTTLS: u32 = 5;
pub(crate) const OPT_INFO: u32 = 6;
pub(crate) const OPT_GO: u32 = 7;
pub(crate) const OPT_STRUCTURED_REPLY: u32 = 8;

pub(crate) const REP_ACK: u32 = 1;
pub(crate) const REP_SERVER: u32 = 2;
pub(crate) const REP_INFO: u32 = 3;
pub(crate) const REP_ERR_UNSUP: u32 = 0x8000_0001;
pub(crate) const REP_ERR_POLICY: u32 = 0x8000_0002;
pub(crate) const REP_ERR_INVALID: u32 = 0x8000_0003;
pub(crate) const REP_ERR_UNKNOWN: u32 = 0x8000_0006;
pub(crate) const REP_ERR_TOO_BIG: u32 = 0x8000_0009;

pub(crate) const EPERM: u32 = 1;
pub(crate) const EIO: u32 = 5;
pub(crate) const EINVAL: u32 = 22;
pub(crate) const ENOSPC: u32 = 28;
pub(crate) const EOVERFLOW: u32 = 75;
pub(crate) const ENOTSUP: u32 = 95;
pub(crate) const ESHUTDOWN: u32 = 108;

pub(crate) const CHUNK_NONE: u16 = 0;
pub(crate) const CHUNK_DATA: u16 = 1;
pub(crate) const CHUNK_HOLE: u16 = 2;
pub(crate) const CHUNK_ERROR: u16 = 0x8001;

/// A reply to an option.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OptionReply {
    pub(crate) option: u32,
    pub(crate) kind: u32,
    pub(crate) data: Vec<u8>,
}

/// A chunk of a structured reply.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) done: bool,
    pub(crate) kind: u16,
    pub(crate) cookie: u64,
    pub(crate) payload: Vec<u8>,
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
}

impl Client {
    /// A connection on which nothing was said.
    pub(crate) fn connect<D>(server: &Served<D>) -> Self {
        Self::connect_to(server.socket_address())
    }

    pub(crate) fn connect_to(server: SocketAddr) -> Self {
        let stream = TcpStream::connect(server).unwrap();
        // No test waits for ever.
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        stream
            .set_write_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// A connection in which options can be sent.
    pub(crate) fn greet<D>(server: &Served<D>, flags: u32) -> Self {
        let mut client = Self::connect(server);
        client.answer_greeting(flags);
        client
    }

    pub(crate) fn answer_greeting(&mut self, flags: u32) {
        assert_eq!(self.receive(18), b"NBDMAGICIHAVEOPT\x00\x03");
        self.send(&flags.to_be_bytes());
    }

    /// A connection in transmission, by GO, with simple replies.
    pub(crate) fn simple<D>(server: &Served<D>) -> Self {
        let mut client = Self::greet(server, 3);
        client.go("");
        client
    }

    /// A connection in transmission, by GO, with structured replies.
    pub(crate) fn structured<D>(server: &Served<D>) -> Self {
        let mut client = Self::greet(server, 3);
        client.option(OPT_STRUCTURED_REPLY, b"");
        assert_eq!(client.option_reply().kind, REP_ACK);
        client.go("");
        client
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    pub(crate) fn receive(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn receive_u16(&mut self) -> u16 {
        u16::from_be_bytes(self.receive(2).try_into().unwrap())
    }

    pub(crate) fn receive_u32(&mut self) -> u32 {
        u32::from_be_bytes(self.receive(4).try_into().unwrap())
    }

    pub(crate) fn receive_u64(&mut self) -> u64 {
        u64::from_be_bytes(self.receive(8).try_into().unwrap())
    }

    /// The server closes, in order or by a reset, without another byte.
    pub(crate) fn expect_closed(&mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
        assert_eq!(rest, b"");
    }

    /// Closes this side for writing.
    pub(crate) fn half_close(&mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    pub(crate) fn option(&mut self, option: u32, data: &[u8]) {
        self.send(&option_bytes(option, data));
    }

    pub(crate) fn option_reply(&mut self) -> OptionReply {
        assert_eq!(self.receive_u64(), 0x0003_e889_0455_65a9);
        let (option, kind, length) = (self.receive_u32(), self.receive_u32(), self.receive_u32());
        OptionReply {
            option,
            kind,
            data: self.receive(usize::try_from(length).unwrap()),
        }
    }

    /// Sends INFO or GO.
    pub(crate) fn ask(&mut self, option: u32, name: &str, wanted: &[u16]) {
        let mut data = u32::try_from(name.len()).unwrap().to_be_bytes().to_vec();
        data.extend(name.as_bytes());
        data.extend(u16::try_from(wanted.len()).unwrap().to_be_bytes());
        data.extend(wanted.iter().flat_map(|kind| kind.to_be_bytes()));
        self.option(option, &data);
    }

    /// All replies to INFO or GO before the ACK.
    pub(crate) fn infos(&mut self) -> Vec<Vec<u8>> {
        let mut infos = Vec::new();
        loop {
            let reply = self.option_reply();
            match reply.kind {
                REP_INFO => infos.push(reply.data),
                REP_ACK => return infos,
                kind => panic!("reply {kind:#x}: {}", String::from_utf8_lossy(&reply.data)),
            }
        }
    }

    pub(crate) fn go(&mut self, name: &str) {
        self.ask(OPT_GO, name, &[]);
        self.infos();
    }

    /// Sends a request without its payload.
    pub(crate) fn header(&mut self, flags: u16, kind: u16, cookie: u64, offset: u64, length: u32) {
        self.send(&header(flags, kind, cookie, offset, length));
    }

    /// Sends a WRITE with its payload.
    pub(crate) fn send_write(&mut self, cookie: u64, offset: u64, data: &[u8]) {
        let length = u32::try_from(data.len()).unwrap();
        self.send(&[&header(0, WRITE, cookie, offset, length), data].concat());
    }

    /// A simple reply's error and cookie.
    pub(crate) fn simple_reply(&mut self) -> (u32, u64) {
        assert_eq!(self.receive_u32(), 0x6744_6698);
        (self.receive_u32(), self.receive_u64())
    }

    pub(crate) fn chunk(&mut self) -> Chunk {
        assert_eq!(self.receive_u32(), 0x668e_33ef);
        let (flags, kind, cookie) = (self.receive_u16(), self.receive_u16(), self.receive_u64());
        assert!(flags <= 1, "there is no other flag than DONE");
        let length = usize::try_from(self.receive_u32()).unwrap();
        Chunk {
            done: flags == 1,
            kind,
            cookie,
            payload: self.receive(length),
        }
    }

    /// An error chunk's error and text.
    pub(crate) fn error_chunk(&mut self) -> (u32, String) {
        let chunk = self.chunk();
        assert_eq!((chunk.kind, chunk.done), (CHUNK_ERROR, true));
        let (error, rest) = chunk.payload.split_first_chunk().unwrap();
        let (length, text) = rest.split_first_chunk().unwrap();
        assert_eq!(usize::from(u16::from_be_bytes(*length)), text.len());
        (
            u32::from_be_bytes(*error),
            String::from_utf8(text.to_vec()).unwrap(),
        )
    }

    /// A request without payload, and the error of its simple reply.
    pub(crate) fn call(&mut self, flags: u16, kind: u16, offset: u64, length: u32) -> u32 {
        self.header(flags, kind, 77, offset, length);
        let (error, cookie) = self.simple_reply();
        assert_eq!(cookie, 77);
        error
    }

    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) -> u32 {
        self.send_write(78, offset, data);
        let (error, cookie) = self.simple_reply();
        assert_eq!(cookie, 78);
        error
    }

    /// Reads by a simple reply.
    pub(crate) fn read(&mut self, offset: u64, length: u32) -> Vec<u8> {
        assert_eq!(self.call(0, READ, offset, length), 0);
        self.receive(usize::try_from(length).unwrap())
    }

    /// Leaves, and sees that the server has nothing more to say.
    pub(crate) fn disconnect(mut self) {
        self.header(0, DISC, 0, 0, 0);
        self.expect_closed();
    }
}

pub(crate) fn option_bytes(option: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = b"IHAVEOPT".to_vec();
    bytes.extend(option.to_be_bytes());
    bytes.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
    bytes.extend(data);
    bytes
}

pub(crate) fn header(flags: u16, kind: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = 0x2560_9513_u32.to_be_bytes().to_vec();
    bytes.extend(flags.to_be_bytes());
    bytes.extend(kind.to_be_bytes());
    bytes.extend(cookie.to_be_bytes());
    bytes.extend(offset.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}

/// Bytes that differ from one another, by a seed.
pub(crate) fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        bytes.extend((state ^ (state >> 29)).to_be_bytes());
    }
    bytes.truncate(length);
    bytes
}
