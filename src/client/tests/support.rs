//! A network whose processes are played by the tests, word by word.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::client::network::{Network, Receiver, Sender};
use crate::client::{AttachOptions, Attachment, ClientError};
use crate::domain::{
    Attach, AttachKind, AttachRefusal, ClusterId, Fence, Generation, Holder, Incarnation, Mode,
    OwnerId, Rank, Tag,
};
use crate::net::NetError;
use crate::wire::{
    Credit, HelloError, RequestNumber, SectorValues, SessionAnswer, SessionQuestion,
};

pub(super) const HEARTBEAT_AFTER: Duration = Duration::from_millis(500);
pub(super) const DEAD_AFTER: Duration = Duration::from_millis(1250);

pub(super) const ROOMY: Credit = Credit {
    requests: 1024,
    bytes: 32 << 20,
};

pub(super) const SECTORS: u64 = 100_000;

/// How a process meets those who connect.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Meets {
    /// It opens a session.
    Opens,
    /// Nobody listens.
    Refuses,
    /// It has another cluster's configuration.
    Rejects,
}

/// The clients' side of a cluster of played processes.
#[derive(Clone)]
pub(super) struct Played {
    meets: Arc<Mutex<BTreeMap<Rank, Meets>>>,
    sessions: mpsc::Sender<Process>,
    attempts: Arc<Mutex<Vec<(Rank, Instant)>>>,
}

/// The tests' side.
pub(super) struct Stage {
    pub(super) network: Played,
    sessions: mpsc::Receiver<Process>,
}

/// A session, as its process sees it. The session ends when it is dropped.
pub(super) struct Process {
    pub(super) rank: Rank,
    questions: mpsc::Receiver<SessionQuestion>,
    answers: mpsc::Sender<SessionAnswer>,
}

pub(super) fn rank(number: u8) -> Rank {
    Rank::new(number).unwrap()
}

/// A cluster of so many processes, which all open sessions.
pub(super) fn stage(processes: u8) -> Stage {
    let (sender, sessions) = mpsc::channel(100);
    let meets = Rank::all(processes).map(|rank| (rank, Meets::Opens));
    let network = Played {
        meets: Arc::new(Mutex::new(meets.collect())),
        sessions: sender,
        attempts: Arc::default(),
    };
    Stage { network, sessions }
}

impl Stage {
    pub(super) fn set(&self, rank: Rank, meets: Meets) {
        self.network.meets.lock().unwrap().insert(rank, meets);
    }

    pub(super) fn set_all(&self, meets: Meets) {
        for met in self.network.meets.lock().unwrap().values_mut() {
            *met = meets;
        }
    }

    /// Whom the client has tried to reach, and when.
    pub(super) fn attempts(&self) -> Vec<(Rank, Instant)> {
        self.network.attempts.lock().unwrap().clone()
    }

    /// The next session that a client opens.
    pub(super) async fn session(&mut self) -> Process {
        self.sessions.recv().await.unwrap()
    }

    pub(super) fn no_session(&mut self) {
        assert!(self.sessions.try_recv().is_err(), "nobody opens a session");
    }

    /// An attachment, with the process and the owner whose it is.
    pub(super) async fn attached(
        &mut self,
        options: AttachOptions,
    ) -> (Attachment, Process, OwnerId) {
        let shared = options.kind == AttachKind::Shared;
        let attachment = Attachment::start(self.network.clone(), &options);
        let mut process = self.session().await;
        let owner = process.attach().await.owner;
        let fence = if shared {
            shared_fence(1)
        } else {
            fence(1, owner)
        };
        process.grant(fence).await;
        attachment.granted().await.unwrap();
        (attachment, process, owner)
    }
}

impl Process {
    /// The next question that is no heartbeat.
    pub(super) async fn question(&mut self) -> SessionQuestion {
        loop {
            match self.questions.recv().await {
                Some(SessionQuestion::Heartbeat) => self.answer(SessionAnswer::Heartbeat).await,
                Some(question) => return question,
                None => panic!("the client has closed the session"),
            }
        }
    }

