//! What becomes of an attachment whose process goes away.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::support::*;
use crate::client::{AttachOptions, Attachment, ClientError};
use crate::domain::{AttachRefusal, Generation, OperationError, OwnerId};
use crate::wire::{SectorValues, SessionAnswer, SessionQuestion};

const BY: Generation = Generation(9);
const OTHER: OwnerId = OwnerId([7; 16]);

/// An exclusive attachment with two writes of sector 5 and a read under way, and its process.
async fn busy(stage: &mut Stage) -> (Attachment, Process, OwnerId, [Doing<()>; 2]) {
    let (attachment, mut process, owner) = stage.attached(AttachOptions::exclusive()).await;
    let first = write(&attachment, 5, 2);
    assert_eq!(in_words(&process.questions().await), "write 5+2");
    let second = write(&attachment, 4, 2);
    assert_eq!(in_words(&process.questions().await), "", "they overlap");
    (attachment, process, owner, [first, second])
}

#[tokio::test(start_paused = true)]
async fn unanswered_requests_are_repeated_in_order_through_the_next_process() {
    let mut stage = stage(3);
    let (attachment, process, owner, [first, second]) = busy(&mut stage).await;
    let reading = read(&attachment, 5, 1);
    sleep(Duration::from_millis(1)).await;
    let before = process.rank;
    drop(process);

    let lost_at = Instant::now();
    let mut process = stage.session().await;
    assert_eq!(lost_at.elapsed(), Duration::ZERO);
    assert_eq!(process.rank.number(), before.number() % 3 + 1);
    let attach = process.attach().await;
    assert_eq!(attach.owner, owner);
    assert_eq!(attach.continues, Some(Generation(1)));
    let third = write(&attachment, 50, 1);
    assert_eq!(in_words(&process.questions().await), "", "not attached yet");
    process.grant(fence(2, owner)).await;
    let questions = process.questions().await;
    assert_eq!(in_words(&questions), "write 5+2, read 5+1, write 50+1");
    assert_eq!(attachment.fence(), fence(2, owner));

    process.done(&questions[0]).await;
    first.await.unwrap().unwrap();
    let overlapping = process.question().await;
    assert_eq!(in_words(std::slice::from_ref(&overlapping)), "write 4+2");
    process.done(&overlapping).await;
    second.await.unwrap().unwrap();
    process.done(&questions[2]).await;
    third.await.unwrap().unwrap();
    let values = vec![SectorValues::Zeroes(1)];
    let number = number(&questions[1]);
    let answer = SessionAnswer::Values {
        number,
        values: values.clone(),
    };
    process.answer(answer).await;
    assert_eq!(reading.await.unwrap().unwrap(), values);
}

