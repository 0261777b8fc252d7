//! Clients of the classic protocol.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tracing::Level;

use super::classic_client::*;
use super::log::Log;
use super::support::*;
use super::volume::held;
use crate::domain::{SECTOR_SIZE, SectorAddress, Volume};
use crate::net::{Settings, Stage};
use crate::wire::{ClientKey, ClientKind, ClientStatus};

fn hour() -> Duration {
    Duration::from_secs(3600)
}

#[tokio::test]
async fn three_commands_interleaved_on_two_connections() {
    let server = Server::start(Settings::default()).await;
    let (mut one, mut two) = (server.connect().await, server.connect().await);
    one.send(&write(11, 5, 0xaa)).await;
    two.send(&read(21, 6)).await;
    one.send(&read(12, TestDisk::SECTORS)).await;
    let mut numbers = BTreeSet::new();
    for _ in 0..2 {
        let response = one.receive().await;
        let expected = match response.number {
            11 => (ClientKind::Write, ClientStatus::Ok),
            _ => (ClientKind::Read, ClientStatus::InvalidSectorIndex),
        };
        assert_eq!((response.kind, response.status), expected);
        assert!(response.content.is_empty());
        numbers.insert(response.number);
    }
    assert_eq!(numbers, BTreeSet::from([11, 12]));
    let zeroes = two.receive().await;
    assert_eq!(
        (zeroes.number, &zeroes.content[..]),
        (21, &[0; SECTOR_SIZE][..])
    );
    two.send(&read(22, 5)).await;
    assert_eq!(two.receive().await.content, [0xaa; SECTOR_SIZE][..]);
    two.send(&read(23, u64::MAX)).await;
    assert_eq!(two.receive().await.status, ClientStatus::InvalidSectorIndex);
    assert_eq!(server.connections.clients(), 2);
    server.stop().await;
}

/// Before the first authenticated request and after it, the same bytes have the same effect.
#[tokio::test]
async fn garbage_is_skipped_and_wrong_tags_are_answered() {
    let server = Server::start(Settings::default()).await;
    let mut client = server.connect().await;
    for round in [1, 2] {
        let mut bytes = b"\0\xffatatd".to_vec();
        bytes.extend(b"atdd\0\0\0\x80");
        let mut wrong = encoded(&write(round, 3, 1));
        wrong[1000] ^= 1;
        bytes.extend(wrong);
        bytes.extend(vec![b'a'; 20_000]);
        bytes.extend(encoded(&write(10 + round, 4, 2)));
        // In pieces that end anywhere.
        for piece in bytes.chunks(1777) {
            client.send_bytes(piece).await;
            tokio::task::yield_now().await;
        }
        let refused = client.receive().await;
        assert_eq!(refused.number, round);
        assert_eq!(refused.kind, ClientKind::Write);
        assert_eq!(refused.status, ClientStatus::AuthFailure);
        let accepted = client.receive().await;
        assert_eq!(
            (accepted.number, accepted.status),
            (10 + round, ClientStatus::Ok)
        );
    }
    client.send(&read(30, 3)).await;
    assert_eq!(
        client.receive().await.content,
        [0; SECTOR_SIZE][..],
        "nothing was written"
    );
    server.stop().await;
}

#[tokio::test]
async fn many_requests_are_under_way_but_no_more_than_the_bound() {
    let server = Server::start(Settings::default()).await;
    server.disk.held.change(|held| *held = true);
    let mut client = server.connect().await;
    for number in 0..300 {
        client.send(&read(number, number)).await;
    }
    server.disk.under_way.becomes(256).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(
        *server.disk.under_way.lock(),
        256,
        "the rest is not even read"
    );
    server.disk.held.change(|held| *held = false);
    let mut numbers = BTreeSet::new();
    for _ in 0..300 {
        numbers.insert(client.receive().await.number);
    }
    assert_eq!(numbers, (0..300).collect());
    server.stop().await;
}

