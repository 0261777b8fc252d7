//! What operators hear of a disk that waits.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::Level;

use super::support::*;
use crate::client::{AttachOptions, Attachment};
use crate::domain::AttachRefusal;
use crate::net::tests::log::Log;
use crate::wire::{SessionAnswer, SessionQuestion};

/// What was said since the last call, without where and when.
fn said_in(log: &Log) -> Vec<String> {
    let words = |line: String| line.trim().replacen("atdd::client::", "", 1);
    log.take().into_iter().map(words).collect()
}

#[tokio::test(start_paused = true)]
async fn waiting_is_said_after_two_seconds_and_so_is_going_on() {
    let (log, _listening) = Log::start(Level::INFO);
    let mut stage = stage(1);
    stage.set_all(Meets::Refuses);
    let attachment = Attachment::start(stage.network.clone(), &AttachOptions::exclusive());
    sleep(Duration::from_millis(1900)).await;
    assert!(said_in(&log).is_empty());
    sleep(Duration::from_secs(60)).await;
    assert_eq!(
        said_in(&log),
        [
            "WARN waiting: the disk waits for processes to answer; `atdd status --config …` says how \
             they are why=\"process 1: the other end closed the connection\""
        ],
        "once"
    );
    stage.set_all(Meets::Opens);
    let mut process = stage.session().await;
    process.admit(1).await;
    attachment.granted().await.unwrap();
    sleep(Duration::from_millis(1)).await;
    let said = said_in(&log);
    assert_eq!(said.len(), 1);
    assert!(
        said[0].starts_with("INFO waiting: the disk goes on seconds=6"),
        "{said:?}"
    );

    // An attached disk waits from the moment at which something is asked for.
    sleep(Duration::from_secs(1)).await;
    let writing = write(&attachment, 0, 1);
    let question = process.question().await;
    let asked = number(&question);
    let alive = tokio::spawn(async move {
        for _ in 0..30 {
            process.answer(SessionAnswer::Heartbeat).await;
            sleep(Duration::from_millis(100)).await;
        }
        process.answer(SessionAnswer::Done { number: asked }).await;
        process
    });
    writing.await.unwrap().unwrap();
    let process = alive.await.unwrap();
    sleep(Duration::from_millis(1)).await;
    assert_eq!(
        said_in(&log),
        [
            "WARN waiting: the disk waits for processes to answer; `atdd status --config …` says how \
             they are why=\"process 1 is asked and has not answered: too few others may be within \
             its reach, or disks be slow or full\"",
            "INFO waiting: the disk goes on seconds=3"
        ]
    );
    drop(process);
}

#[tokio::test(start_paused = true)]
async fn failing_over_is_said() {
    let (log, _listening) = Log::start(Level::INFO);
    let mut stage = stage(2);
    let (_attachment, process, owner) = stage.attached(AttachOptions::exclusive()).await;
    let first = process.rank;
    drop(process);
    let mut process = stage.session().await;
    process.attach().await;
    let refusal = AttachRefusal::Contended;
    process.answer(SessionAnswer::AttachRefused(refusal)).await;
    process.attach().await;
    process.grant(fence(2, owner)).await;
    sleep(Duration::from_millis(1)).await;
    let second = process.rank;
    assert_eq!(
        said_in(&log),
        [
            format!(
                "WARN driver::answers: lost the process that served the disk process={first} \
                 why=\"the other end closed the connection\""
            ),
            format!(
                "INFO driver::answers: the disk goes on through this process process={second} \
                 generation=2"
            )
        ]
    );
}

/// Each time it said how it stands the disk was said to go on, and two seconds later to wait.
#[tokio::test(start_paused = true)]
async fn a_process_that_only_says_how_it_stands_is_waited_for_once() {
    let (log, _listening) = Log::start(Level::INFO);
    let mut stage = stage(3);
    let (attachment, mut process, _) = stage.attached(AttachOptions::exclusive()).await;
    let writing = write(&attachment, 0, 1);
    let question = process.question().await;
    for _ in 0..4 {
        assert_eq!(process.question().await, SessionQuestion::Status);
        process.says_it_is("serving").await;
    }
    sleep(Duration::from_millis(1)).await;
    let said = said_in(&log);
    assert!(
        matches!(&said[..], [line] if line.contains("has not answered")),
        "{said:#?}"
    );
    process.done(&question).await;
    writing.await.unwrap().unwrap();
    let said = said_in(&log);
    assert_eq!(said, ["INFO waiting: the disk goes on seconds=8"]);
}

/// Each refusal after the first two seconds was said to be the disk going on.
#[tokio::test(start_paused = true)]
async fn an_attach_that_is_refused_is_waited_for_once() {
    let (log, _listening) = Log::start(Level::INFO);
    let mut stage = stage(1);
    let attachment = Attachment::start(stage.network.clone(), &AttachOptions::exclusive());
    let mut process = stage.session().await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(10) {
        process.attach().await;
        let refusal = AttachRefusal::Contended;
        process.answer(SessionAnswer::AttachRefused(refusal)).await;
    }
    let owner = process.attach().await.owner;
    let said = said_in(&log);
    let contended = AttachRefusal::Contended.to_string();
    assert!(
        matches!(&said[..], [line] if line.contains("waits") && line.contains(&contended)),
        "{said:#?}"
    );
    process.grant(fence(1, owner)).await;
    attachment.granted().await.unwrap();
    let said = said_in(&log);
    assert_eq!(said, ["INFO waiting: the disk goes on seconds=10"]);
}

#[tokio::test(start_paused = true)]
async fn a_process_that_does_not_grant_the_disk_is_named() {
    let (log, _listening) = Log::start(Level::INFO);
    let mut stage = stage(1);
    let _attachment = Attachment::start(stage.network.clone(), &AttachOptions::exclusive());
    let mut process = stage.session().await;
    process.attach().await;
    let _lives = tokio::spawn(process.live());
    sleep(Duration::from_secs(3)).await;
    assert_eq!(
        said_in(&log),
        [
            "WARN waiting: the disk waits for processes to answer; `atdd status --config …` says how \
             they are why=\"process 1 has not granted \
             the disk yet\""
        ]
    );
}
