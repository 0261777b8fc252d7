//! Single sessions of clients, over pipes: what depends on time runs while time stands still.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, advance, sleep, timeout};

use super::support::*;
use super::volume::{NEWER, Operation, TestVolume, fence};
use crate::domain::{Attach, AttachKind, AttachRefusal, OperationError, OwnerId, SECTOR_SIZE};
use crate::net::client_session::ClientSession;
use crate::net::transport::{SealedReader, SealedWriter};
use crate::net::{NetError, Settings, Stage, handshake};
use crate::wire::{
    Acceptor, Connector, Credit, Process, RequestNumber, SectorValues, SessionAnswer, SessionKey,
    SessionQuestion,
};

/// A client of a session, played by the test.
struct Session {
    reader: SealedReader<ReadHalf<DuplexStream>>,
    writer: SealedWriter<WriteHalf<DuplexStream>>,
    received: VecDeque<SessionAnswer>,
    volume: Arc<TestVolume>,
    stage: watch::Sender<Stage>,
    listener: JoinHandle<Result<(), NetError>>,
}

impl Session {
    async fn start(settings: Settings) -> Self {
        Self::piped(settings, 16 << 20).await
    }

    /// A session over a pipe that holds this many bytes each way.
    async fn piped(settings: Settings, pipe_bytes: usize) -> Self {
        let own = identity(2);
        let key = SessionKey::client(&own.client_key);
        let acceptor = Acceptor {
            process: Process {
                rank: own.rank,
                incarnation: own.incarnation,
                processes: own.processes,
            },
            cluster: own.cluster,
            keys: vec![key.clone()],
        };
        let (mut ours, mut theirs) = duplex(pipe_bytes);
        let connector = Connector::new(None, own.cluster, key, Some(own.rank));
        let (established, unproven) = tokio::join!(
            handshake::connect(&mut ours, connector),
            handshake::accept(&mut theirs, &acceptor)
        );
        let (established, unproven) = (established.unwrap(), unproven.unwrap());

        let host = TestHost::default();
        let volume = Arc::clone(&host.volume);
        let stage = watch::Sender::new(Stage::Running);
        let stages = stage.subscribe();
        let listener = tokio::spawn(async move {
            let (read, write) = split(theirs);
            let mut reader = SealedReader::new(read, unproven.opener);
            let first = reader.first().await?;
            let session = ClientSession {
                host: &host,
                settings: &settings,
                client: "client:1".into(),
                stage: stages,
            };
            let writer = SealedWriter::new(write, unproven.sealer);
            session.run(first, reader, writer).await
        });
        let (read, write) = split(ours);
        let mut reader = SealedReader::new(read, established.opener);
        reader.trust();
        Self {
            reader,
            writer: SealedWriter::new(write, established.sealer),
            received: VecDeque::new(),
            volume,
            stage,
            listener,
        }
    }

    /// One that is attached exclusively.
    async fn attached(settings: Settings) -> Self {
        let mut session = Self::start(settings).await;
        session
            .volume
            .decision
            .change(|decision| *decision = Some(Ok(())));
        session.send(&[SessionQuestion::Attach(attach())]).await;
        let answer = session.answer().await;
        assert!(
            matches!(answer, SessionAnswer::Attached { .. }),
            "{answer:?}"
        );
        session
    }

    async fn send(&mut self, questions: &[SessionQuestion]) {
        for question in questions {
            question.encode(&mut self.writer.encoder);
        }
        self.writer.flush().await.unwrap();
    }

    /// The next answer, heartbeats among them; none when the session has ended.
    async fn next(&mut self) -> Option<SessionAnswer> {
        let mut messages: Vec<Bytes> = Vec::new();
        while self.received.is_empty() {
            match self.reader.read(&mut messages).await {
                Err(NetError::Closed) => return None,
                read => read.unwrap(),
            }
            let decode = |message| SessionAnswer::decode(message).unwrap();
            self.received.extend(messages.drain(..).map(decode));
        }
        self.received.pop_front()
    }

    /// The next answer that is no heartbeat.
    #[track_caller]
    fn answer(&mut self) -> impl Future<Output = SessionAnswer> {
        let caller = std::panic::Location::caller();
        async move {
            loop {
                match timeout(PATIENCE, self.next()).await {
                    Ok(Some(SessionAnswer::Heartbeat)) => {}
                    Ok(Some(answer)) => return answer,
                    Ok(None) => panic!("the session had ended at {caller}"),
                    Err(elapsed) => panic!("no answer at {caller}: {elapsed}"),
                }
            }
        }
    }

