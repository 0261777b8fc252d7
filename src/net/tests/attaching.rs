//! How attachments of drivers begin, and how they are given back.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::time::sleep;

use super::driver_client::*;
use super::support::*;
use super::volume::{attach, held};
use crate::domain::{AttachRefusal, Generation};
use crate::net::Settings;
use crate::wire::{ClientCommand, ClientKey, ClientKind, ClientStatus, ConnectionSession, Tagger};

#[tokio::test]
async fn a_refused_driver_hears_why_and_may_try_again() {
    let server = Server::start(Settings::default()).await;
    let mut driver = Driver::connect(&server).await;
    let by = Generation(8);
    let process = rank(1);
    for (refusal, status, generation, process, holder) in [
        (
            held(rank(3), 6, "10.0.0.9:1"),
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
        assert_eq!(answer.holder, holder);
        assert_eq!(answer.sectors, TestDisk::SECTORS);
        let refused = driver.ask(1, read_range(1)).await;
        assert_eq!(refused, bare(ClientStatus::NotAttached));
    }
    allow(&server, Ok(()));
    assert_eq!(driver.attach(attach()).await.0, ClientStatus::Ok);
    assert_eq!(
        driver.ask(1, read_range(1)).await,
        (ClientStatus::Ok, sectors(&[0]))
    );
    server.stop().await;
}

#[tokio::test]
async fn what_needs_an_attachment_is_not_done_without_one() {
    let server = Server::start(Settings::default()).await;
    let mut driver = Driver::connect(&server).await;
    for command in [
        read_range(1),
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
    let attaching = driver.send_attach(attach()).await;
    driver.send(0, ClientCommand::Read).await;
    let waiting = &server.host.volume.waiting;
    waiting.becomes(1).await;
    driver.assert_silent().await;
    allow(&server, Ok(()));
    assert_eq!(driver.attach_answer(attaching).await.0, ClientStatus::Ok);
    driver.assert_closed().await;
    gone(&server).await;

    // Refused, it is an ordinary READ, and nobody who knows the statuses is closed for one.
    let mut other = Driver::connect(&server).await;
    let refusal = held(rank(2), 7, "x");
    *server.disk.holder.lock().unwrap() = Some(refusal.clone());
    allow(&server, Err(refusal));
    let attaching = other.send_attach(attach()).await;
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
    let attaching = driver.send_attach(attach()).await;
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
        driver.send_attach(attach()).await;
        // Something unread does not hide the end.
        driver.send(0, ClientCommand::Read).await;
        let waiting = &server.host.volume.waiting;
        waiting.becomes(1).await;
        if is_reset {
            rustix::net::sockopt::set_socket_linger(&driver.client.stream, Some(Duration::ZERO))
                .unwrap();
        }
        drop(driver);
        waiting.becomes(0).await;
        eventually(|| server.connections.clients() == 0).await;
        server.stop().await;
    }
}

#[tokio::test]
async fn a_client_that_asks_on_before_its_attach_is_answered_is_closed_at_a_bound() {
    let server = Server::start(Settings::default()).await;
    let mut driver = Driver::connect(&server).await;
    driver.send_attach(attach()).await;
    let waiting = &server.host.volume.waiting;
    waiting.becomes(1).await;
    let bytes = driver.encoded(2, 1, write_range(&[1; 256]));
    // It may be closed before all is sent.
    driver.client.stream.write_all(&bytes).await.ok();
    waiting.becomes(0).await;
    eventually(|| server.connections.clients() == 0).await;
    server.stop().await;
}

#[tokio::test]
async fn malformed_and_second_attaches_are_invalid() {
    let server = Server::start(Settings::default()).await;
    let mut driver = Driver::connect(&server).await;
    let session = driver.hello().await;
    let attach = attach();
    let command = ClientCommand::Attach { attach, session };
    let mut bytes = driver.encoded(2, 0, command);
    bytes.truncate(104);
    bytes[40] = 4;
    bytes.extend(client_key().tag(&[&bytes]));
    driver.client.send_bytes(&bytes).await;
    assert_eq!(driver.attach_answer(2).await.0, ClientStatus::Invalid);
    allow(&server, Ok(()));
    assert_eq!(driver.attach(attach).await.0, ClientStatus::Ok);
    let hello = driver.ask(0, ClientCommand::Hello).await;
    assert_eq!(hello, bare(ClientStatus::Invalid));
    assert_eq!(driver.attach_by(session).await, ClientStatus::Invalid);
    for command in [read_range(300), ClientCommand::Discard { count: 70_000 }] {
        let refused = driver.ask(1, command).await;
        assert_eq!(refused, bare(ClientStatus::Invalid));
    }
    assert_eq!(*server.host.volume.attached.lock(), 1);
    server.stop().await;
}

#[tokio::test]
async fn nobody_attaches_by_what_was_recorded() {
    let server = Server::start(Settings::default()).await;
    let mut driver = Driver::connect(&server).await;
    let never_drawn = ConnectionSession([0; 16]);
    assert_eq!(driver.attach_by(never_drawn).await, ClientStatus::Invalid);
    let first = driver.hello().await;
    let second = driver.hello().await;
    assert_ne!(first, second);
    assert_eq!(driver.attach_by(first).await, ClientStatus::Invalid);
    assert_eq!(driver.attach_by(second).await, ClientStatus::Invalid);

    let session = driver.hello().await;
    let attach = attach();
    let recorded = driver.encoded(9, 0, ClientCommand::Attach { attach, session });
    let mut elsewhere = Driver::connect(&server).await;
    elsewhere.hello().await;
    allow(&server, Ok(()));
    elsewhere.client.send_bytes(&recorded).await;
    assert_eq!(elsewhere.attach_answer(9).await.0, ClientStatus::Invalid);
    assert!(server.host.volume.asked.lock().is_empty());

    // Nor a second time where it was sent.
    allow(&server, Err(AttachRefusal::Contended));
    for told in [ClientStatus::Contended, ClientStatus::Invalid] {
        driver.client.send_bytes(&recorded).await;
        assert_eq!(driver.attach_answer(9).await.0, told);
    }
    server.stop().await;
}

#[tokio::test]
async fn nobody_attaches_by_what_was_held_back() {
    let client_dead_after = Duration::from_secs(1);
    let server = Server::start(Settings {
        client_dead_after,
        ..Settings::default()
    })
    .await;
    allow(&server, Ok(()));
    let mut driver = Driver::connect(&server).await;
    let session = driver.hello().await;
    sleep(client_dead_after).await;
    assert_eq!(driver.attach_by(session).await, ClientStatus::Invalid);
    assert!(server.host.volume.asked.lock().is_empty());
    assert_eq!(driver.attach(attach()).await.0, ClientStatus::Ok);
    server.stop().await;
}

#[tokio::test]
async fn a_driver_of_another_key_hears_that() {
    let server = Server::start(Settings::default()).await;
    let mut driver = Driver::connect(&server).await;
    let session = driver.hello().await;
    driver.of_requests = Box::new(ClientKey::new(&[6; 32]));
    let attach = attach();
    for command in [
        ClientCommand::Hello,
        ClientCommand::Attach { attach, session },
        ClientCommand::Read,
    ] {
        driver.send(0, command).await;
    }
    let kinds = [ClientKind::Hello, ClientKind::Attach, ClientKind::Read];
    for (number, kind) in (2..).zip(kinds) {
        let response = driver.receive().await;
        assert_eq!((response.number, response.kind), (number, kind));
        assert_eq!(response.status, ClientStatus::AuthFailure);
        assert!(response.content.is_empty());
    }
    assert!(server.host.volume.asked.lock().is_empty());
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
    let late = driver.ask(2, read_range(1)).await;
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
    let session = driver.session.unwrap();
    assert_eq!(driver.attach_by(session).await, ClientStatus::Invalid);
    server.stop().await;
}