async fn assert_over(attachment: &Attachment, pending: impl IntoIterator<Item = Doing<()>>) {
    for pending in pending {
        let error = pending.await.unwrap().unwrap_err();
        assert!(
            matches!(error, ClientError::Fenced { by: BY, .. }),
            "{error}"
        );
    }
    assert_eq!(attachment.fenced().await, BY);
    let later = attachment.read(0, 1).await.unwrap_err();
    assert!(
        matches!(later, ClientError::Fenced { by: BY, .. }),
        "{later}"
    );
    let later = attachment.flush().await.unwrap_err();
    assert!(
        matches!(later, ClientError::Fenced { by: BY, .. }),
        "{later}"
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_is_repeated_when_another_came_in_between() {
    let mut stage = stage(3);
    let (attachment, process, _, pending) = busy(&mut stage).await;
    drop(process);
    let mut process = stage.session().await;
    process.attach().await;
    let refusal = AttachRefusal::Fenced { by: BY };
    process.answer(SessionAnswer::AttachRefused(refusal)).await;
    assert_over(&attachment, pending).await;
    assert_eq!(process.anything().await, None, "nothing more was asked");
    stage.no_session();
}

#[tokio::test(start_paused = true)]
async fn being_fenced_ends_everything_at_once() {
    for by_answer in [false, true] {
        let mut stage = stage(3);
        let (attachment, process, _, pending) = busy(&mut stage).await;
        let by = fence(9, OTHER);
        process
            .answer(if by_answer {
                SessionAnswer::Failed {
                    number: crate::wire::RequestNumber(0),
                    error: OperationError::Fenced { by },
                }
            } else {
                SessionAnswer::Fenced { by }
            })
            .await;
        assert_over(&attachment, pending).await;
        stage.no_session();
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_was_overtaken_by_its_own_goes_on() {
    let mut stage = stage(3);
    let (_attachment, process, owner, pending) = busy(&mut stage).await;
    let by = fence(2, owner);
    process.answer(SessionAnswer::Fenced { by }).await;
    let before = process.rank;
    let mut process = stage.session().await;
    assert_eq!(process.rank, before);
    let attach = process.attach().await;
    assert_eq!(attach.continues, Some(Generation(1)));
    process.grant(fence(3, owner)).await;
    for pending in pending {
        let question = process.question().await;
        process.done(&question).await;
        pending.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_is_silent_is_left_within_two_seconds() {
    let mut stage = stage(3);
    let (attachment, mut process, owner) = stage.attached(AttachOptions::exclusive()).await;
    // As long as it answers heartbeats, it is not.
    let heartbeats_end = Instant::now() + Duration::from_secs(20);
    while Instant::now() < heartbeats_end {
        let heartbeat = timeout(DEAD_AFTER, process.anything()).await;
        assert_eq!(heartbeat, Ok(Some(SessionQuestion::Heartbeat)));
        process.answer(SessionAnswer::Heartbeat).await;
    }
    let writing = write(&attachment, 0, 1);
    let silent_at = Instant::now();
    let mut next = stage.session().await;
    next.attach().await;
    next.grant(fence(2, owner)).await;
    let repeated = next.question().await;
    assert!(silent_at.elapsed() < Duration::from_secs(2));
    next.done(&repeated).await;
    writing.await.unwrap().unwrap();
    drop(process);
}

#[tokio::test(start_paused = true)]
async fn shared_changes_fail_and_reads_are_repeated() {
    let mut stage = stage(3);
    let (attachment, mut process, _) = stage.attached(AttachOptions::shared()).await;
    let writing = write(&attachment, 5, 1);
    let reading = read(&attachment, 9, 1);
    let asked = process.questions().await;
    assert_eq!(in_words(&asked), "write 5+1, read 9+1");
    let waits = write(&attachment, 5, 1);
    sleep(Duration::from_millis(1)).await;
    drop(process);
    let error = writing.await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::UnknownOutcome), "{error}");

    let mut process = stage.session().await;
    assert_eq!(process.attach().await.continues, Some(Generation(1)));
    process.grant(shared_fence(1)).await;
    let asked = process.questions().await;
    assert_eq!(in_words(&asked), "read 9+1, write 5+1");
    process.done(&asked[1]).await;
    waits.await.unwrap().unwrap();
    reading.abort();
}

/// An attachment that joined another's, with a write under way at its process.
async fn joined(stage: &mut Stage) -> (Attachment, Process, Doing<()>) {
    let options = AttachOptions::join("disk", b"secret");
    let attachment = Attachment::start(stage.network.clone(), &options);
    let mut process = stage.session().await;
    process.attach().await;
    process.grant(fence(3, OTHER)).await;
    attachment.granted().await.unwrap();
    let writing = write(&attachment, 5, 1);
    assert_eq!(in_words(&process.questions().await), "write 5+1");
    (attachment, process, writing)
}

#[tokio::test(start_paused = true)]
async fn an_attachment_that_joined_is_over_with_its_session() {
    let mut stage = stage(3);
    let (attachment, process, writing) = joined(&mut stage).await;
    drop(process);
    let error = writing.await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::UnknownOutcome), "{error}");
    let over = attachment.over().await;
    assert!(matches!(over, ClientError::UnknownOutcome), "{over}");
}

/// The process may only be slow: what was sent to it must not be carried out after what the device
/// sends over its other gateway.
#[tokio::test(start_paused = true)]
async fn one_that_joined_is_not_over_before_its_process_has_forgotten_it() {
    let mut stage = stage(3);
    let (_attachment, _process, writing) = joined(&mut stage).await;
    let silent_since = Instant::now();
    let error = writing.await.unwrap().unwrap_err();
    assert!(matches!(error, ClientError::UnknownOutcome), "{error}");
    let waited = silent_since.elapsed();
    assert!(waited > DEAD_AFTER + Duration::from_secs(3), "{waited:?}");
    stage.no_session();
}

#[tokio::test(start_paused = true)]
async fn readers_attach_again_when_they_are_fenced() {
    let mut stage = stage(3);
    let (attachment, mut process, _) = stage.attached(AttachOptions::read_only()).await;
    let reading = read(&attachment, 9, 1);
    assert_eq!(in_words(&process.questions().await), "read 9+1");
    let by = fence(9, OTHER);
    process.answer(SessionAnswer::Fenced { by }).await;
    let mut process = stage.session().await;
    assert_eq!(process.attach().await.continues, None);
    process.grant(fence(9, OTHER)).await;
    let question = process.question().await;
    let values = vec![SectorValues::Data(data(1))];
    let number = number(&question);
    process
        .answer(SessionAnswer::Values { number, values })
        .await;
    assert_eq!(reading.await.unwrap().unwrap().len(), 1);
    assert!(matches!(
        attachment.write(0, data(1)).await,
        Err(ClientError::ReadOnly)
    ));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_goes_away_in_order_is_left_too() {
    let mut stage = stage(2);
    let (_attachment, process, owner, pending) = busy(&mut stage).await;
    let error = OperationError::ShuttingDown;
    let number = crate::wire::RequestNumber(0);
    process
        .answer(SessionAnswer::Failed { number, error })
        .await;
    let mut process = stage.session().await;
    process.attach().await;
    process.grant(fence(2, owner)).await;
    for pending in pending {
        let question = process.question().await;
        process.done(&question).await;
        pending.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_reaches_no_majority_is_left() {
    let mut stage = stage(3);
    let (attachment, mut process, owner) = stage.attached(AttachOptions::exclusive()).await;
    let writing = write(&attachment, 0, 1);
    process.question().await;
    assert_eq!(process.question().await, SessionQuestion::Status);
    process.says_it_is("serving").await;
    assert_eq!(process.question().await, SessionQuestion::Status);
    process.says_it_is("waiting_for_majority").await;
    let mut process = stage.session().await;
    process.attach().await;
    process.grant(fence(2, owner)).await;
    let question = process.question().await;
    process.done(&question).await;
    writing.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn nonsense_ends_the_session_and_not_the_attachment() {
    let mut stage = stage(3);
    let (_attachment, process, owner, [first, _second]) = busy(&mut stage).await;
    let number = crate::wire::RequestNumber(77);
    process.answer(SessionAnswer::Done { number }).await;
    let mut process = stage.session().await;
    process.attach().await;
    process.grant(fence(2, owner)).await;
    let question = process.question().await;
    process.done(&question).await;
    first.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_without_any_process_tries_with_growing_pauses() {
    let mut stage = stage(3);
    let (attachment, process, owner) = stage.attached(AttachOptions::exclusive()).await;
    stage.set_all(Meets::Refuses);
    let before = stage.attempts().len();
    drop(process);
    let writing = write(&attachment, 0, 1);
    sleep(Duration::from_millis(20)).await;
    assert_eq!(stage.attempts().len() - before, 2, "the others, at once");
    sleep(Duration::from_secs(60)).await;
    let attempts = stage.attempts().len() - before;
    assert!((3 * 60..3 * 130).contains(&attempts), "{attempts}");
    stage.set_all(Meets::Opens);
    let mut process = timeout(Duration::from_secs(1), stage.session())
        .await
        .unwrap();
    process.attach().await;
    process.grant(fence(2, owner)).await;
    let question = process.question().await;
    process.done(&question).await;
    writing.await.unwrap().unwrap();
}
