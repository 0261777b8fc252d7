//! How attachments begin and end.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::support::*;
use crate::client::{AttachOptions, Attachment, ClientError};
use crate::domain::AttachRefusal;
use crate::wire::{SessionAnswer, SessionQuestion};

fn start(stage: &Stage) -> Attachment {
    Attachment::start(stage.network.clone(), &AttachOptions::exclusive())
}

/// How long it takes to give it back; that it ends is part of every test.
async fn time_to_detach(attachment: Attachment) -> Duration {
    let began = Instant::now();
    let detached = timeout(Duration::from_secs(600), attachment.detach());
    detached.await.expect("it ends");
    began.elapsed()
}

#[tokio::test(start_paused = true)]
async fn who_holds_the_disk_is_told() {
    let mut stage = stage(3);
    let attachment = start(&stage);
    let mut process = stage.session().await;
    assert!(!process.attach().await.take_over);
    process.answer(SessionAnswer::AttachRefused(held())).await;
    let error = attachment.granted().await.unwrap_err();
    assert!(matches!(&error, ClientError::Held(holder) if holder.client == "10.0.0.9:5000"));
    stage.no_session();
}

#[tokio::test(start_paused = true)]
async fn an_attach_that_met_another_is_tried_again_after_a_random_pause() {
    let mut stage = stage(3);
    let attachment = start(&stage);
    let mut process = stage.session().await;
    let mut owner = process.attach().await.owner;
    for _ in 0..20 {
        let contended = SessionAnswer::AttachRefused(AttachRefusal::Contended);
        process.answer(contended).await;
        let refused_at = Instant::now();
        owner = process.attach().await.owner;
        let pause = refused_at.elapsed().as_millis();
        assert!((10..=101).contains(&pause), "{pause}");
    }
    process.grant(fence(1, owner)).await;
    attachment.granted().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn it_goes_where_it_is_sent() {
    let mut stage = stage(5);
    let attachment = start(&stage);
    let mut process = stage.session().await;
    process.attach().await;
    let there = rank(process.rank.number() % 5 + 1);
    let there = rank(there.number() % 5 + 1);
    let elsewhere = AttachRefusal::Elsewhere { process: there };
    process
        .answer(SessionAnswer::AttachRefused(elsewhere))
        .await;
    let mut process = stage.session().await;
    assert_eq!(process.rank, there);
    process.admit(1).await;
    attachment.granted().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_process_that_does_not_get_it_done_is_not_waited_for_for_ever() {
    let mut stage = stage(3);
    let attachment = start(&stage);
    let mut process = stage.session().await;
    process.attach().await;
    let began = Instant::now();
    let _lives = tokio::spawn(process.live());
    let mut process = stage.session().await;
    assert_eq!(began.elapsed().as_secs(), 3);
    process.admit(1).await;
    attachment.granted().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn only_when_all_turn_it_away_an_attach_fails() {
    let stage = stage(3);
    stage.set_all(Meets::Rejects);
    stage.set(rank(2), Meets::Refuses);
    let attachment = start(&stage);
    let limit = Duration::from_secs(100);
    assert!(timeout(limit, attachment.granted()).await.is_err());
    stage.set(rank(2), Meets::Rejects);
    let error = attachment.granted().await.unwrap_err();
    assert!(matches!(error, ClientError::Rejected { .. }), "{error}");
    assert!(error.to_string().contains("cluster"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn an_attach_that_nobody_waits_for_leaves_nothing() {
    let mut stage = stage(3);
    let attachment = start(&stage);
    let mut process = stage.session().await;
    process.attach().await;
    drop(attachment);
    assert_eq!(process.anything().await, None);
    stage.no_session();
}

#[tokio::test(start_paused = true)]
async fn giving_back_waits_for_what_was_asked_and_for_the_answer() {
    let mut stage = stage(3);
    let (attachment, mut process, _) = stage.attached(AttachOptions::exclusive()).await;
    let writing = write(&attachment, 0, 1);
    let asked = process.question().await;
    let waits = write(&attachment, 0, 1);
    sleep(Duration::from_millis(1)).await;
    let detaching = tokio::spawn(attachment.clone().detach());
    assert_eq!(in_words(&process.questions().await), "");
    process.done(&asked).await;
    let last = process.question().await;
    assert_eq!(process.question().await, SessionQuestion::Detach);
    let late = attachment.read(0, 1).await;
    assert!(matches!(late, Err(ClientError::Detached)));
    process.done(&last).await;
    writing.await.unwrap().unwrap();
    waits.await.unwrap().unwrap();
    assert!(!detaching.is_finished());
    process.answer(SessionAnswer::Detached).await;
    detaching.await.unwrap();
    assert!(matches!(attachment.over().await, ClientError::Detached));
    let fenced = timeout(Duration::from_secs(9), attachment.fenced());
    assert!(fenced.await.is_err(), "it has ended otherwise");
}

#[tokio::test(start_paused = true)]
async fn the_last_handle_that_is_dropped_gives_it_back() {
    let mut stage = stage(3);
    let (attachment, mut process, _) = stage.attached(AttachOptions::exclusive()).await;
    let clone = attachment.clone();
    drop(attachment);
    assert_eq!(in_words(&process.questions().await), "");
    drop(clone);
    process.take_back().await;
    assert_eq!(process.anything().await, None);
}

#[tokio::test(start_paused = true)]
async fn giving_back_does_not_wait_for_ever() {
    let mut stage = stage(3);
    let (attachment, mut process, _) = stage.attached(AttachOptions::exclusive()).await;
    let writing = write(&attachment, 0, 1);
    process.question().await;
    let _lives = tokio::spawn(process.live());
    assert_eq!(time_to_detach(attachment).await.as_secs(), 3);
    let error = writing.await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::UnknownOutcome), "{error}");
}

/// A process that is asked every two seconds how it stands and says so kept its client for ever,
/// with a write that was never done.
#[tokio::test(start_paused = true)]
async fn giving_back_does_not_wait_for_a_process_that_only_says_how_it_stands() {
    let mut stage = stage(3);
    let (attachment, mut process, _) = stage.attached(AttachOptions::exclusive()).await;
    let writing = write(&attachment, 0, 1);
    process.question().await;
    // Its sector is taken, and it is not even sent.
    let unsent = write(&attachment, 0, 1);
    sleep(Duration::from_millis(1)).await;
    let _stalls = tokio::spawn(process.stall());
    assert_eq!(time_to_detach(attachment).await.as_secs(), 3);
    let error = writing.await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::UnknownOutcome), "{error}");
    let error = unsent.await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::Detached), "{error}");
}

