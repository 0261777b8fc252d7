//! Sessions of clients from the attach to their end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::session::*;
use super::support::rank;
use super::volume::{NEWER, Operation, TestVolume, attach, fence};
use crate::domain::{AttachRefusal, SECTOR_SIZE};
use crate::net::{NetError, Settings, Stage};
use crate::wire::{SectorValues, SessionAnswer, SessionQuestion};

#[tokio::test(start_paused = true)]
async fn an_attached_client_reads_and_changes_sectors() {
    let mut session = Session::start(Settings::default()).await;
    let volume = Arc::clone(&session.volume);
    volume.decision.change(|decision| *decision = Some(Ok(())));
    session.send(&[SessionQuestion::Attach(attach())]).await;
    let granted = SessionAnswer::Attached {
        fence: fence(),
        sectors: TestVolume::SECTORS,
        credit: Settings::default().client_credit,
    };
    assert_eq!(session.answer().await, granted);
    assert_eq!(volume.asked.lock()[..], [(attach(), "client:1".into())]);

    session.send(&[write(1, 9, 0xaa), write(2, 12, 0xbb)]).await;
    assert_eq!(session.answer().await, done(1));
    assert_eq!(session.answer().await, done(2));
    session.send(&[read(3, 8, 8)]).await;
    let parts = vec![
        SectorValues::Zeroes(1),
        SectorValues::Data(sector(0xaa)),
        SectorValues::Zeroes(2),
        SectorValues::Data(sector(0xbb)),
        SectorValues::Zeroes(3),
    ];
    assert_eq!(session.answer().await, values(3, parts));
    session.send(&[discard(4, 0, 65_536), flush(5)]).await;
    let mut answers = [session.answer().await, session.answer().await];
    answers.sort_by_key(|answer| *answer == done(5));
    assert_eq!(answers, [done(4), done(5)]);
    session.send(&[read(6, 8, 8)]).await;
    assert_eq!(
        session.answer().await,
        values(6, vec![SectorValues::Zeroes(8)])
    );

    session.send(&[SessionQuestion::Detach]).await;
    assert_eq!(session.answer().await, SessionAnswer::Detached);
    assert_eq!(*volume.attached.lock(), 0);
    // It may still ask how the process stands, but there is no second attachment.
    session.send(&[SessionQuestion::Attachments]).await;
    let attachments = SessionAnswer::Attachments(Bytes::from_static(b"[\"tested\"]"));
    assert_eq!(session.answer().await, attachments);
    session.send(&[SessionQuestion::Attach(attach())]).await;
    session.assert_fault("attached already").await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_client_may_try_again() {
    let mut session = Session::start(Settings::default()).await;
    let volume = Arc::clone(&session.volume);
    for refusal in [
        AttachRefusal::Contended,
        AttachRefusal::Elsewhere { process: rank(3) },
    ] {
        let refused = Some(Err(refusal.clone()));
        volume.decision.change(|decision| *decision = refused);
        session.send(&[SessionQuestion::Attach(attach())]).await;
        assert_eq!(
            session.answer().await,
            SessionAnswer::AttachRefused(refusal)
        );
    }
    session.attach_as(attach()).await;
    assert_eq!(volume.asked.lock().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_attach_is_dropped_when_its_client_goes() {
    let mut session = Session::start(Settings::default()).await;
    session.send(&[SessionQuestion::Attach(attach())]).await;
    let Session {
        reader,
        writer,
        volume,
        listener,
        ..
    } = session;
    volume.waiting.becomes(1).await;
    drop((reader, writer));
    let error = listener.await.unwrap().unwrap_err();
    assert!(matches!(error, NetError::Closed), "{error}");
    assert_eq!(*volume.waiting.lock(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_fenced_client_hears_of_it_and_nothing_more_is_done_for_it() {
    let mut session = Session::attached(Settings::default()).await;
    let volume = Arc::clone(&session.volume);
    volume.hold([5]);
    session.send(&[write(1, 4, 1), write(2, 5, 1)]).await;
    volume.busy(1).await;
    volume.fenced.change(|by| *by = Some(NEWER));
    volume.under_way.becomes(0).await;
    // It was on its way already.
    session.send(&[write(3, 6, 1)]).await;
    assert_eq!(session.answer().await, done(1));
    let by = NEWER;
    assert_eq!(session.answer().await, SessionAnswer::Fenced { by });
    assert!(session.ended().await.is_ok());
    assert_eq!(
        volume.operations.lock()[..],
        [
            Operation::Write(4, SECTOR_SIZE),
            Operation::Write(5, SECTOR_SIZE)
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_detach_waits_for_what_was_asked_before() {
    let mut session = Session::attached(Settings::default()).await;
    let volume = Arc::clone(&session.volume);
    volume.hold([5, 6]);
    session
        .send(&[write(1, 5, 1), read(2, 6, 1), SessionQuestion::Detach])
        .await;
    volume.busy(2).await;
    session.assert_quiet().await;
    volume.let_go(6);
    let zeroes = values(2, vec![SectorValues::Zeroes(1)]);
    assert_eq!(session.answer().await, zeroes);
    session.assert_quiet().await;
    assert_eq!(*volume.attached.lock(), 1);
    volume.let_go(5);
    assert_eq!(session.answer().await, done(1));
    assert_eq!(session.answer().await, SessionAnswer::Detached);
    assert_eq!(*volume.attached.lock(), 0);
    session.send(&[read(3, 6, 1)]).await;
    session.assert_fault("not attached").await;
}

#[tokio::test(start_paused = true)]
async fn a_detach_that_waits_may_still_be_fenced() {
    let mut session = Session::attached(Settings::default()).await;
    let volume = Arc::clone(&session.volume);
    volume.hold([5]);
    session
        .send(&[write(1, 5, 1), SessionQuestion::Detach])
        .await;
    volume.busy(1).await;
    volume.fenced.change(|by| *by = Some(NEWER));
    let by = NEWER;
    assert_eq!(session.answer().await, SessionAnswer::Fenced { by });
    assert!(session.ended().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_needs_an_attachment_is_a_fault_without_one() {
    for question in [
        read(1, 5, 1),
        write(1, 5, 1),
        discard(1, 5, 1),
        flush(1),
        SessionQuestion::Detach,
    ] {
        let mut session = Session::start(Settings::default()).await;
        session.send(std::slice::from_ref(&question)).await;
        session.assert_fault("not attached").await;
        // An attach that waits is none yet.
        let mut session = Session::start(Settings::default()).await;
        let attach = SessionQuestion::Attach(attach());
        session.send(&[attach, question]).await;
        session.assert_fault("not attached").await;
    }
    for mut session in [
        Session::start(Settings::default()).await,
        Session::attached(Settings::default()).await,
    ] {
        let attach = SessionQuestion::Attach(attach());
        session.send(&[attach.clone(), attach]).await;
        session.assert_fault("attached already").await;
    }
}

#[tokio::test(start_paused = true)]
async fn draining_answers_what_a_session_has_under_way_and_takes_nothing_new() {
    let mut session = Session::attached(Settings::default()).await;
    let volume = Arc::clone(&session.volume);
    volume.hold([5]);
    session.send(&[write(1, 5, 1)]).await;
    volume.busy(1).await;
    session.stage.send_replace(Stage::Draining);
    session.assert_quiet().await;
    session
        .send(&[write(2, 6, 1), SessionQuestion::Detach])
        .await;
    session.assert_quiet().await;
    assert_eq!(*volume.attached.lock(), 1);
    volume.let_go(5);
    assert_eq!(session.answer().await, done(1));
    assert!(session.ended().await.is_ok());
    assert_eq!(
        volume.operations.lock()[..],
        [Operation::Write(5, SECTOR_SIZE)]
    );
}

#[tokio::test(start_paused = true)]
async fn draining_ends_what_has_nothing_under_way() {
    let idle = Session::attached(Settings::default()).await;
    idle.stage.send_replace(Stage::Draining);
    assert!(idle.ended().await.is_ok());

    let mut waiting = Session::start(Settings::default()).await;
    waiting.send(&[SessionQuestion::Attach(attach())]).await;
    waiting.volume.waiting.becomes(1).await;
    waiting.stage.send_replace(Stage::Draining);
    let refused = SessionAnswer::AttachRefused(AttachRefusal::ShuttingDown);
    assert_eq!(waiting.answer().await, refused);
    assert!(waiting.ended().await.is_ok());
}

/// A majority may never come back: stopping does not wait for it.
#[tokio::test(start_paused = true)]
async fn stopping_ends_a_session_with_what_it_has_under_way() {
    let mut session = Session::attached(Settings::default()).await;
    session.volume.hold([5]);
    session.send(&[write(1, 5, 1)]).await;
    session.volume.busy(1).await;
    session.stage.send_replace(Stage::Draining);
    session.assert_quiet().await;
    let start = Instant::now();
    session.stage.send_replace(Stage::Stopped);
    let error = session.ended().await.unwrap_err();
    assert!(matches!(error, NetError::Stopped), "{error}");
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn messages_that_clients_do_not_send_end_a_session() {
    let mut session = Session::start(Settings::default()).await;
    SessionAnswer::Detached.encode(&mut session.writer.encoder);
    session.writer.flush().await.unwrap();
    session.assert_fault("type 0x55").await;
}
