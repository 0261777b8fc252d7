//! A plain blocking client of the classic protocol.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use atdd::domain::SECTOR_SIZE;
use atdd::wire::{
    ClientCommand, ClientKey, ClientRequest, ClientResponse, ClientStatus, decode_response,
};
use bytes::{Bytes, BytesMut};

use crate::machine::{Machine, PATIENCE};

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    key: ClientKey,
    input: BytesMut,
    next_number: u64,
}

/// A sector of one byte over and over.
pub(crate) fn sector_of(byte: u8) -> Bytes {
    Bytes::from(vec![byte; SECTOR_SIZE])
}

impl Client {
    /// A connection to the process of this rank.
    pub(crate) fn to(machine: &Machine, rank: usize) -> Self {
        let deadline = Instant::now() + PATIENCE;
        let stream = loop {
            match TcpStream::connect(&machine.addresses[rank - 1]) {
                Ok(stream) => break stream,
                // It was started just now.
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                    assert!(Instant::now() < deadline, "process {rank} does not listen");
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => panic!("no connection: {error}"),
            }
        };
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self {
            stream,
            key: machine.client_key(),
            input: BytesMut::new(),
            next_number: 1,
        }
    }

    /// Sends a request, and gives its number.
    pub(crate) fn send(&mut self, sector: u64, command: ClientCommand) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        let mut out = BytesMut::new();
        ClientRequest {
            number,
            sector,
            command,
        }
        .encode(&self.key, &mut out);
        self.stream.write_all(&out).unwrap();
        number
    }

    /// The next response; `None` when the process has closed the connection or is gone.
    pub(crate) fn receive(&mut self) -> Option<ClientResponse> {
        loop {
            if let Some(response) = decode_response(&self.key, &mut self.input).unwrap() {
                return Some(response);
            }
            let mut bytes = [0; 8 * 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(length) => self.input.extend_from_slice(&bytes[..length]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("no response: {error}"),
            }
        }
    }

    pub(crate) fn write(&mut self, sector: u64, content: Bytes) {
        let number = self.send(sector, ClientCommand::Write(content));
        let response = self.receive().expect("a process that lives answers");
        assert_eq!(
            (response.number, response.status),
            (number, ClientStatus::Ok)
        );
    }

    pub(crate) fn read(&mut self, sector: u64) -> Bytes {
        let number = self.send(sector, ClientCommand::Read);
        let response = self.receive().expect("a process that lives answers");
        assert_eq!(
            (response.number, response.status),
            (number, ClientStatus::Ok)
        );
        response.content
    }
}
