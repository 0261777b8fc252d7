//! Classic clients that attach.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::classic_client::read;
use super::support::*;
use super::volume::{NEWER, Operation, TestVolume, fence};
use crate::domain::{
    Attach, AttachKind, AttachRefusal, Generation, Holder, JoinKey, OperationError, OwnerId,
    SECTOR_SIZE,
};
use crate::net::{Settings, Stage};
use crate::wire::{
    AttachAnswer, ClientCommand, ClientKey, ClientKind, ClientRequest, ClientResponse,
    ClientStatus, ConnectionSession, Credit, DATA_SECTORS_MAX, DISCARD_SECTORS_MAX, Tagger,
    decode_answer,
};

/// A driver on one connection.
struct Driver {
    stream: TcpStream,
    received: BytesMut,
    of_requests: Box<dyn Tagger + Send>,
    of_responses: Box<dyn Tagger + Send>,
    next_number: u64,
    ranges: BTreeMap<u64, u32>,
}

impl Driver {
    async fn connect(server: &Server) -> Self {
        Self {
            stream: TcpStream::connect(server.address).await.unwrap(),
            received: BytesMut::new(),
            of_requests: Box::new(client_key()),
            of_responses: Box::new(client_key()),
            next_number: 1,
            ranges: BTreeMap::new(),
        }
    }

    /// A driver that is attached, as the only one.
    async fn attached(server: &Server) -> Self {
        allow(server, Ok(()));
        let mut driver = Self::connect(server).await;
        let answer = driver.attach(attach()).await;
        assert_eq!(answer.0, ClientStatus::Ok);
        driver
    }

    async fn attach(&mut self, attach: Attach) -> (ClientStatus, AttachAnswer) {
        let number = self.send(0, ClientCommand::Attach(attach)).await;
        self.attach_answer(number).await
    }

    /// The answer to an ATTACH; from an `Ok` on the session is in force.
    async fn attach_answer(&mut self, number: u64) -> (ClientStatus, AttachAnswer) {
        let response = self.receive().await;
        assert_eq!(
            (response.number, response.kind),
            (number, ClientKind::Attach)
        );
        let answer = AttachAnswer::decode(&response.content).unwrap();
        if let Some(session) = answer.session {
            assert_eq!(response.status, ClientStatus::Ok);
            self.of_requests = Box::new(session.of_requests(&client_key()));
            self.of_responses = Box::new(session.of_responses(&client_key()));
        }
        (response.status, answer)
    }

    async fn send(&mut self, sector: u64, command: ClientCommand) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        if let ClientCommand::ReadRange { count } = command {
            self.ranges.insert(number, count);
        }
        let bytes = self.encoded(number, sector, command);
        self.stream.write_all(&bytes).await.unwrap();
        number
    }

    fn encoded(&self, number: u64, sector: u64, command: ClientCommand) -> Vec<u8> {
        let request = ClientRequest {
            number,
            sector,
            command,
        };
        let mut bytes = BytesMut::new();
        request.encode(&*self.of_requests, &mut bytes);
        bytes.to_vec()
    }

    async fn try_receive(&mut self) -> Option<ClientResponse> {
        let ranges = &self.ranges;
        let receiving = async {
            loop {
                let sectors = |number| ranges.get(&number).copied();
                let next = decode_answer(&*self.of_responses, &mut self.received, sectors).unwrap();
                if next.is_some() {
                    return next;
                }
                match self.stream.read_buf(&mut self.received).await {
                    Ok(0) => {
                        assert!(self.received.is_empty());
                        return None;
                    }
                    Ok(_) => {}
                    Err(error) => panic!("the last answers may be lost: {error}"),
                }
            }
        };
        timeout(PATIENCE, receiving).await.expect("a response")
    }

    async fn receive(&mut self) -> ClientResponse {
        self.try_receive().await.expect("it is open")
    }

    /// Sends and waits for the only answer.
    async fn ask(&mut self, sector: u64, command: ClientCommand) -> (ClientStatus, Bytes) {
        let number = self.send(sector, command).await;
        let response = self.receive().await;
        assert_eq!(response.number, number);
        (response.status, response.content)
    }

    async fn assert_closed(mut self) {
        assert_eq!(self.try_receive().await, None);
    }

    /// Nothing is answered for a moment.
    async fn assert_silent(&mut self) {
        let waited = timeout(Duration::from_millis(30), self.try_receive()).await;
        assert!(waited.is_err(), "{waited:?}");
    }
}

