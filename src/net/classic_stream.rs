//! The bytes of a classic connection: those that have arrived, and those that are to be sent.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::NetError;
use super::gather::Gather;
use crate::wire::bytes_missing;

const READ_BYTES_MIN: usize = 8 << 10;
const READ_BYTES_MAX: usize = 128 << 10;

/// What may follow an ATTACH that is not answered: far more than anything that should.
const AHEAD_BYTES_MAX: usize = 2 * READ_BYTES_MAX;

/// How long the client may take to close too, before the connection is closed with what it has sent
/// besides; that may cost it the last answers.
const LINGER: Duration = Duration::from_millis(500);

/// A classic connection's socket, with its buffers.
pub(super) struct ClassicStream {
    pub(super) socket: TcpStream,
    /// What has arrived and was not decoded.
    pub(super) received: BytesMut,
    /// What is answered and was not sent.
    pub(super) gather: Gather,
    read_bytes: usize,
}

/// What a read has found.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Arrived {
    /// Nothing just now.
    Nothing,
    /// Bytes, which were taken.
    Bytes,
    /// The client has closed its direction.
    End,
}

impl ClassicStream {
    pub(super) fn new(socket: TcpStream, received: BytesMut) -> Self {
        Self {
            socket,
            received,
            gather: Gather::default(),
            read_bytes: READ_BYTES_MIN,
        }
    }

    /// Takes what has arrived, without waiting.
    pub(super) fn read(&mut self) -> io::Result<Arrived> {
        // A long request is read into one piece, which is not moved again.
        let missing = bytes_missing(&self.received);
        self.received.reserve(self.read_bytes.max(missing));
        match self.socket.try_read_buf(&mut self.received) {
            Ok(0) => Ok(Arrived::End),
            Ok(received) => {
                let next = received.saturating_mul(2);
                self.read_bytes = next.clamp(READ_BYTES_MIN, READ_BYTES_MAX);
                Ok(Arrived::Bytes)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Arrived::Nothing),
            Err(error) => Err(error),
        }
    }

    /// Writes as much as the socket takes without waiting.
    pub(super) fn write(&mut self) -> io::Result<()> {
        self.gather.write_to(&self.socket)
    }

    /// Keeps no buffer while there is nothing in it.
    pub(super) fn rest(&mut self) {
        if self.received.is_empty() {
            self.received = BytesMut::new();
        }
    }

    /// Whether as much was taken as may be before an ATTACH is answered.
    pub(super) fn is_far_ahead(&self) -> bool {
        self.received.len() >= AHEAD_BYTES_MAX
    }

    /// Takes what arrives without looking at it, and returns why the connection has ended.
    pub(super) async fn end(&mut self) -> NetError {
        loop {
            if self.is_far_ahead() {
                return NetError::Fault("it asked on before its attach was answered".into());
            }
            match self.read() {
                Ok(Arrived::Bytes) => {}
                Ok(Arrived::End) => return NetError::Closed,
                Ok(Arrived::Nothing) => {
                    if let Err(error) = self.socket.readable().await {
                        return error.into();
                    }
                }
                Err(error) => return error.into(),
            }
        }
    }

    /// Sends the last answers, and reads until the client has closed too: a connection that is
    /// closed with something unread is reset, and what is on its way to the client may be lost.
    pub(super) async fn part(&mut self, limit: Duration) {
        let parted = timeout(limit, self.flush()).await;
        if !matches!(parted, Ok(Ok(()))) {
            return;
        }
        let parting = async {
            self.socket.shutdown().await?;
            while self.read()? != Arrived::End {
                self.received.clear();
                self.socket.readable().await?;
            }
            io::Result::Ok(())
        };
        if timeout(LINGER, parting).await.is_err() {
            tracing::trace!("a client keeps a connection open that has ended");
        }
    }

    async fn flush(&mut self) -> io::Result<()> {
        loop {
            self.write()?;
            if self.gather.is_empty() {
                return Ok(());
            }
            self.socket.writable().await?;
        }
    }
}
