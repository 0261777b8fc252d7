//! A client of a session, over a pipe: what depends on time runs while time stands still.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::support::{PATIENCE, TestHost, identity};
use super::volume::{TestVolume, attach};
use crate::domain::{Attach, OperationError, SECTOR_SIZE};
use crate::net::client_session::ClientSession;
use crate::net::transport::{SealedReader, SealedWriter};
use crate::net::{NetError, Settings, Stage, handshake};
use crate::wire::{
    Acceptor, Connector, Process, RequestNumber, SectorValues, SessionAnswer, SessionKey,
    SessionQuestion,
};

/// A client of a session, played by the test.
pub(super) struct Session {
    pub(super) reader: SealedReader<ReadHalf<DuplexStream>>,
    pub(super) writer: SealedWriter<WriteHalf<DuplexStream>>,
    received: VecDeque<SessionAnswer>,
    pub(super) volume: Arc<TestVolume>,
    pub(super) stage: watch::Sender<Stage>,
    pub(super) listener: JoinHandle<Result<(), NetError>>,
}

impl Session {
    pub(super) async fn start(settings: Settings) -> Self {
        Self::piped(settings, 16 << 20).await
    }

    /// A session over a pipe that holds this many bytes each way.
    pub(super) async fn piped(settings: Settings, pipe_bytes: usize) -> Self {
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
    pub(super) async fn attached(settings: Settings) -> Self {
        let mut session = Self::start(settings).await;
        session.attach_as(attach()).await;
        session
    }

    /// Asks to be attached, and is granted it.
    pub(super) async fn attach_as(&mut self, attach: Attach) {
        self.volume
            .decision
            .change(|decision| *decision = Some(Ok(())));
        self.send(&[SessionQuestion::Attach(attach)]).await;
        let answer = self.answer().await;
        assert!(
            matches!(answer, SessionAnswer::Attached { .. }),
            "{answer:?}"
        );
    }

    pub(super) async fn send(&mut self, questions: &[SessionQuestion]) {
        for question in questions {
            question.encode(&mut self.writer.encoder);
        }
        self.writer.flush().await.unwrap();
    }

    /// The next answer, heartbeats among them; none when the session has ended.
    pub(super) async fn next(&mut self) -> Option<SessionAnswer> {
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
    pub(super) fn answer(&mut self) -> impl Future<Output = SessionAnswer> {
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
    pub(super) fn assert_quiet(&mut self) -> impl Future<Output = ()> {
        let caller = std::panic::Location::caller();
        async move {
            if let Ok(answer) = timeout(Duration::from_millis(1), self.next()).await {
                panic!("{answer:?} at {caller}");
            }
        }
    }

    /// How the session ended, which it has to; nothing but heartbeats comes before the end.
    pub(super) async fn ended(mut self) -> Result<(), NetError> {
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
    pub(super) async fn assert_fault(self, words: &str) {
        let error = self.ended().await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

pub(super) fn read(number: u64, first: u64, count: u32) -> SessionQuestion {
    SessionQuestion::Read {
        number: RequestNumber(number),
        first,
        count,
    }
}

pub(super) fn write(number: u64, first: u64, fill: u8) -> SessionQuestion {
    SessionQuestion::Write {
        number: RequestNumber(number),
        first,
        data: sector(fill),
    }
}

pub(super) fn discard(number: u64, first: u64, count: u32) -> SessionQuestion {
    SessionQuestion::Discard {
        number: RequestNumber(number),
        first,
        count,
    }
}

pub(super) fn flush(number: u64) -> SessionQuestion {
    SessionQuestion::Flush {
        number: RequestNumber(number),
    }
}

pub(super) fn sector(fill: u8) -> Bytes {
    Bytes::from(vec![fill; SECTOR_SIZE])
}

pub(super) fn done(number: u64) -> SessionAnswer {
    SessionAnswer::Done {
        number: RequestNumber(number),
    }
}

pub(super) fn values(number: u64, values: Vec<SectorValues>) -> SessionAnswer {
    SessionAnswer::Values {
        number: RequestNumber(number),
        values,
    }
}

pub(super) fn failed(number: u64, error: OperationError) -> SessionAnswer {
    SessionAnswer::Failed {
        number: RequestNumber(number),
        error,
    }
}