    /// Asserts that nothing is answered just now.
    #[track_caller]
    fn assert_quiet(&mut self) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            if let Ok(answer) = timeout(Duration::from_millis(1), self.next()).await {
                panic!("{answer:?} at {caller}");
            }
        }
    }

    /// How the session ended, which it has to; nothing but heartbeats comes before the end.
    async fn ended(mut self) -> Result<(), NetError> {
        while let Some(answer) = self.next().await {
            assert_eq!(answer, SessionAnswer::Heartbeat);
        }
        // The client closes too.
        drop((self.reader, self.writer));
        let listener = timeout(PATIENCE, self.listener).await;
        assert_eq!(*self.volume.attached.lock(), 0, "it is given back");
        assert_eq!(*self.volume.under_way.lock(), 0, "it is dropped");
        assert_eq!(*self.volume.waiting.lock(), 0);
        listener.expect("it ends").unwrap()
    }

    /// Asserts that the session ends because of the client's fault.
    async fn assert_fault(self, words: &str) {
        let error = self.ended().await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

fn attach() -> Attach {
    Attach {
        owner: OwnerId([3; 16]),
        kind: AttachKind::Exclusive { join: None },
        take_over: false,
        continues: None,
    }
}

fn read(number: u64, first: u64, count: u32) -> SessionQuestion {
    SessionQuestion::Read {
        number: RequestNumber(number),
        first,
        count,
    }
}

fn write(number: u64, first: u64, fill: u8) -> SessionQuestion {
    SessionQuestion::Write {
        number: RequestNumber(number),
        first,
        data: sector(fill),
    }
}

fn discard(number: u64, first: u64, count: u32) -> SessionQuestion {
    SessionQuestion::Discard {
        number: RequestNumber(number),
        first,
        count,
    }
}

fn flush(number: u64) -> SessionQuestion {
    SessionQuestion::Flush {
        number: RequestNumber(number),
    }
}

fn sector(fill: u8) -> Bytes {
    Bytes::from(vec![fill; SECTOR_SIZE])
}

fn done(number: u64) -> SessionAnswer {
    SessionAnswer::Done {
        number: RequestNumber(number),
    }
}

fn values(number: u64, values: Vec<SectorValues>) -> SessionAnswer {
    SessionAnswer::Values {
        number: RequestNumber(number),
        values,
    }
}

fn failed(number: u64, error: OperationError) -> SessionAnswer {
    SessionAnswer::Failed {
        number: RequestNumber(number),
        error,
    }
}

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
    volume.decision.change(|decision| *decision = Some(Ok(())));
    session.send(&[SessionQuestion::Attach(attach())]).await;
    let answer = session.answer().await;
    assert!(
        matches!(answer, SessionAnswer::Attached { .. }),
        "{answer:?}"
    );
    assert_eq!(volume.asked.lock().len(), 3);
}

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
    volume
        .waiting
        .wait(|&mut waiting| (waiting == 1).then_some(()))
        .await;
    drop((reader, writer));
    let error = listener.await.unwrap().unwrap_err();
    assert!(matches!(error, NetError::Closed), "{error}");
    assert_eq!(*volume.waiting.lock(), 0);
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

#[tokio::test(start_paused = true)]
async fn a_fenced_client_hears_of_it_and_nothing_more_is_done_for_it() {
    let mut session = Session::attached(Settings::default()).await;
    let volume = Arc::clone(&session.volume);
    volume.hold([5]);
    session.send(&[write(1, 4, 1), write(2, 5, 1)]).await;
    volume.busy(1).await;
    volume.fenced.change(|by| *by = Some(NEWER));
    volume
        .under_way
        .wait(|&mut count| (count == 0).then_some(()))
        .await;
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

/// A client that takes nothing cannot keep a session that has ended.
#[tokio::test(start_paused = true)]
async fn the_last_answers_are_not_waited_for_for_ever() {
    let settings = Settings::default();
    let mut session = Session::piped(settings, 16 << 10).await;
    session
        .volume
        .decision
        .change(|decision| *decision = Some(Ok(())));
    session.send(&[SessionQuestion::Attach(attach())]).await;
    session.answer().await;
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
    session
        .volume
        .decision
        .change(|decision| *decision = Some(Ok(())));
    let reader = Attach {
        kind: AttachKind::ReadOnly,
        ..attach()
    };
    session.send(&[SessionQuestion::Attach(reader)]).await;
    session.answer().await;
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
    session
        .volume
        .decision
        .change(|decision| *decision = Some(Ok(())));
    session.send(&[SessionQuestion::Attach(attach())]).await;
    session.answer().await;
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
    waiting
        .volume
        .waiting
        .wait(|&mut waiting| (waiting == 1).then_some(()))
        .await;
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