fn attach() -> Attach {
    Attach {
        owner: OwnerId([3; 16]),
        kind: AttachKind::Exclusive { join: None },
        take_over: false,
        continues: None,
    }
}

fn allow(server: &Server, outcome: Result<(), AttachRefusal>) {
    let decision = &server.host.volume.decision;
    decision.change(|decision| *decision = Some(outcome));
}

fn bare(status: ClientStatus) -> (ClientStatus, Bytes) {
    (status, Bytes::new())
}

fn range(count: u32) -> ClientCommand {
    ClientCommand::ReadRange { count }
}

fn sectors(fills: &[u8]) -> Bytes {
    let bytes = fills.iter().flat_map(|&fill| [fill; SECTOR_SIZE]);
    bytes.collect()
}

fn write_range(fills: &[u8]) -> ClientCommand {
    ClientCommand::WriteRange(sectors(fills))
}

/// The fewest milliseconds that tell a silent client from one that waits for its turn to run.
fn impatient() -> Settings {
    Settings {
        client_dead_after: Duration::from_millis(300),
        ..Settings::default()
    }
}

async fn gone(server: &Server) {
    let attached = &server.host.volume.attached;
    attached
        .wait(|&mut attached| (attached == 0).then_some(()))
        .await;
}

fn operations(server: &Server) -> Vec<Operation> {
    server.host.volume.operations.lock().clone()
}