    /// The next question, heartbeats included; `None` when the client has closed the session.
    pub(super) async fn anything(&mut self) -> Option<SessionQuestion> {
        self.questions.recv().await
    }

    /// The questions that are there already, but for heartbeats.
    pub(super) async fn questions(&mut self) -> Vec<SessionQuestion> {
        // Long enough for every task to have had its say, and too short for any timer of theirs.
        tokio::time::sleep(Duration::from_millis(1)).await;
        let there = std::iter::from_fn(|| self.questions.try_recv().ok());
        there
            .filter(|question| *question != SessionQuestion::Heartbeat)
            .collect()
    }

    pub(super) async fn attach(&mut self) -> Attach {
        match self.question().await {
            SessionQuestion::Attach(attach) => attach,
            other => panic!("{other:?} came instead of an attach"),
        }
    }

    /// Grants what is attached now, under this generation; the owner whose it is.
    pub(super) async fn admit(&mut self, generation: u64) -> OwnerId {
        let owner = self.attach().await.owner;
        self.grant(fence(generation, owner)).await;
        owner
    }

    /// Agrees to what must be asked now: that the disk be given back.
    pub(super) async fn take_back(&mut self) {
        assert_eq!(self.question().await, SessionQuestion::Detach);
        self.answer(SessionAnswer::Detached).await;
    }

    pub(super) async fn answer(&self, answer: SessionAnswer) {
        self.answers.send(answer).await.unwrap();
    }

    pub(super) async fn grant(&self, fence: Fence) {
        self.grant_with(fence, ROOMY).await;
    }

    pub(super) async fn grant_with(&self, fence: Fence, credit: Credit) {
        self.answer(SessionAnswer::Attached {
            fence,
            sectors: SECTORS,
            credit,
        })
        .await;
    }

    pub(super) async fn done(&self, question: &SessionQuestion) {
        let number = number(question);
        self.answer(SessionAnswer::Done { number }).await;
    }

    /// Does nothing that it is asked for, and says that it lives and serves, until the client closes
    /// the session.
    pub(super) async fn stall(mut self) {
        while let Some(question) = self.questions.recv().await {
            match question {
                SessionQuestion::Heartbeat => self.answer(SessionAnswer::Heartbeat).await,
                SessionQuestion::Status => self.says_it_is("serving").await,
                _ => {}
            }
        }
    }

    /// Answers the question how it stands.
    pub(super) async fn says_it_is(&self, state: &str) {
        let json = format!(r#"{{"rank":1,"state":{{"is":"{state}","seconds":3}}}}"#);
        self.answer(SessionAnswer::Status(json.into())).await;
    }

    /// Answers heartbeats until the client closes the session.
    pub(super) async fn live(mut self) {
        while let Some(question) = self.questions.recv().await {
            if question == SessionQuestion::Heartbeat {
                self.answer(SessionAnswer::Heartbeat).await;
            }
        }
    }
}

pub(super) fn fence(generation: u64, owner: OwnerId) -> Fence {
    let tag = Tag {
        coordinator: rank(1),
        incarnation: Incarnation(1),
        sequence: generation,
    };
    Fence {
        generation: Generation(generation),
        mode: Mode::Exclusive { owner, tag },
    }
}

pub(super) fn shared_fence(generation: u64) -> Fence {
    Fence {
        generation: Generation(generation),
        mode: Mode::Shared,
    }
}

/// The refusal of a disk that a client of process 2 holds.
pub(super) fn held() -> AttachRefusal {
    AttachRefusal::Held(Box::new(Holder {
        process: rank(2),
        owner: OwnerId([7; 16]),
        kind: AttachKind::Shared,
        generation: Generation(4),
        client: "10.0.0.9:5000".to_owned(),
        since: 1_000_000_000,
    }))
}

pub(super) fn number(question: &SessionQuestion) -> RequestNumber {
    match question {
        SessionQuestion::Read { number, .. }
        | SessionQuestion::Write { number, .. }
        | SessionQuestion::Discard { number, .. }
        | SessionQuestion::Flush { number } => *number,
        other => panic!("{other:?} has no number"),
    }
}

/// Questions as text: what is asked, and for which sectors.
pub(super) fn in_words(questions: &[SessionQuestion]) -> String {
    let words = questions.iter().map(|question| match question {
        SessionQuestion::Read { first, count, .. } => format!("read {first}+{count}"),
        SessionQuestion::Write { first, data, .. } => {
            format!("write {first}+{}", data.len() / 4096)
        }
        SessionQuestion::Discard { first, count, .. } => format!("discard {first}+{count}"),
        SessionQuestion::Flush { .. } => "flush".to_owned(),
        SessionQuestion::Detach => "detach".to_owned(),
        other => format!("{other:?}"),
    });
    words.collect::<Vec<_>>().join(", ")
}

pub(super) fn data(sectors: usize) -> Bytes {
    Bytes::from(vec![7; 4096 * sectors])
}

/// Begins to write so many sectors.
pub(super) fn write(attachment: &Attachment, first: u64, sectors: usize) -> Doing<()> {
    let attachment = attachment.clone();
    tokio::spawn(async move { attachment.write(first, data(sectors)).await })
}

/// Begins to read so many sectors.
pub(super) fn read(attachment: &Attachment, first: u64, count: u64) -> Doing<Vec<SectorValues>> {
    let attachment = attachment.clone();
    tokio::spawn(async move { attachment.read(first, count).await })
}

/// Something under way.
pub(super) type Doing<T> = tokio::task::JoinHandle<Result<T, ClientError>>;

impl Network for Played {
    type Sender = PlayedSender;
    type Receiver = PlayedReceiver;

