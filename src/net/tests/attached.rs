//! What attached drivers ask, and how their connections end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::classic_client::read;
use super::driver_client::*;
use super::support::*;
use super::volume::{NEWER, Operation, TestVolume, attach, fence};
use crate::domain::{
    Attach, AttachKind, Generation, JoinKey, OperationError, OwnerId, SECTOR_SIZE,
};
use crate::net::{Settings, Stage};
use crate::wire::{
    AttachAnswer, ClientCommand, ClientStatus, Credit, DATA_SECTORS_MAX, DISCARD_SECTORS_MAX,
};

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
        holder: String::new(),
    };
    assert_eq!(answer, expected);
    let name = driver.client.stream.local_addr().unwrap().to_string();
    assert_eq!(*server.host.volume.asked.lock(), [(asked, name)]);

    let ok = bare(ClientStatus::Ok);
    assert_eq!(driver.ask(5, write_range(&[1, 2, 3, 4])).await, ok);
    assert_eq!(driver.ask(6, ClientCommand::Discard { count: 2 }).await, ok);
    assert_eq!(
        driver.ask(4, read_range(6)).await,
        (ClientStatus::Ok, sectors(&[0, 1, 0, 0, 4, 0]))
    );
    let write = ClientCommand::Write(sectors(&[7]));
    assert_eq!(driver.ask(6, write).await, ok, "under the attachment");
    let read = driver.ask(6, ClientCommand::Read).await;
    assert_eq!(read, (ClientStatus::Ok, sectors(&[7])));
    let longest = driver.ask(1000, read_range(256)).await;
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
async fn failures_have_their_statuses() {
    let server = Server::start(Settings::default()).await;
    allow(&server, Ok(()));
    let mut driver = Driver::attached(&server).await;
    for (first, count) in [(TestVolume::SECTORS - 1, 2), (u64::MAX, 2)] {
        let refused = driver.ask(first, read_range(count)).await;
        assert_eq!(refused, bare(ClientStatus::InvalidSectorIndex));
    }
    assert!(operations(&server).is_empty());
    for (error, status) in [
        (OperationError::Unreadable, ClientStatus::Unreadable),
        (OperationError::TimedOut, ClientStatus::TimedOut),
        (OperationError::ShuttingDown, ClientStatus::ShuttingDown),
    ] {
        *server.host.volume.fault.lock().unwrap() = Some(error);
        assert_eq!(driver.ask(1, read_range(1)).await, bare(status));
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
    outstanding.insert(driver.send(2, read_range(1)).await);
    outstanding.insert(driver.send(3, ClientCommand::Read).await);
    volume.busy(3).await;
    outstanding.insert(driver.send(0, ClientCommand::Detach).await);
    let after = driver.ask(4, read_range(1)).await;
    assert_eq!(after, bare(ClientStatus::NotAttached), "it was taken");
    // Whatever is not read any more does not cost the driver its answers.
    let unread = driver.encoded(100, 5, write_range(&[5; 256]));
    driver.client.stream.try_write(&unread).unwrap();
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
        driver.client.send_bytes(&bytes).await;
        driver.assert_closed().await;
    }
    assert!(operations(&server).is_empty());
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
    driver.client.send_bytes(&head).await;
    driver.client.send_bytes(&vec![7; 50_000]).await;
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

/// A client has so many requests under way at the most, and a mebibyte that they carry.
fn at_most(requests: u32) -> Settings {
    let bytes = 1 << 20;
    Settings {
        client_credit: Credit { requests, bytes },
        ..Settings::default()
    }
}

#[tokio::test]
async fn no_more_is_under_way_than_may_be_and_the_rest_waits() {
    let server = Server::start(at_most(4)).await;
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
        driver.send(sector, read_range(200)).await;
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
    let server = Server::start(at_most(1)).await;
    let mut driver = Driver::attached(&server).await;
    let volume = &server.host.volume;
    volume.hold([1]);
    driver.send(1, read_range(1)).await;
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
    let attaching = late.send_attach(attach()).await;
    let volume = &server.host.volume;
    let asked = &volume.waiting;
    asked.becomes(1).await;
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
    let volume = Arc::clone(&server.host.volume);
    volume.hold([1]);
    driver.send(1, write_range(&[1])).await;
    volume.busy(1).await;
    server.stop().await;
    assert_eq!(*volume.attached.lock(), 0);
    assert_eq!(*volume.under_way.lock(), 0);
}