#[tokio::test]
async fn an_attached_driver_reads_and_changes_ranges() {
    let server = Server::start(Settings::default()).await;
    allow(&server, Ok(()));
    let mut driver = Driver::connect(&server).await;
    let asked = Attach {
        owner: OwnerId([9; 16]),
        kind: AttachKind::Exclusive {
            join: Some(JoinKey([8; 32])),
        },
        take_over: true,
        continues: Some(Generation(5)),
    };
    let (status, answer) = driver.attach(asked).await;
    assert_eq!(status, ClientStatus::Ok);
    let expected = AttachAnswer {
        generation: fence().generation,
        sectors: TestVolume::SECTORS,
        data_sectors_max: DATA_SECTORS_MAX,
        discard_sectors_max: DISCARD_SECTORS_MAX,
        heartbeat_ms: 500,
        process: rank(2),
        session: answer.session,
        holder: String::new(),
    };
    assert_eq!(answer, expected);
    assert!(answer.session.is_some());
    let name = driver.stream.local_addr().unwrap().to_string();
    assert_eq!(*server.host.volume.asked.lock(), [(asked, name)]);

    let ok = bare(ClientStatus::Ok);
    assert_eq!(driver.ask(5, write_range(&[1, 2, 3, 4])).await, ok);
    assert_eq!(driver.ask(6, ClientCommand::Discard { count: 2 }).await, ok);
    assert_eq!(
        driver.ask(4, range(6)).await,
        (ClientStatus::Ok, sectors(&[0, 1, 0, 0, 4, 0]))
    );
    let write = ClientCommand::Write(sectors(&[7]));
    assert_eq!(driver.ask(6, write).await, ok, "under the attachment");
    let read = driver.ask(6, ClientCommand::Read).await;
    assert_eq!(read, (ClientStatus::Ok, sectors(&[7])));
    let longest = driver.ask(1000, range(256)).await;
    assert_eq!(longest, (ClientStatus::Ok, sectors(&[0; 256])));
    assert_eq!(driver.ask(0, ClientCommand::Heartbeat).await, ok);
    assert_eq!(
        operations(&server),
        [
            Operation::Write(5, 4 * SECTOR_SIZE),
            Operation::Discard(6, 2),
            Operation::Read(4, 6),
            Operation::Write(6, SECTOR_SIZE),
            Operation::Read(6, 1),
            Operation::Read(1000, 256),
        ]
    );
    assert_eq!(*server.disk.under_way.lock(), 0);
    drop(driver);
    gone(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn a_refused_driver_hears_why_and_may_try_again() {
    let server = Server::start(Settings::default()).await;
    let mut driver = Driver::connect(&server).await;
    let holder = Holder {
        process: rank(3),
        owner: OwnerId([4; 16]),
        kind: AttachKind::Exclusive { join: None },
        generation: Generation(6),
        client: "10.0.0.9:1".into(),
        since: 0,
    };
    let by = Generation(8);
    let process = rank(1);
    for (refusal, status, generation, process, holder) in [
        (
            AttachRefusal::Held(Box::new(holder)),
            ClientStatus::Held,
            6,
            3,
            "10.0.0.9:1",
        ),
        (AttachRefusal::Fenced { by }, ClientStatus::Fenced, 8, 2, ""),
        (
            AttachRefusal::Elsewhere { process },
            ClientStatus::Elsewhere,
            0,
            1,
            "",
        ),
        (AttachRefusal::Contended, ClientStatus::Contended, 0, 2, ""),
    ] {
        allow(&server, Err(refusal));
        let (told, answer) = driver.attach(attach()).await;
        assert_eq!(told, status);
        assert_eq!(answer.generation, Generation(generation));
        assert_eq!(answer.process, rank(process));
        assert_eq!((answer.session, &*answer.holder), (None, holder));
        assert_eq!(answer.sectors, TestDisk::SECTORS);
        let refused = driver.ask(1, range(1)).await;
        assert_eq!(refused, bare(ClientStatus::NotAttached));
    }
    allow(&server, Ok(()));
    assert_eq!(driver.attach(attach()).await.0, ClientStatus::Ok);
    assert_eq!(
        driver.ask(1, range(1)).await,
        (ClientStatus::Ok, sectors(&[0]))
    );
    server.stop().await;
}

#[tokio::test]
async fn what_needs_an_attachment_is_not_done_without_one() {
    let server = Server::start(Settings::default()).await;
    let mut driver = Driver::connect(&server).await;
    for command in [
        range(1),
        write_range(&[1]),
        ClientCommand::Discard { count: 1 },
    ] {
        // As something that comes first, an unknown length is not believed.
        assert_eq!(
            driver.ask(1, command).await,
            bare(ClientStatus::NotAttached)
        );
    }
    let detach = driver.ask(0, ClientCommand::Detach).await;
    assert_eq!(detach, bare(ClientStatus::NotAttached));
    let heartbeat = driver.ask(0, ClientCommand::Heartbeat).await;
    assert_eq!(heartbeat, bare(ClientStatus::Ok));
    // And the connection is one of the classic protocol still.
    let read = driver.ask(1, ClientCommand::Read).await;
    assert_eq!(read, (ClientStatus::Ok, sectors(&[0])));
    assert!(operations(&server).is_empty());
    server.stop().await;
}

#[tokio::test]
async fn what_follows_an_attach_that_is_not_answered_is_of_no_session() {
    let server = Server::start(Settings::default()).await;
    let mut driver = Driver::connect(&server).await;
    let attaching = driver.send(0, ClientCommand::Attach(attach())).await;
    driver.send(0, ClientCommand::Read).await;
    let waiting = &server.host.volume.waiting;
    waiting.wait(|&mut it| (it == 1).then_some(())).await;
    driver.assert_silent().await;
    allow(&server, Ok(()));
    assert_eq!(driver.attach_answer(attaching).await.0, ClientStatus::Ok);
    driver.assert_closed().await;
    gone(&server).await;

    // Refused, it is an ordinary READ, and nobody who knows the statuses is closed for one.
    let mut other = Driver::connect(&server).await;
    let holder = Holder {
        process: rank(2),
        owner: OwnerId([3; 16]),
        kind: AttachKind::Exclusive { join: None },
        generation: Generation(7),
        client: "x".into(),
        since: 0,
    };
    let refusal = AttachRefusal::Held(Box::new(holder));
    *server.disk.holder.lock().unwrap() = Some(refusal.clone());
    allow(&server, Err(refusal));
    let attaching = other.send(0, ClientCommand::Attach(attach())).await;
    let reading = other.send(0, ClientCommand::Read).await;
    assert_eq!(other.attach_answer(attaching).await.0, ClientStatus::Held);
    let response = other.receive().await;
    assert_eq!(
        (response.number, response.status),
        (reading, ClientStatus::Held)
    );
    assert!(operations(&server).is_empty());
    server.stop().await;
}

#[tokio::test]
async fn an_attach_waits_for_what_the_connection_has_under_way() {
    let server = Server::start(Settings::default()).await;
    allow(&server, Ok(()));
    server.disk.held.change(|held| *held = true);
    let mut driver = Driver::connect(&server).await;
    let reading = driver.send(0, ClientCommand::Read).await;
    let attaching = driver.send(0, ClientCommand::Attach(attach())).await;
    driver.assert_silent().await;
    assert!(server.host.volume.asked.lock().is_empty());
    server.disk.held.change(|held| *held = false);
    assert_eq!(driver.receive().await.number, reading);
    assert_eq!(driver.attach_answer(attaching).await.0, ClientStatus::Ok);
    server.stop().await;
}

#[tokio::test]
async fn an_attach_is_given_up_when_the_connection_ends() {
    for is_reset in [false, true] {
        let server = Server::start(Settings::default()).await;
        let mut driver = Driver::connect(&server).await;
        driver.send(0, ClientCommand::Attach(attach())).await;
        // Something unread does not hide the end.
        driver.send(0, ClientCommand::Read).await;
        let waiting = &server.host.volume.waiting;
        waiting.wait(|&mut it| (it == 1).then_some(())).await;
        if is_reset {
            rustix::net::sockopt::set_socket_linger(&driver.stream, Some(Duration::ZERO)).unwrap();
        }
        drop(driver);
        waiting.wait(|&mut it| (it == 0).then_some(())).await;
        eventually(|| server.connections.clients() == 0).await;
        server.stop().await;
    }
}

#[tokio::test]
async fn a_client_that_asks_on_before_its_attach_is_answered_is_closed_at_a_bound() {
    let server = Server::start(Settings::default()).await;
    let mut driver = Driver::connect(&server).await;
    driver.send(0, ClientCommand::Attach(attach())).await;
    let waiting = &server.host.volume.waiting;
    waiting.wait(|&mut it| (it == 1).then_some(())).await;
    let bytes = driver.encoded(2, 1, write_range(&[1; 256]));
    // It may be closed before all is sent.
    driver.stream.write_all(&bytes).await.ok();
    waiting.wait(|&mut it| (it == 0).then_some(())).await;
    eventually(|| server.connections.clients() == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn malformed_and_second_attaches_are_invalid() {
    let server = Server::start(Settings::default()).await;
    let mut driver = Driver::connect(&server).await;
    let mut bytes = driver.encoded(1, 0, ClientCommand::Attach(attach()));
    bytes.truncate(88);
    bytes[40] = 4;
    bytes.extend(client_key().tag(&[&bytes]));
    driver.stream.write_all(&bytes).await.unwrap();
    let (status, answer) = driver.attach_answer(1).await;
    assert_eq!((status, answer.session), (ClientStatus::Invalid, None));
    allow(&server, Ok(()));
    assert_eq!(driver.attach(attach()).await.0, ClientStatus::Ok);
    assert_eq!(driver.attach(attach()).await.0, ClientStatus::Invalid);
    for command in [range(300), ClientCommand::Discard { count: 70_000 }] {
        let refused = driver.ask(1, command).await;
        assert_eq!(refused, bare(ClientStatus::Invalid));
    }
    assert_eq!(*server.host.volume.attached.lock(), 1);
    server.stop().await;
}

#[tokio::test]
async fn failures_have_their_statuses() {
    let server = Server::start(Settings::default()).await;
    allow(&server, Ok(()));
    let mut driver = Driver::attached(&server).await;
    for (first, count) in [(TestVolume::SECTORS - 1, 2), (u64::MAX, 2)] {
        let refused = driver.ask(first, range(count)).await;
        assert_eq!(refused, bare(ClientStatus::InvalidSectorIndex));
    }
    assert!(operations(&server).is_empty());
    for (error, status) in [
        (OperationError::Unreadable, ClientStatus::Unreadable),
        (OperationError::TimedOut, ClientStatus::TimedOut),
        (OperationError::ShuttingDown, ClientStatus::ShuttingDown),
    ] {
        *server.host.volume.fault.lock().unwrap() = Some(error);
        assert_eq!(driver.ask(1, range(1)).await, bare(status));
        assert_eq!(driver.ask(1, ClientCommand::Read).await, bare(status));
    }
    let mut reader = Driver::connect(&server).await;
    let read_only = Attach {
        kind: AttachKind::ReadOnly,
        ..attach()
    };
    assert_eq!(reader.attach(read_only).await.0, ClientStatus::Ok);
    let refused = reader.ask(1, write_range(&[1])).await;
    assert_eq!(refused, bare(ClientStatus::ReadOnly));
    server.stop().await;
}

#[tokio::test]
async fn a_fenced_driver_hears_of_all_that_it_has_under_way_and_is_closed() {
    let server = Server::start(Settings::default()).await;
    let mut driver = Driver::attached(&server).await;
    let volume = &server.host.volume;
    volume.hold([1, 2, 3]);
    let mut outstanding = BTreeSet::new();
    outstanding.insert(driver.send(1, write_range(&[1])).await);
    outstanding.insert(driver.send(2, range(1)).await);
    outstanding.insert(driver.send(3, ClientCommand::Read).await);
    volume.busy(3).await;
    outstanding.insert(driver.send(0, ClientCommand::Detach).await);
    let after = driver.ask(4, range(1)).await;
    assert_eq!(after, bare(ClientStatus::NotAttached), "it was taken");
    // Whatever is not read any more does not cost the driver its answers.
    let unread = driver.encoded(100, 5, write_range(&[5; 256]));
    driver.stream.try_write(&unread).unwrap();
    volume.fenced.change(|fenced| *fenced = Some(NEWER));
    for _ in 0..4 {
        let response = driver.receive().await;
        assert_eq!(response.status, ClientStatus::Fenced);
        assert!(response.content.is_empty());
        assert!(outstanding.remove(&response.number));
    }
    gone(&server).await;
    volume.busy(0).await;
    driver.assert_closed().await;
    server.stop().await;
}

#[tokio::test]
async fn a_detach_waits_for_what_was_asked_before() {
    let server = Server::start(Settings::default()).await;
    let mut driver = Driver::attached(&server).await;
    let volume = &server.host.volume;
    volume.hold([1]);
    let writing = driver.send(1, write_range(&[1])).await;
    let detaching = driver.send(0, ClientCommand::Detach).await;
    let late = driver.ask(2, range(1)).await;
    assert_eq!(late, bare(ClientStatus::NotAttached));
    driver.assert_silent().await;
    assert_eq!(*volume.attached.lock(), 1);
    volume.let_go(1);
    assert_eq!(driver.receive().await.number, writing);
    let detached = driver.receive().await;
    assert_eq!(
        (detached.number, detached.status),
        (detaching, ClientStatus::Ok)
    );
    assert_eq!(*volume.attached.lock(), 0, "by the time it is said");
    // Under no attachment a WRITE is nothing of the classic protocol's either.
    let write = driver.ask(1, ClientCommand::Write(sectors(&[9]))).await;
    assert_eq!(write, bare(ClientStatus::NotAttached));
    assert_eq!(driver.attach(attach()).await.0, ClientStatus::Invalid);
    server.stop().await;
}

#[tokio::test]
async fn numbers_that_do_not_rise_close_the_connection() {
    for again in [7, 6] {
        let server = Server::start(Settings::default()).await;
        let mut driver = Driver::attached(&server).await;
        driver.next_number = 7;
        let first = driver.ask(1, write_range(&[1])).await;
        assert_eq!(first, bare(ClientStatus::Ok));
        driver.next_number = again;
        driver.send(1, write_range(&[2])).await;
        driver.assert_closed().await;
        gone(&server).await;
        assert_eq!(operations(&server).len(), 1);
        server.stop().await;
    }
}

/// What was recorded on another connection, or is that of no session, does nothing. Nor is it
/// answered, since that would take a number's one answer.
#[tokio::test]
async fn tags_of_no_session_or_another_close_the_connection() {
    let server = Server::start(Settings::default()).await;
    let other = Driver::attached(&server).await;
    let plain = Driver::connect(&server).await;
    for bytes in [
        other.encoded(9, 1, write_range(&[1])),
        plain.encoded(9, 1, write_range(&[1])),
        plain.encoded(9, 1, ClientCommand::Read),
    ] {
        let mut driver = Driver::attached(&server).await;
        driver.stream.write_all(&bytes).await.unwrap();
        driver.assert_closed().await;
    }
    assert!(operations(&server).is_empty());
    let unknown = ConnectionSession([0; 16]).of_requests(&client_key());
    let message = [&[0; 24][..]];
    assert_ne!(
        other.of_requests.tag(&message),
        unknown.tag(&message),
        "it was drawn"
    );
    server.stop().await;
}

#[tokio::test]
async fn a_driver_of_another_key_hears_that() {
    let server = Server::start(Settings::default()).await;
    let mut driver = Driver::connect(&server).await;
    driver.of_requests = Box::new(ClientKey::new(&[6; 32]));
    driver.send(0, ClientCommand::Attach(attach())).await;
    driver.send(0, ClientCommand::Read).await;
    for (number, kind) in [(1, ClientKind::Attach), (2, ClientKind::Read)] {
        let response = driver.receive().await;
        assert_eq!((response.number, response.kind), (number, kind));
        assert_eq!(response.status, ClientStatus::AuthFailure);
        assert!(response.content.is_empty());
    }
    assert!(server.host.volume.asked.lock().is_empty());
    server.stop().await;
}

#[tokio::test]
async fn silence_ends_an_attachment_and_heartbeats_keep_it() {
    let server = Server::start(impatient()).await;
    let mut driver = Driver::attached(&server).await;
    for _ in 0..10 {
        let heartbeat = driver.ask(0, ClientCommand::Heartbeat).await;
        assert_eq!(heartbeat, bare(ClientStatus::Ok));
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
    assert_eq!(*server.host.volume.attached.lock(), 1);
    gone(&server).await;
    driver.assert_closed().await;
    server.stop().await;
}

/// Unlike those of sessions: a client that never attached may be silent for as long as it likes.
#[tokio::test]
async fn silence_ends_no_connection_that_is_not_attached() {
    let server = Server::start(impatient()).await;
    let mut driver = Driver::connect(&server).await;
    driver.ask(0, ClientCommand::Heartbeat).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let read = driver.ask(1, ClientCommand::Read).await;
    assert_eq!(read.0, ClientStatus::Ok);
    server.stop().await;
}

/// A process that slept finds what has waited for it, which the client may have asked elsewhere by
/// now. One thread runs all of this, so that while it sleeps the listener does too.
#[tokio::test]
async fn what_waited_while_the_process_slept_is_not_done() {
    let server = Server::start(impatient()).await;
    let mut driver = Driver::attached(&server).await;
    driver.ask(0, ClientCommand::Heartbeat).await;
    let bytes = driver.encoded(90, 1, write_range(&[1]));
    assert_eq!(driver.stream.try_write(&bytes).unwrap(), bytes.len());
    std::thread::sleep(Duration::from_millis(400));
    gone(&server).await;
    assert!(operations(&server).is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_long_request_may_trickle_in_and_does_nothing_until_it_is_whole() {
    let server = Server::start(impatient()).await;
    let mut driver = Driver::attached(&server).await;
    let fills: Vec<u8> = (0..=255).collect();
    let bytes = driver.encoded(50, 8, write_range(&fills));
    let (most, last) = bytes.split_at(bytes.len() - 1);
    for piece in most.chunks(bytes.len() / 20) {
        driver.stream.write_all(piece).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(operations(&server).is_empty());
    driver.stream.write_all(last).await.unwrap();
    let response = driver.receive().await;
    assert_eq!((response.number, response.status), (50, ClientStatus::Ok));
    driver.next_number = 51;
    assert_eq!(driver.ask(8, range(256)).await.1, sectors(&fills));

    // One that stays incomplete ends with the client's silence.
    let bytes = driver.encoded(60, 8, write_range(&[9; 256]));
    driver.stream.write_all(&bytes[..70_000]).await.unwrap();
    gone(&server).await;
    assert_eq!(operations(&server).len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn a_count_that_none_may_have_closes_an_attached_connection() {
    let mut head = b"atdd\0\0\0\x82".to_vec();
    head.extend(9u64.to_be_bytes());
    head.extend(1u64.to_be_bytes());
    head.extend(u32::MAX.to_be_bytes());
    head.extend(0u32.to_be_bytes());

    let server = Server::start(Settings::default()).await;
    let mut driver = Driver::attached(&server).await;
    driver.stream.write_all(&head).await.unwrap();
    driver.stream.write_all(&vec![7; 50_000]).await.unwrap();
    driver.assert_closed().await;
    gone(&server).await;

    // To others it is a type that nobody knows.
    let mut classic = server.connect().await;
    for number in [1, 2] {
        classic.send_bytes(&head).await;
        classic.send(&read(number, 1)).await;
        assert_eq!(classic.receive().await.number, number);
    }
    server.stop().await;
}

#[tokio::test]
async fn no_more_is_under_way_than_may_be_and_the_rest_waits() {
    let settings = Settings {
        client_credit: Credit {
            requests: 4,
            bytes: 1 << 20,
        },
        ..Settings::default()
    };
    let server = Server::start(settings).await;
    let mut driver = Driver::attached(&server).await;
    let volume = &server.host.volume;
    volume.hold(0..20);
    for sector in 0..6 {
        driver.send(sector, ClientCommand::Read).await;
    }
    volume.busy(4).await;
    driver.assert_silent().await;
    assert_eq!(operations(&server).len(), 4);
    (0..6).for_each(|sector| volume.let_go(sector));
    for _ in 0..6 {
        assert_eq!(driver.receive().await.status, ClientStatus::Ok);
    }
    // And by what they carry: two of these pass the bound.
    for sector in 10..14 {
        driver.send(sector, range(200)).await;
    }
    volume.busy(2).await;
    driver.assert_silent().await;
    assert_eq!(operations(&server).len(), 8);
    (10..14).for_each(|sector| volume.let_go(sector));
    for _ in 0..4 {
        assert_eq!(driver.receive().await.content.len(), 200 * SECTOR_SIZE);
    }
    server.stop().await;
}

/// What was left unread because of other requests is not done once nobody waits for it.
#[tokio::test]
async fn what_waited_for_its_turn_is_not_done_for_a_client_that_has_gone() {
    let settings = Settings {
        client_credit: Credit {
            requests: 1,
            bytes: 1 << 20,
        },
        ..Settings::default()
    };
    let server = Server::start(settings).await;
    let mut driver = Driver::attached(&server).await;
    let volume = &server.host.volume;
    volume.hold([1]);
    driver.send(1, range(1)).await;
    volume.busy(1).await;
    driver.send(2, write_range(&[9])).await;
    drop(driver);
    tokio::time::sleep(Duration::from_millis(20)).await;
    volume.let_go(1);
    gone(&server).await;
    assert_eq!(operations(&server), [Operation::Read(1, 1)]);
    server.stop().await;
}

#[tokio::test]
async fn draining_answers_what_a_driver_has_under_way_and_takes_nothing_new() {
    let server = Server::start(Settings::default()).await;
    let mut driver = Driver::attached(&server).await;
    server.host.volume.decision.change(|it| *it = None);
    let mut late = Driver::connect(&server).await;
    let attaching = late.send(0, ClientCommand::Attach(attach())).await;
    let volume = &server.host.volume;
    let asked = &volume.waiting;
    asked.wait(|&mut it| (it == 1).then_some(())).await;
    volume.hold([1]);
    let number = driver.send(1, write_range(&[1])).await;
    volume.busy(1).await;
    server.stage.send_replace(Stage::Draining);
    let (status, _) = late.attach_answer(attaching).await;
    assert_eq!(status, ClientStatus::ShuttingDown);
    late.assert_closed().await;
    driver.send(2, write_range(&[2])).await;
    driver.assert_silent().await;
    assert_eq!(operations(&server).len(), 1);
    volume.let_go(1);
    assert_eq!(driver.receive().await.number, number);
    driver.assert_closed().await;
    server.connections.clients_gone().await;
    gone(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn stopping_does_not_wait_for_what_a_driver_has_under_way() {
    let server = Server::start(Settings::default()).await;
    let mut driver = Driver::attached(&server).await;
    let volume = std::sync::Arc::clone(&server.host.volume);
    volume.hold([1]);
    driver.send(1, write_range(&[1])).await;
    volume.busy(1).await;
    server.stop().await;
    assert_eq!(*volume.attached.lock(), 0);
    assert_eq!(*volume.under_way.lock(), 0);
}
