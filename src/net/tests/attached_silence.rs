//! Drivers of which nothing is heard, or not soon.

use std::time::Duration;

use super::driver_client::*;
use super::support::*;
use crate::net::Settings;
use crate::wire::{ClientCommand, ClientStatus};

/// The fewest milliseconds that tell a silent client from one that waits for its turn to run.
fn impatient() -> Settings {
    Settings {
        client_dead_after: Duration::from_millis(300),
        ..Settings::default()
    }
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
    assert_eq!(driver.client.stream.try_write(&bytes).unwrap(), bytes.len());
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
        driver.client.send_bytes(piece).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(operations(&server).is_empty());
    driver.client.send_bytes(last).await;
    let response = driver.receive().await;
    assert_eq!((response.number, response.status), (50, ClientStatus::Ok));
    driver.next_number = 51;
    assert_eq!(driver.ask(8, read_range(256)).await.1, sectors(&fills));

    // One that stays incomplete ends with the client's silence.
    let bytes = driver.encoded(60, 8, write_range(&[9; 256]));
    driver.client.send_bytes(&bytes[..70_000]).await;
    gone(&server).await;
    assert_eq!(operations(&server).len(), 2);
    server.stop().await;
}
