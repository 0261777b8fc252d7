//! The connector's end of clients' sessions, over sockets.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until, timeout};

use super::support::*;
use super::volume::{NEWER, TestVolume, fence};
use crate::domain::{Attach, AttachKind, Generation, OwnerId, SECTOR_SIZE};
use crate::net::{
    ClientConnection, ClientLimits, ClientReceiver, ClientSender, NetError, Settings,
    fetch_attachments, release_attachment,
};
use crate::wire::{RequestNumber, SectorValues, SessionAnswer, SessionQuestion};

async fn connect(server: &Server, limits: &ClientLimits) -> (ClientSender, ClientReceiver) {
    let address = server.address.to_string();
    let cluster = identity(2).cluster;
    let connection = ClientConnection::connect(&address, None, cluster, &client_key(), limits)
        .await
        .unwrap();
    assert_eq!(connection.process().rank, rank(2));
    connection.split()
}

/// So many answers, heartbeats aside.
async fn answers(receiver: &mut ClientReceiver, count: usize) -> Vec<SessionAnswer> {
    let mut answers = Vec::new();
    while answers.len() < count {
        let next = timeout(PATIENCE, receiver.receive(&mut answers)).await;
        next.expect("an answer").unwrap();
        answers.retain(|answer| *answer != SessionAnswer::Heartbeat);
    }
    assert_eq!(answers.len(), count, "{answers:?}");
    answers
}

async fn attach(server: &Server, sender: &mut ClientSender, receiver: &mut ClientReceiver) {
    let volume = &server.host.volume;
    volume.decision.change(|decision| *decision = Some(Ok(())));
    sender.send(&SessionQuestion::Attach(Attach {
        owner: OwnerId([3; 16]),
        kind: AttachKind::Shared,
        take_over: false,
        continues: Some(Generation(6)),
    }));
    assert!(sender.has_unsent());
    sender.flush().await.unwrap();
    assert!(!sender.has_unsent());
    let granted = SessionAnswer::Attached {
        fence: fence(),
        sectors: TestVolume::SECTORS,
        credit: Settings::default().client_credit,
    };
    assert_eq!(answers(receiver, 1).await, [granted]);
}