/// A client may send all it is allowed to before it reads anything.
#[tokio::test]
async fn a_client_that_reads_late_gets_everything() {
    let server = Server::start(Settings::default()).await;
    let mut client = server.connect().await;
    for number in 0..255 {
        client.send(&write(number, number, 7)).await;
    }
    for number in 1000..1255 {
        client.send(&read(number, number - 1000)).await;
    }
    let mut numbers = BTreeSet::new();
    for _ in 0..510 {
        numbers.insert(client.receive().await.number);
    }
    assert_eq!(numbers.len(), 510);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_has_sent_everything_still_gets_its_answers() {
    let server = Server::start(Settings::default()).await;
    server.disk.held.change(|held| *held = true);
    let mut client = server.connect().await;
    client.send(&read(1, 1)).await;
    client.stream.shutdown().await.unwrap();
    server.disk.under_way.becomes(1).await;
    server.disk.held.change(|held| *held = false);
    assert_eq!(client.receive().await.number, 1);
    client.assert_closed().await;
    eventually(|| server.connections.clients() == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn requests_wait_until_the_process_serves() {
    let server = Server::start(Settings::default()).await;
    server.serving.send_replace(false);
    let mut client = server.connect().await;
    client.send(&write(1, 1, 1)).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(client.is_silent());
    assert_eq!(server.connections.clients(), 0);
    server.serving.send_replace(true);
    assert_eq!(client.receive().await.number, 1);
    server.stop().await;
}

#[tokio::test]
async fn draining_answers_what_is_under_way_and_takes_nothing_new() {
    let server = Server::start(Settings::default()).await;
    server.disk.held.change(|held| *held = true);
    let mut client = server.connect().await;
    client.send(&write(1, 1, 1)).await;
    server.disk.under_way.becomes(1).await;
    let silent = server.connect().await;
    eventually(|| server.connections.unauthenticated() == 1).await;

    server.stage.send_replace(Stage::Draining);
    silent.assert_closed().await;
    client.send(&write(2, 2, 2)).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(*server.disk.under_way.lock(), 1);
    assert_eq!(server.connections.clients(), 1);
    assert!(
        tokio::net::TcpStream::connect(server.address)
            .await
            .is_err()
    );

    server.disk.held.change(|held| *held = false);
    assert_eq!(client.receive().await.number, 1);
    server.connections.clients_gone().await;
    client.assert_closed().await;
    server.stop().await;
}

#[tokio::test]
async fn stopping_does_not_wait_for_the_disk() {
    let server = Server::start(Settings::default()).await;
    server.disk.held.change(|held| *held = true);
    let mut client = server.connect().await;
    client.send(&write(1, 1, 1)).await;
    let disk = std::sync::Arc::clone(&server.disk);
    disk.under_way.becomes(1).await;
    server.stop().await;
    client.assert_closed().await;
    assert_eq!(*disk.under_way.lock(), 0, "what was under way is cancelled");
}

#[tokio::test]
async fn reading_slows_down_after_many_wrong_tags() {
    let settings = Settings {
        auth_failures_burst: 3,
        auth_failure_pause: hour(),
        ..Settings::default()
    };
    let server = Server::start(settings).await;
    let mut stranger = server.connect().await;
    let mut client = server.connect().await;
    client.send(&read(100, 1)).await;
    assert_eq!(client.receive().await.number, 100);
    let other = ClientKey::new(&[6; 32]);
    let mut bytes = bytes::BytesMut::new();
    (0..10).for_each(|number| read(number, 1).encode(&other, &mut bytes));
    // Nobody yet, and a client whose requests go wrong: both are answered burst + 1 times.
    for connection in [&mut stranger, &mut client] {
        connection.send_bytes(&bytes).await;
        for number in 0..4 {
            let response = connection.receive().await;
            assert_eq!(
                (response.number, response.status),
                (number, ClientStatus::AuthFailure)
            );
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(connection.is_silent());
    }
    server.assert_serves().await;
    server.stop().await;
}

#[tokio::test]
async fn a_request_that_fails_stays_without_an_answer_and_others_do_not() {
    let (log, _guard) = Log::start(Level::WARN);
    let server = Server::start(Settings::default()).await;
    *server.disk.broken.lock().unwrap() = SectorAddress::new(Volume(0), 3);
    let mut client = server.connect().await;
    client.send(&read(1, 3)).await;
    client.send(&read(2, 4)).await;
    assert_eq!(client.receive().await.number, 2);
    log.only_line("without an answer: broken").await;
    assert!(client.is_silent());
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_goes_away_leaves_nothing_behind() {
    let server = Server::start(Settings::default()).await;
    server.disk.held.change(|held| *held = true);
    let mut client = server.connect().await;
    for number in 0..10 {
        client.send(&write(number, number, 1)).await;
    }
    server.disk.under_way.becomes(10).await;
    // A reset, as when the machine is gone.
    rustix::net::sockopt::set_socket_linger(&client.stream, Some(Duration::ZERO)).unwrap();
    drop(client);
    eventually(|| server.connections.clients() == 0).await;
    assert_eq!(*server.disk.under_way.lock(), 0);
    server.stop().await;
}

/// No status of the protocol fits, so that the connection is closed, and only the log says why.
#[tokio::test]
async fn a_held_disk_closes_the_connection_and_the_log_says_who_holds_it() {
    let (log, _guard) = Log::start(Level::WARN);
    let server = Server::start(Settings::default()).await;
    let mut client = server.connect().await;
    client.send(&read(1, 1)).await;
    assert_eq!(client.receive().await.number, 1);
    let refusal = held(rank(3), 7, "10.0.0.9:1");
    *server.disk.holder.lock().unwrap() = Some(refusal);
    for number in 2..9 {
        client.send(&read(number, number)).await;
    }
    client.assert_closed().await;
    log.only_line("held by 10.0.0.9:1 through process 3").await;
    // Nor is it said of each of the connections by which a client tries again and again.
    for _ in 0..5 {
        let mut client = server.connect().await;
        client.send(&read(1, 1)).await;
        client.assert_closed().await;
    }
    assert!(log.lines().is_empty(), "{:?}", log.lines());
    *server.disk.holder.lock().unwrap() = None;
    server.assert_serves().await;
    server.stop().await;
}
