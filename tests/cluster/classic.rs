//! A plain blocking client of the classic protocol.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use atdd::domain::SECTOR_SIZE;
use atdd::wire::{
    ClientCommand, ClientKey, ClientRequest, ClientResponse, ClientStatus, ConnectionSession,
    Tagger, decode_answer,
};
use bytes::{Bytes, BytesMut};

use crate::machine::{Machine, PATIENCE};

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    key: ClientKey,
    of_requests: Box<dyn Tagger>,
    of_responses: Box<dyn Tagger>,
    input: BytesMut,
    next_number: u64,
    /// How many sectors a READ RANGE asks for.
    ranges: BTreeMap<u64, u32>,
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
            of_requests: Box::new(machine.client_key()),
            of_responses: Box::new(machine.client_key()),
            input: BytesMut::new(),
            next_number: 1,
            ranges: BTreeMap::new(),
        }
    }

    /// From now on messages are those of this session.
    pub(crate) fn enter(&mut self, session: ConnectionSession) {
        self.of_requests = Box::new(session.of_requests(&self.key));
        self.of_responses = Box::new(session.of_responses(&self.key));
    }

    /// What a process calls it.
    pub(crate) fn name(&self) -> String {
        self.stream.local_addr().unwrap().to_string()
    }

    /// Sends a request, and gives its number.
    pub(crate) fn send(&mut self, sector: u64, command: ClientCommand) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        if let ClientCommand::ReadRange { count } = command {
            self.ranges.insert(number, count);
        }
        let mut out = BytesMut::new();
        ClientRequest {
            number,
            sector,
            command,
        }
        .encode(&*self.of_requests, &mut out);
        // A connection that was ended takes no more, and has no answer either.
        self.stream.write_all(&out).ok();
        number
    }

    /// The next response; `None` when the process has closed the connection or is gone.
    pub(crate) fn receive(&mut self) -> Option<ClientResponse> {
        loop {
            let sectors = |number| self.ranges.get(&number).copied();
            let next = decode_answer(&*self.of_responses, &mut self.input, sectors);
            if let Some(response) = next.unwrap() {
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

    /// Sends a request and waits for the only response.
    pub(crate) fn ask(&mut self, sector: u64, command: ClientCommand) -> (ClientStatus, Bytes) {
        let number = self.send(sector, command);
        let response = self.receive().expect("a process that lives answers");
        assert_eq!(response.number, number);
        (response.status, response.content)
    }

    pub(crate) fn write(&mut self, sector: u64, content: Bytes) {
        let (status, _) = self.ask(sector, ClientCommand::Write(content));
        assert_eq!(status, ClientStatus::Ok);
    }

    pub(crate) fn read(&mut self, sector: u64) -> Bytes {
        let (status, content) = self.ask(sector, ClientCommand::Read);
        assert_eq!(status, ClientStatus::Ok);
        content
    }
}
