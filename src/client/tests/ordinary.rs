//! Reading and writing, as long as nothing happens.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::support::*;
use crate::client::{AttachOptions, Attachment, ClientError};
use crate::domain::OperationError;
use crate::wire::{Credit, SectorValues, SessionAnswer};

#[tokio::test(start_paused = true)]
async fn ranges_are_split_and_what_was_read_is_put_together() {
    let mut stage = stage(1);
    let (attachment, mut process, _) = stage.attached(AttachOptions::exclusive()).await;
    let reading = read(&attachment, 10, 600);
    let asked = process.questions().await;
    assert_eq!(in_words(&asked), "read 10+256, read 266+256, read 522+88");
    let parts = [
        vec![SectorValues::Zeroes(256)],
        vec![SectorValues::Data(data(200)), SectorValues::Zeroes(56)],
        vec![SectorValues::Data(data(88))],
    ];
    for (question, values) in asked.iter().zip(&parts).rev() {
        let (number, values) = (number(question), values.clone());
        process
            .answer(SessionAnswer::Values { number, values })
            .await;
    }
    assert_eq!(reading.await.unwrap().unwrap(), parts.concat());

    let writing = write(&attachment, 0, 257);
    let asked = process.questions().await;
    assert_eq!(in_words(&asked), "write 0+256, write 256+1");
    let number = number(&asked[0]);
    let error = OperationError::Unreadable;
    process
        .answer(SessionAnswer::Failed { number, error })
        .await;
    process.done(&asked[1]).await;
    let failed = writing.await.unwrap();
    assert!(matches!(failed, Err(ClientError::Unreadable)));

    let discarding = attachment.clone();
    let discarding = tokio::spawn(async move { discarding.discard(1, 65_537).await });
    let asked = process.questions().await;
    assert_eq!(in_words(&asked), "discard 1+65536, discard 65537+1");
    for question in &asked {
        process.done(question).await;
    }
    discarding.await.unwrap().unwrap();

    assert_eq!(attachment.read(5, 0).await.unwrap(), []);
    attachment.write(SECTORS, data(0)).await.unwrap();
    let flushing = attachment.clone();
    let flushing = tokio::spawn(async move { flushing.flush().await });
    let flush = process.question().await;
    process.done(&flush).await;
    flushing.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_not_on_the_disk_is_refused_here() {
    let mut stage = stage(1);
    let (attachment, mut process, _) = stage.attached(AttachOptions::exclusive()).await;
    assert_eq!(attachment.sectors(), SECTORS);
    for (first, count) in [
        (SECTORS, 1),
        (SECTORS - 1, 2),
        (u64::MAX, 2),
        (0, SECTORS + 1),
    ] {
        let refused = attachment.discard(first, count).await.unwrap_err();
        assert!(
            matches!(
                refused,
                ClientError::PastEnd {
                    sectors: SECTORS,
                    ..
                }
            ),
            "{refused}"
        );
    }
    assert_eq!(in_words(&process.questions().await), "");
}

#[tokio::test(start_paused = true)]
async fn a_deadline_answers_the_caller_only() {
    let mut stage = stage(1);
    let options = AttachOptions {
        deadline: Some(Duration::from_millis(900)),
        ..AttachOptions::exclusive()
    };
    let (attachment, mut process, _) = stage.attached(options).await;
    let began = Instant::now();
    let late = attachment.write(5, data(1)).await.unwrap_err();
    assert!(matches!(late, ClientError::TimedOut(limit) if limit.as_millis() == 900));
    assert_eq!(began.elapsed().as_millis(), 900);
    let asked = process.question().await;

    let next = write(&attachment, 5, 1);
    assert_eq!(
        in_words(&process.questions().await),
        "",
        "its sector is taken"
    );
    process.done(&asked).await;
    let asked = process.question().await;
    process.done(&asked).await;
    next.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_more_is_under_way_than_the_process_allows() {
    let mut stage = stage(1);
    let attachment = Attachment::start(stage.network.clone(), &AttachOptions::exclusive());
    let mut process = stage.session().await;
    let owner = process.attach().await.owner;
    let credit = Credit {
        requests: 5,
        bytes: 10 << 20,
    };
    process.grant_with(fence(1, owner), credit).await;
    attachment.granted().await.unwrap();
    let writing = write(&attachment, 0, 2048);
    let asked = process.questions().await;
    assert_eq!(asked.len(), 3, "two are set aside for the driver itself");
    process.done(&asked[1]).await;
    assert_eq!(process.questions().await.len(), 1);
    drop(writing);
}

#[tokio::test(start_paused = true)]
async fn what_is_pending_is_bounded_and_the_rest_waits() {
    let mut stage = stage(1);
    let attachment = Attachment::start(stage.network.clone(), &AttachOptions::exclusive());
    let mut process = stage.session().await;
    let owner = process.attach().await.owner;
    let credit = Credit {
        bytes: 1 << 30,
        ..ROOMY
    };
    process.grant_with(fence(1, owner), credit).await;
    attachment.granted().await.unwrap();
    let writing = write(&attachment, 0, 100_000);
    let mut asked = process.questions().await;
    assert_eq!(asked.len(), 64, "64 MiB, whatever the process allows");
    let mut left = 100_000_usize.div_ceil(256);
    while !asked.is_empty() {
        assert!(asked.len() <= 64);
        for question in &asked {
            process.done(question).await;
        }
        left -= asked.len();
        sleep(Duration::from_millis(1)).await;
        asked = process.questions().await;
    }
    assert_eq!(left, 0);
    writing.await.unwrap().unwrap();
}
