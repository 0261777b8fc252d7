//! Sessions of which one end is silent for long, or sleeps.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, advance, sleep};

use super::session::*;
use super::volume::{NEWER, attach};
use crate::net::{NetError, Settings};
use crate::wire::{SessionAnswer, SessionQuestion};

/// A majority may be missing for long; both ends show that they live meanwhile.
#[tokio::test(start_paused = true)]
async fn heartbeats_go_both_ways_while_an_attach_waits() {
    let mut session = Session::start(Settings::default()).await;
    session.send(&[SessionQuestion::Attach(attach())]).await;
    let start = Instant::now();
    for beat in 1..=60 {
        assert_eq!(session.next().await, Some(SessionAnswer::Heartbeat));
        assert_eq!(start.elapsed(), beat * Duration::from_millis(500));
        session.send(&[SessionQuestion::Heartbeat]).await;
    }
    assert_eq!(*session.volume.waiting.lock(), 1);
    let decision = Some(Ok(()));
    session
        .volume
        .decision
        .change(|present| *present = decision);
    let answer = session.answer().await;
    assert!(
        matches!(answer, SessionAnswer::Attached { .. }),
        "{answer:?}"
    );
}

/// So is one whose client is silent, and the attachment of one that falls silent later.
#[tokio::test(start_paused = true)]
async fn a_silent_client_is_dropped_with_what_it_has() {
    let mut waiting = Session::start(Settings::default()).await;
    waiting.send(&[SessionQuestion::Attach(attach())]).await;
    let start = Instant::now();
    let error = waiting.ended().await.unwrap_err();
    assert!(matches!(error, NetError::Silent { .. }), "{error}");
    assert_eq!(start.elapsed(), Duration::from_secs(3));

    let mut session = Session::attached(Settings::default()).await;
    session.volume.hold([5]);
    sleep(Duration::from_secs(2)).await;
    session.send(&[write(1, 5, 1)]).await;
    let start = Instant::now();
    session.volume.busy(1).await;
    assert_eq!(*session.volume.attached.lock(), 1);
    let error = session.ended().await.unwrap_err();
    assert!(matches!(error, NetError::Silent { .. }), "{error}");
    assert_eq!(start.elapsed(), Duration::from_secs(3));
}

/// A process that slept must not do what a client sent it before: the client has taken it for dead
/// and had it done elsewhere, and newer things after it.
#[tokio::test(start_paused = true)]
async fn what_waited_while_the_process_slept_is_not_done() {
    // Which of its events a task that wakes looks at first is left to chance.
    for _ in 0..64 {
        let mut session = Session::attached(Settings::default()).await;
        session.send(&[write(1, 5, 1)]).await;
        // Nothing else runs until the time is another.
        advance(Duration::from_millis(3001)).await;
        let volume = Arc::clone(&session.volume);
        let error = session.ended().await.unwrap_err();
        assert!(matches!(error, NetError::Silent { .. }), "{error}");
        assert_eq!(volume.operations.lock()[..], []);
    }
}

#[tokio::test(start_paused = true)]
async fn a_short_sleep_of_the_process_costs_nothing() {
    for _ in 0..64 {
        let mut session = Session::attached(Settings::default()).await;
        session.send(&[write(1, 5, 1)]).await;
        advance(Duration::from_millis(2999)).await;
        assert_eq!(session.answer().await, done(1));
        session.send(&[write(2, 5, 1)]).await;
        advance(Duration::from_millis(2999)).await;
        assert_eq!(session.answer().await, done(2));
    }
}

/// A client that takes nothing cannot keep a session that has ended.
#[tokio::test(start_paused = true)]
async fn the_last_answers_are_not_waited_for_for_ever() {
    let settings = Settings::default();
    let mut session = Session::piped(settings, 16 << 10).await;
    session.attach_as(attach()).await;
    session.send(&[write(1, 5, 1)]).await;
    assert_eq!(session.answer().await, done(1));
    let reads: Vec<_> = (10..100).map(|number| read(number, 5, 1)).collect();
    session.send(&reads).await;
    session
        .volume
        .operations
        .wait(|all| (all.len() == 91).then_some(()))
        .await;
    session.volume.fenced.change(|by| *by = Some(NEWER));
    let start = Instant::now();
    while !session.listener.is_finished() {
        assert!(start.elapsed() < Duration::from_secs(10));
        session.send(&[SessionQuestion::Heartbeat]).await;
        sleep(Duration::from_millis(100)).await;
        if start.elapsed() < Duration::from_secs(2) {
            assert!(!session.listener.is_finished());
        }
    }
    let error = session.listener.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("the last answers"), "{error}");
}
