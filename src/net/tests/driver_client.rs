//! A client of the classic protocol that attaches, as drivers do.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::classic_client::{Client, encoded_with};
use super::support::*;
use super::volume::{Operation, attach};
use crate::domain::{Attach, AttachRefusal, SECTOR_SIZE};
use crate::wire::{
    AttachAnswer, ClientCommand, ClientKind, ClientRequest, ClientResponse, ClientStatus,
    ConnectionSession, Tagger,
};

/// A driver on one connection.
pub(super) struct Driver {
    pub(super) client: Client,
    pub(super) of_requests: Box<dyn Tagger + Send>,
    of_responses: Box<dyn Tagger + Send>,
    /// What the last HELLO was answered.
    pub(super) session: Option<ConnectionSession>,
    pub(super) next_number: u64,
    ranges: BTreeMap<u64, u32>,
}

impl Driver {
    pub(super) async fn connect(server: &Server) -> Self {
        Self {
            client: server.connect().await,
            of_requests: Box::new(client_key()),
            of_responses: Box::new(client_key()),
            session: None,
            next_number: 1,
            ranges: BTreeMap::new(),
        }
    }

    /// A driver that is attached, as the only one.
    pub(super) async fn attached(server: &Server) -> Self {
        allow(server, Ok(()));
        let mut driver = Self::connect(server).await;
        let answer = driver.attach(attach()).await;
        assert_eq!(answer.0, ClientStatus::Ok);
        driver
    }

    pub(super) async fn attach(&mut self, attach: Attach) -> (ClientStatus, AttachAnswer) {
        let number = self.send_attach(attach).await;
        self.attach_answer(number).await
    }

    /// Says HELLO, and sends an ATTACH of that session.
    pub(super) async fn send_attach(&mut self, attach: Attach) -> u64 {
        let session = self.hello().await;
        let command = ClientCommand::Attach { attach, session };
        self.send(0, command).await
    }

    /// Attaches by an ATTACH of this session, whoever it was drawn for.
    pub(super) async fn attach_by(&mut self, session: ConnectionSession) -> ClientStatus {
        let attach = attach();
        let command = ClientCommand::Attach { attach, session };
        let number = self.send(0, command).await;
        self.attach_answer(number).await.0
    }

    pub(super) async fn hello(&mut self) -> ConnectionSession {
        let (status, session) = self.ask(0, ClientCommand::Hello).await;
        assert_eq!(status, ClientStatus::Ok);
        let session = ConnectionSession((&session[..]).try_into().unwrap());
        self.session = Some(session);
        session
    }

    /// The answer to an ATTACH; from an `Ok` on the session is in force.
    pub(super) async fn attach_answer(&mut self, number: u64) -> (ClientStatus, AttachAnswer) {
        let response = self.receive().await;
        assert_eq!(
            (response.number, response.kind),
            (number, ClientKind::Attach)
        );
        let answer = AttachAnswer::decode(&response.content).unwrap();
        if response.status == ClientStatus::Ok {
            let session = self.session.unwrap();
            self.of_requests = Box::new(session.of_requests(&client_key()));
            self.of_responses = Box::new(session.of_responses(&client_key()));
        }
        (response.status, answer)
    }

    pub(super) async fn send(&mut self, sector: u64, command: ClientCommand) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        if let ClientCommand::ReadRange { count } = command {
            self.ranges.insert(number, count);
        }
        let bytes = self.encoded(number, sector, command);
        self.client.send_bytes(&bytes).await;
        number
    }

    pub(super) fn encoded(&self, number: u64, sector: u64, command: ClientCommand) -> Vec<u8> {
        let request = ClientRequest {
            number,
            sector,
            command,
        };
        encoded_with(&*self.of_requests, &request)
    }

    /// The next response, or `None` when the server has ended the connection in order.
    async fn try_receive(&mut self) -> Option<ClientResponse> {
        let sectors = |number| self.ranges.get(&number).copied();
        self.client
            .next_response(&*self.of_responses, sectors)
            .await
    }

    pub(super) async fn receive(&mut self) -> ClientResponse {
        self.try_receive().await.expect("it is open")
    }

    /// Sends and waits for the only answer.
    pub(super) async fn ask(
        &mut self,
        sector: u64,
        command: ClientCommand,
    ) -> (ClientStatus, Bytes) {
        let number = self.send(sector, command).await;
        let response = self.receive().await;
        assert_eq!(response.number, number);
        (response.status, response.content)
    }

    /// Asserts that the connection is closed without another response, and without a reset, which
    /// might cost the driver earlier ones.
    pub(super) async fn assert_closed(mut self) {
        assert_eq!(self.try_receive().await, None);
    }

    /// Nothing is answered for a moment.
    pub(super) async fn assert_silent(&mut self) {
        let waited = timeout(Duration::from_millis(30), self.try_receive()).await;
        assert!(waited.is_err(), "{waited:?}");
    }
}

/// Decides what attaches are told.
pub(super) fn allow(server: &Server, outcome: Result<(), AttachRefusal>) {
    let decision = &server.host.volume.decision;
    decision.change(|decision| *decision = Some(outcome));
}

/// Waits until nobody is attached.
pub(super) async fn gone(server: &Server) {
    server.host.volume.attached.becomes(0).await;
}

pub(super) fn operations(server: &Server) -> Vec<Operation> {
    server.host.volume.operations.lock().clone()
}

/// A response without content.
pub(super) fn bare(status: ClientStatus) -> (ClientStatus, Bytes) {
    (status, Bytes::new())
}

pub(super) fn read_range(count: u32) -> ClientCommand {
    ClientCommand::ReadRange { count }
}

pub(super) fn write_range(fills: &[u8]) -> ClientCommand {
    ClientCommand::WriteRange(sectors(fills))
}

/// Sectors that are each full of one byte.
pub(super) fn sectors(fills: &[u8]) -> Bytes {
    let bytes = fills.iter().flat_map(|&fill| [fill; SECTOR_SIZE]);
    bytes.collect()
}
