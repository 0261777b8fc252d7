//! What operators hear of a disk that waits.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::sleep;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use super::support::*;
use crate::client::{AttachOptions, Attachment};
use crate::domain::AttachRefusal;
use crate::wire::SessionAnswer;

/// What this thread logs at `info` and above.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn listen() -> (Self, DefaultGuard) {
        let log = Self::default();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(log.clone())
            .with_ansi(false)
            .without_time()
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    /// What was said since the last call, without where and when.
    fn take(&self) -> Vec<String> {
        let text = std::mem::take(&mut *self.0.lock().unwrap());
        let text = String::from_utf8(text).unwrap();
        let words = |line: &str| line.trim().replacen("atdd::client::", "", 1);
        text.lines().map(words).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_is_said_after_two_seconds_and_so_is_going_on() {
    let (log, _listening) = Log::listen();
    let mut stage = stage(1);
    stage.set_all(Meets::Refuses);
    let attachment = Attachment::start(stage.network.clone(), &AttachOptions::exclusive());
    sleep(Duration::from_millis(1900)).await;
    assert!(log.take().is_empty());
    sleep(Duration::from_secs(60)).await;
    assert_eq!(
        log.take(),
        [
            "WARN waiting: the disk waits for processes to answer; `atdd status --config …` says how \
             they are why=\"process 1: the other end closed the connection\""
        ],
        "once"
    );
    stage.set_all(Meets::Opens);
    let mut process = stage.session().await;
    let owner = process.attach().await.owner;
    process.grant(fence(1, owner)).await;
    attachment.granted().await.unwrap();
    sleep(Duration::from_millis(1)).await;
    let said = log.take();
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
        log.take(),
        [
            "WARN waiting: the disk waits for processes to answer; `atdd status --config …` says how \
             they are why=\"a majority is needed\"",
            "INFO waiting: the disk goes on seconds=3"
        ]
    );
    drop(process);
}

#[tokio::test(start_paused = true)]
async fn failing_over_is_said() {
    let (log, _listening) = Log::listen();
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
        log.take(),
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
