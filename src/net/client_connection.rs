//! The connector's end of a client's session, as the client library drives it.
//!
//! Its halves are for one task, which runs them side by side with `select!`: every future here may
//! be dropped and asked for again, and nothing is lost. What is left to the driver:
//!
//! - to ask a small question first, alone, such as the attach: a process reads no more than a few
//!   KiB before it believes the client;
//! - to keep within the credit that [`SessionAnswer::Attached`] grants;
//! - to send a heartbeat at [`ClientSender::heartbeat_at`], or the process drops the session;
//! - to give the session up at [`ClientReceiver::dead_at`], if nothing was received until then;
//! - to go on receiving when sending fails: the process may have said why before it closed.

use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, timeout};

use super::transport::{SealedReader, SealedWriter};
use super::{NetError, handshake, socket};
use crate::domain::{ClusterId, Rank};
use crate::wire::{ClientKey, Connector, Process, SessionAnswer, SessionKey, SessionQuestion};

/// The times of a client's session.
#[derive(Copy, Clone, Debug)]
pub struct ClientLimits {
    /// How long it may take until the session is there.
    pub connect_deadline: Duration,
    /// After so long without sending anything, a heartbeat is due.
    pub heartbeat_after: Duration,
    /// After so long without receiving anything, or without an acknowledgement of what was sent,
    /// the process counts as dead.
    pub dead_after: Duration,
}

impl Default for ClientLimits {
    /// Twice what a process takes between two signs of life, and some more; a process that is dead
    /// is found out early enough to go on through another within two seconds.
    fn default() -> Self {
        Self {
            connect_deadline: Duration::from_millis(1500),
            heartbeat_after: Duration::from_millis(500),
            dead_after: Duration::from_millis(1250),
        }
    }
}

/// An established session of a client with a process.
#[derive(Debug)]
pub struct ClientConnection {
    process: Process,
    sender: ClientSender,
    receiver: ClientReceiver,
}

impl ClientConnection {
    /// Opens a session with the process at this address (`host:port`), of this rank if one is
    /// given.
    pub async fn connect(
        address: &str,
        rank: Option<Rank>,
        cluster: ClusterId,
        key: &ClientKey,
        limits: &ClientLimits,
    ) -> Result<Self, NetError> {
        let limit = limits.connect_deadline;
        let opening = open(address, rank, cluster, key, limits);
        timeout(limit, opening)
            .await
            .unwrap_or(Err(NetError::Deadline {
                what: "opening a session",
                limit,
            }))
    }

    /// The process at the other end.
    pub fn process(&self) -> Process {
        self.process
    }

    /// Its two directions.
    pub fn split(self) -> (ClientSender, ClientReceiver) {
        (self.sender, self.receiver)
    }

    /// Asks one question, and waits for its answer, the first that is no heartbeat.
    pub(super) async fn ask(
        mut self,
        question: &SessionQuestion,
    ) -> Result<SessionAnswer, NetError> {
        self.sender.send(question);
        self.sender.flush().await?;
        let mut answers = Vec::new();
        loop {
            for answer in answers.drain(..) {
                if answer != SessionAnswer::Heartbeat {
                    return Ok(answer);
                }
            }
            tokio::select! {
                received = self.receiver.receive(&mut answers) => received?,
                () = tokio::time::sleep_until(self.sender.heartbeat_at()) => {
                    self.sender.send(&SessionQuestion::Heartbeat);
                    self.sender.flush().await?;
                }
            }
        }
    }
}

async fn open(
    address: &str,
    rank: Option<Rank>,
    cluster: ClusterId,
    key: &ClientKey,
    limits: &ClientLimits,
) -> Result<ClientConnection, NetError> {
    let mut stream = TcpStream::connect(address)
        .await
        .map_err(|source| NetError::Connect {
            address: address.to_owned(),
            source,
        })?;
    socket::prepare_session(&stream, limits.dead_after)?;
    let connector = Connector::new(None, cluster, SessionKey::client(key), rank);
    let established = handshake::connect(&mut stream, connector).await?;
    let (read, write) = stream.into_split();
    let mut reader = SealedReader::new(read, established.opener);
    // The process has proven itself in the key exchange.
    reader.trust();
    let now = Instant::now();
    Ok(ClientConnection {
        process: established.listener,
        sender: ClientSender {
            writer: SealedWriter::new(write, established.sealer),
            heartbeat_after: limits.heartbeat_after,
            sent_at: now,
        },
        receiver: ClientReceiver {
            reader,
            messages: Vec::new(),
            dead_after: limits.dead_after,
            received_at: now,
        },
    })
}

/// The sending half of a client's session.
#[derive(Debug)]
pub struct ClientSender {
    writer: SealedWriter<OwnedWriteHalf>,
    heartbeat_after: Duration,
    sent_at: Instant,
}

impl ClientSender {
    /// Puts a question where the next [`flush`](Self::flush) sends it, together with all others
    /// that are there.
    ///
    /// # Panics
    /// As [`SessionQuestion::encode`] does.
    pub fn send(&mut self, question: &SessionQuestion) {
        question.encode(&mut self.writer.encoder);
    }

    /// Whether there is anything to be flushed.
    pub fn has_unsent(&self) -> bool {
        !self.writer.is_idle()
    }

    /// Whether so much is to be flushed that more should wait: the process answers what it has got.
    pub fn is_full(&self) -> bool {
        self.writer.is_full()
    }

    /// Sends everything that was put there. When the future is dropped, the next one goes on where
    /// it was, so that nothing is lost or sent twice.
    pub async fn flush(&mut self) -> Result<(), NetError> {
        if self.has_unsent() {
            self.writer.flush().await?;
            self.sent_at = Instant::now();
        }
        Ok(())
    }

    /// When the process is to be sent a heartbeat, unless something else was sent by then.
    pub fn heartbeat_at(&self) -> Instant {
        self.sent_at + self.heartbeat_after
    }
}

/// The receiving half of a client's session.
#[derive(Debug)]
pub struct ClientReceiver {
    reader: SealedReader<OwnedReadHalf>,
    messages: Vec<Bytes>,
    dead_after: Duration,
    received_at: Instant,
}

impl ClientReceiver {
    /// Waits for bytes, and appends every answer that they complete to `out`, heartbeats too:
    /// possibly none. Nothing is lost when the future is dropped. After an error the session is
    /// over.
    pub async fn receive(&mut self, out: &mut Vec<SessionAnswer>) -> Result<(), NetError> {
        self.reader.read(&mut self.messages).await?;
        self.received_at = Instant::now();
        for message in self.messages.drain(..) {
            out.push(SessionAnswer::decode(message)?);
        }
        Ok(())
    }

    /// When the process counts as dead, unless something was received by then. Whoever was not
    /// running for a while has to look first at what has arrived meanwhile.
    pub fn dead_at(&self) -> Instant {
        self.received_at + self.dead_after
    }
}
