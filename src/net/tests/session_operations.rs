//! Operations of a session's client: their order, what fails, and its credit.

use std::sync::Arc;

use super::session::*;
use super::volume::{Operation, TestVolume, attach};
use crate::domain::{Attach, AttachKind, OperationError, SECTOR_SIZE};
use crate::net::Settings;
use crate::wire::{Credit, SectorValues, SessionAnswer, SessionQuestion};

#[tokio::test(start_paused = true)]
async fn answers_come_in_the_order_in_which_they_get_ready() {
    let mut session = Session::attached(Settings::default()).await;
    let volume = Arc::clone(&session.volume);
    volume.hold(0..500);
    let writes: Vec<_> = (0..500).map(|number| write(number, number, 1)).collect();
    session.send(&writes).await;
    volume.busy(500).await;
    session.assert_quiet().await;
    for number in (0..500).rev() {
        volume.let_go(number);
        assert_eq!(session.answer().await, done(number));
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_is_answered_without_asking_the_volume() {
    let mut session = Session::attached(Settings::default()).await;
    let sectors = TestVolume::SECTORS;
    let past = OperationError::PastEnd { sectors };
    for question in [
        read(1, sectors - 1, 2),
        write(1, sectors, 1),
        discard(1, sectors - 65_535, 65_536),
        read(1, u64::MAX, 1),
        write(1, u64::MAX, 1),
        discard(1, u64::MAX - 1, 2),
    ] {
        session.send(&[question]).await;
        assert_eq!(session.answer().await, failed(1, past.clone()));
    }
    session.send(&[write(1, sectors - 1, 1)]).await;
    assert_eq!(session.answer().await, done(1));
    assert_eq!(session.volume.operations.lock().len(), 1);
    *session.volume.fault.lock().unwrap() = Some(OperationError::Unreadable);
    session.send(&[read(2, 0, 1)]).await;
    let unreadable = failed(2, OperationError::Unreadable);
    assert_eq!(session.answer().await, unreadable);
}

#[tokio::test(start_paused = true)]
async fn a_read_only_attachment_changes_nothing() {
    let mut session = Session::start(Settings::default()).await;
    let reader = Attach {
        kind: AttachKind::ReadOnly,
        ..attach()
    };
    session.attach_as(reader).await;
    for question in [write(1, 5, 1), discard(1, 5, 1), write(1, u64::MAX, 1)] {
        session.send(&[question]).await;
        let refused = failed(1, OperationError::ReadOnly);
        assert_eq!(session.answer().await, refused);
    }
    session.send(&[read(2, 5, 1)]).await;
    let zeroes = values(2, vec![SectorValues::Zeroes(1)]);
    assert_eq!(session.answer().await, zeroes);
    session.send(&[flush(3)]).await;
    assert_eq!(session.answer().await, done(3));
    assert_eq!(
        session.volume.operations.lock()[..],
        [Operation::Read(5, 1)]
    );
}

fn small() -> Settings {
    Settings {
        client_credit: Credit {
            requests: 4,
            bytes: 40_000,
        },
        ..Settings::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_for_more_than_its_credit_is_closed() {
    for questions in [
        (0..5)
            .map(|number| discard(number, 5, 1))
            .collect::<Vec<_>>(),
        (0..2).map(|number| read(number, 5, 5)).collect(),
        vec![SessionQuestion::Status, SessionQuestion::Status],
    ] {
        let mut session = Session::attached(small()).await;
        session.volume.hold([5]);
        session.send(&questions).await;
        session.assert_fault("more than its credit").await;
    }
    let mut session = Session::attached(small()).await;
    session.volume.hold([5]);
    session.send(&[read(1, 5, 1), write(1, 5, 1)]).await;
    session.assert_fault("the same number").await;
}

/// What is answered is free again, whether the client has read it or not.
#[tokio::test(start_paused = true)]
async fn a_client_may_use_all_of_its_credit_all_the_time() {
    let mut session = Session::attached(small()).await;
    let volume = Arc::clone(&session.volume);
    for round in 0..100 {
        volume.hold([5]);
        let discards: Vec<_> = (0..4).map(|number| discard(number, 5, 1)).collect();
        session.send(&discards).await;
        volume.busy(4).await;
        volume.let_go(5);
        for number in 0..4 {
            assert_eq!(session.answer().await, done(number), "round {round}");
        }
        // More than all of it, but alone.
        session.send(&[read(7, 0, 256)]).await;
        let zeroes = values(7, vec![SectorValues::Zeroes(256)]);
        assert_eq!(session.answer().await, zeroes);
    }
    // A detach needs no place.
    volume.hold([5]);
    let discards = (0..4).map(|number| discard(number, 5, 1));
    let all: Vec<_> = discards.chain([SessionQuestion::Detach]).collect();
    session.send(&all).await;
    volume.busy(4).await;
    volume.let_go(5);
    for number in 0..4 {
        assert_eq!(session.answer().await, done(number));
    }
    assert_eq!(session.answer().await, SessionAnswer::Detached);
}

/// The process goes on with what the client asked before, and hears it, while the client reads
/// nothing.
#[tokio::test(start_paused = true)]
async fn reading_does_not_wait_for_writing() {
    let mut session = Session::piped(Settings::default(), 16 << 10).await;
    session.attach_as(attach()).await;
    session.send(&[write(0, 5, 7)]).await;
    assert_eq!(session.answer().await, done(0));
    for number in 1..=200 {
        session.send(&[read(number, 5, 1)]).await;
    }
    session.send(&[write(201, 6, 7)]).await;
    session
        .volume
        .operations
        .wait(|all| (all.last() == Some(&Operation::Write(6, SECTOR_SIZE))).then_some(()))
        .await;
    for number in 1..=200 {
        let data = vec![SectorValues::Data(sector(7))];
        assert_eq!(session.answer().await, values(number, data));
    }
    assert_eq!(session.answer().await, done(201));
}