    fn processes(&self) -> u8 {
        u8::try_from(self.meets.lock().unwrap().len()).unwrap()
    }

    async fn connect(self, process: Rank) -> Result<(PlayedSender, PlayedReceiver), NetError> {
        let now = Instant::now();
        self.attempts.lock().unwrap().push((process, now));
        let meets = self.meets.lock().unwrap()[&process];
        match meets {
            Meets::Opens => {}
            Meets::Refuses => return Err(NetError::Closed),
            Meets::Rejects => {
                let cluster = || ClusterId(rand::random());
                let (theirs, ours) = (cluster(), cluster());
                return Err(HelloError::Cluster { theirs, ours }.into());
            }
        }
        let (ask, questions) = mpsc::channel(2000);
        let (answers, hear) = mpsc::channel(2000);
        let session = Process {
            rank: process,
            questions,
            answers,
        };
        self.sessions.send(session).await.unwrap();
        let sender = PlayedSender {
            unsent: VecDeque::new(),
            questions: ask,
            sent_at: now,
        };
        let receiver = PlayedReceiver {
            answers: hear,
            received_at: now,
        };
        Ok((sender, receiver))
    }
}

pub(super) struct PlayedSender {
    unsent: VecDeque<SessionQuestion>,
    questions: mpsc::Sender<SessionQuestion>,
    sent_at: Instant,
}

impl Sender for PlayedSender {
    fn send(&mut self, question: &SessionQuestion) {
        self.unsent.push_back(question.clone());
    }

    fn has_unsent(&self) -> bool {
        !self.unsent.is_empty()
    }

    fn is_full(&self) -> bool {
        self.unsent.len() >= 100
    }

    async fn flush(&mut self) -> Result<(), NetError> {
        while !self.unsent.is_empty() {
            let room = self.questions.reserve().await;
            let room = room.map_err(|_| NetError::Closed)?;
            room.send(self.unsent.pop_front().unwrap());
        }
        self.sent_at = Instant::now();
        Ok(())
    }

    fn heartbeat_at(&self) -> Instant {
        self.sent_at + HEARTBEAT_AFTER
    }
}

pub(super) struct PlayedReceiver {
    answers: mpsc::Receiver<SessionAnswer>,
    received_at: Instant,
}

impl Receiver for PlayedReceiver {
    async fn receive(&mut self, out: &mut Vec<SessionAnswer>) -> Result<(), NetError> {
        let received = self.answers.recv().await;
        out.push(received.ok_or(NetError::Closed)?);
        self.received_at = Instant::now();
        Ok(())
    }

    fn dead_at(&self) -> Instant {
        self.received_at + DEAD_AFTER
    }
}