/// Refusals counted as answers, too.
#[tokio::test(start_paused = true)]
async fn giving_back_does_not_wait_for_an_attach_that_always_meets_others() {
    let mut stage = stage(3);
    let (attachment, mut process, _) = stage.attached(AttachOptions::exclusive()).await;
    let _writing = write(&attachment, 0, 1);
    process.question().await;
    drop(process);
    let mut process = stage.session().await;
    process.attach().await;
    tokio::spawn(async move {
        loop {
            let contended = SessionAnswer::AttachRefused(AttachRefusal::Contended);
            process.answer(contended).await;
            process.attach().await;
        }
    });
    assert_eq!(time_to_detach(attachment).await.as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn giving_back_has_an_end_while_processes_grant_the_disk_and_go_away() {
    let mut stage = stage(3);
    let (attachment, mut process, owner) = stage.attached(AttachOptions::exclusive()).await;
    let _writing = write(&attachment, 0, 1);
    process.question().await;
    tokio::spawn(async move {
        for generation in 2.. {
            drop(process);
            process = stage.session().await;
            process.attach().await;
            process.grant(fence(generation, owner)).await;
            sleep(Duration::from_millis(900)).await;
        }
    });
    assert_eq!(time_to_detach(attachment).await.as_secs(), 30);
}

#[tokio::test(start_paused = true)]
async fn giving_back_waits_as_long_as_something_is_answered() {
    let mut stage = stage(3);
    let (attachment, mut process, _) = stage.attached(AttachOptions::exclusive()).await;
    let writing = [0, 1, 2].map(|sector| write(&attachment, sector, 1));
    let asked = process.questions().await;
    let detaching = tokio::spawn(attachment.detach());
    assert_eq!(process.question().await, SessionQuestion::Detach);
    for question in &asked {
        for _ in 0..4 {
            sleep(Duration::from_millis(500)).await;
            process.answer(SessionAnswer::Heartbeat).await;
        }
        process.done(question).await;
    }
    for written in writing {
        written.await.unwrap().unwrap();
    }
    assert!(!detaching.is_finished());
    process.answer(SessionAnswer::Detached).await;
    detaching.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_idle_attachment_without_a_process_is_given_back_at_once() {
    let mut stage = stage(3);
    let (attachment, process, _) = stage.attached(AttachOptions::exclusive()).await;
    stage.set_all(Meets::Refuses);
    drop(process);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(time_to_detach(attachment).await, Duration::ZERO);
}
