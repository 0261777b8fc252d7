//! A client of the classic protocol.

use std::io;
use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::support::*;
use crate::domain::SECTOR_SIZE;
use crate::wire::{ClientCommand, ClientRequest, ClientResponse, Tagger, decode_answer};

/// A classic client.
pub(in crate::net) struct Client {
    pub(in crate::net) stream: TcpStream,
    received: BytesMut,
}

impl Client {
    pub(in crate::net) async fn connect(address: SocketAddr) -> Self {
        Self {
            stream: TcpStream::connect(address).await.unwrap(),
            received: BytesMut::new(),
        }
    }

    pub(in crate::net) async fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub(in crate::net) async fn send(&mut self, request: &ClientRequest) {
        self.send_bytes(&encoded(request)).await;
    }

    /// The next response.
    pub(in crate::net) async fn receive(&mut self) -> ClientResponse {
        let response = self.next_response(&client_key(), |_| None).await;
        response.expect("the connection is open")
    }

    /// The next response with tags of this kind, for one who knows how many sectors the READ RANGE
    /// of a number asked for; `None` when the connection was closed between two responses.
    pub(in crate::net) async fn next_response(
        &mut self,
        tagger: &dyn Tagger,
        sectors: impl Fn(u64) -> Option<u32>,
    ) -> Option<ClientResponse> {
        let receiving = async {
            loop {
                let next = decode_answer(tagger, &mut self.received, &sectors).unwrap();
                if next.is_some() {
                    return next;
                }
                let read = self.stream.read_buf(&mut self.received).await;
                if read.expect("a reset may cost the last responses") == 0 {
                    assert!(self.received.is_empty());
                    return None;
                }
            }
        };
        timeout(PATIENCE, receiving).await.expect("a response")
    }

    /// Asserts that the connection is closed without another response.
    #[track_caller]
    pub(in crate::net) fn assert_closed(mut self) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            let closed = timeout(PATIENCE, closed(&mut self.stream)).await;
            assert!(closed.is_ok(), "not closed at {caller}");
            assert!(self.received.is_empty());
        }
    }

    /// Whether there is nothing to be received just now.
    pub(in crate::net) fn is_silent(&mut self) -> bool {
        let read = self.stream.try_read_buf(&mut self.received);
        read.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

/// Reads until the other end closes the connection.
pub(in crate::net) async fn closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut received = Vec::new();
    match stream.read_to_end(&mut received).await {
        Ok(_) => {}
        Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionReset),
    }
    received
}

pub(in crate::net) fn encoded(request: &ClientRequest) -> Vec<u8> {
    encoded_with(&client_key(), request)
}

pub(in crate::net) fn encoded_with(tagger: &dyn Tagger, request: &ClientRequest) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    request.encode(tagger, &mut bytes);
    bytes.to_vec()
}

pub(in crate::net) fn read(number: u64, sector: u64) -> ClientRequest {
    ClientRequest {
        number,
        sector,
        command: ClientCommand::Read,
    }
}

pub(in crate::net) fn write(number: u64, sector: u64, fill: u8) -> ClientRequest {
    ClientRequest {
        number,
        sector,
        command: ClientCommand::Write(Bytes::from(vec![fill; SECTOR_SIZE])),
    }
}