#[tokio::test]
async fn attachments_are_listed_and_released() {
    let server = Server::start(Settings::default()).await;
    let address = server.address.to_string();
    let (cluster, key) = (identity(2).cluster, client_key());
    let listed = fetch_attachments(&address, Some(rank(2)), cluster, &key, PATIENCE).await;
    assert_eq!(listed.unwrap(), b"[\"tested\"]"[..]);
    let owner = OwnerId([3; 16]);
    for there_is_one in [true, false] {
        let released =
            release_attachment(&address, Some(rank(2)), cluster, &key, owner, PATIENCE).await;
        assert_eq!(released.unwrap(), there_is_one);
    }
    assert_eq!(server.host.released.lock().unwrap()[..], [owner, owner]);
    let elsewhere =
        release_attachment(&address, Some(rank(1)), cluster, &key, owner, PATIENCE).await;
    let error = elsewhere.unwrap_err().to_string();
    assert!(error.contains("rank 1 was expected"), "{error}");
    assert_eq!(server.host.released.lock().unwrap().len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn a_client_attaches_over_a_socket() {
    let server = Server::start(Settings::default()).await;
    let volume = &server.host.volume;
    let (mut sender, mut receiver) = connect(&server, &ClientLimits::default()).await;
    attach(&server, &mut sender, &mut receiver).await;
    let asked = volume.asked.lock().remove(0);
    assert_eq!(asked.0.continues, Some(Generation(6)));
    assert!(asked.1.starts_with("127.0.0.1:"), "{}", asked.1);
    assert_eq!(server.connections.clients(), 1);
    volume.fenced.change(|by| *by = Some(NEWER));
    let by = NEWER;
    let fenced = SessionAnswer::Fenced { by };
    assert_eq!(answers(&mut receiver, 1).await, [fenced]);
    let ended = receiver.receive(&mut Vec::new()).await;
    assert!(matches!(ended, Err(NetError::Closed)), "{ended:?}");
    drop((sender, receiver));
    server.connections.clients_gone().await;
    server.stop().await;
}

/// What was not sent when a flush was given up is sent by the next, once and in its order.
#[tokio::test]
async fn a_flush_that_is_dropped_loses_nothing() {
    const WRITES: u64 = 30;
    let server = Server::start(Settings::default()).await;
    let volume = &server.host.volume;
    let (mut sender, mut receiver) = connect(&server, &ClientLimits::default()).await;
    attach(&server, &mut sender, &mut receiver).await;
    for number in 0..WRITES {
        let fill = u8::try_from(number).unwrap();
        sender.send(&SessionQuestion::Write {
            number: RequestNumber(number),
            first: 300 * number,
            data: Bytes::from(vec![fill; 256 * SECTOR_SIZE]),
        });
    }
    assert!(sender.is_full());
    let mut dropped = 0;
    while sender.has_unsent() {
        tokio::select! {
            biased;
            flushed = sender.flush() => flushed.unwrap(),
            // What is written by the first poll must not be written again.
            () = tokio::task::yield_now() => dropped += 1,
        }
    }
    assert!(dropped > 0, "the socket took it all at once");
    let done = (0..WRITES).map(|number| SessionAnswer::Done {
        number: RequestNumber(number),
    });
    let done: Vec<_> = done.collect();
    assert_eq!(answers(&mut receiver, done.len()).await, done);
    for number in 0..WRITES {
        sender.send(&SessionQuestion::Read {
            number: RequestNumber(number),
            first: 300 * number + 255,
            count: 1,
        });
        sender.flush().await.unwrap();
        let fill = u8::try_from(number).unwrap();
        let data = Bytes::from(vec![fill; SECTOR_SIZE]);
        let values = SessionAnswer::Values {
            number: RequestNumber(number),
            values: vec![SectorValues::Data(data)],
        };
        assert_eq!(answers(&mut receiver, 1).await, [values]);
    }
    assert_eq!(volume.operations.lock().len(), 60);
    server.stop().await;
}

/// What a driver needs to show that it lives, and to see that the process does not.
#[tokio::test]
async fn heartbeats_keep_a_session_and_silence_ends_it() {
    let settings = Settings {
        client_heartbeat_after: Duration::from_millis(100),
        client_dead_after: Duration::from_secs(1),
        ..Settings::default()
    };
    let limits = ClientLimits {
        heartbeat_after: Duration::from_millis(100),
        dead_after: Duration::from_secs(5),
        ..ClientLimits::default()
    };
    let server = Server::start(settings).await;
    let (mut sender, mut receiver) = connect(&server, &limits).await;
    attach(&server, &mut sender, &mut receiver).await;
    let start = Instant::now();
    let mut answers = Vec::new();
    while start.elapsed() < Duration::from_secs(2) {
        assert!(Instant::now() < receiver.dead_at());
        tokio::select! {
            next = receiver.receive(&mut answers) => next.unwrap(),
            () = sleep_until(sender.heartbeat_at()) => {
                sender.send(&SessionQuestion::Heartbeat);
                sender.flush().await.unwrap();
            }
        }
    }
    let beats = answers.len();
    assert!((4..=20).contains(&beats), "{beats} heartbeats");
    assert!(
        answers
            .iter()
            .all(|answer| *answer == SessionAnswer::Heartbeat)
    );
    // It falls silent.
    let volume = &server.host.volume;
    volume.attached.becomes(0).await;
    let ended = loop {
        if let Err(error) = receiver.receive(&mut answers).await {
            break error;
        }
    };
    assert!(
        matches!(ended, NetError::Closed | NetError::Broken(_)),
        "{ended}"
    );
    server.stop().await;
}

/// The end of a listener that hears nothing: its connections are there, and nobody answers.
#[tokio::test]
async fn connecting_takes_no_longer_than_it_may() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let limits = ClientLimits {
        connect_deadline: Duration::from_millis(50),
        ..ClientLimits::default()
    };
    let (cluster, key) = (identity(2).cluster, client_key());
    let connected = ClientConnection::connect(&address, None, cluster, &key, &limits);
    let error = timeout(PATIENCE, connected).await.unwrap().unwrap_err();
    assert!(matches!(error, NetError::Deadline { .. }), "{error}");
}
