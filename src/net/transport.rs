//! Whole messages over a session's sealed bytes.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep, sleep};

use super::NetError;
use crate::wire::{
    Encoder, FIRST_MESSAGE_BYTES_MAX, FRAME_OVERHEAD, FRAME_PAYLOAD_MAX, MessageError,
    MessageStream, Opener, Sealer,
};

/// Reads are between these sizes, in proportion to what came last.
const READ_BYTES_MIN: usize = 16 << 10;
const READ_BYTES_MAX: usize = 256 << 10;

/// What a session's first frame may have at most: its one message, and the message's length.
const FIRST_FRAME_BYTES_MAX: usize = FIRST_MESSAGE_BYTES_MAX + 4 + FRAME_OVERHEAD;

/// One writing is not made longer than this by what could go with the next.
pub(super) const BATCH_BYTES_MAX: usize = 1 << 20;

/// One write has no more than this: whole frames, that stay in the processor's cache between
/// being sealed and being written.
const WRITE_BYTES_MAX: usize = 4 * FRAME_PAYLOAD_MAX;

/// The receiving half of a session.
#[derive(Debug)]
pub(super) struct SealedReader<R> {
    stream: R,
    opener: Opener,
    sealed: BytesMut,
    messages: MessageStream,
    /// What came together with the first message; no more than a small buffer held.
    early: Vec<Bytes>,
    read_bytes: usize,
}

impl<R: AsyncRead + Unpin> SealedReader<R> {
    pub(super) fn new(stream: R, opener: Opener) -> Self {
        Self {
            stream,
            opener,
            sealed: BytesMut::new(),
            messages: MessageStream::new(),
            early: Vec::new(),
            read_bytes: READ_BYTES_MIN,
        }
    }

    /// The first message, in a small buffer: until it was opened, nothing is known of the other
    /// end but that it has, or has recorded, a message of someone who has the key.
    pub(super) async fn first(&mut self) -> Result<Bytes, NetError> {
        self.sealed.reserve(FIRST_FRAME_BYTES_MAX);
        let mut first = Vec::new();
        while first.is_empty() {
            let room = FIRST_FRAME_BYTES_MAX - self.sealed.len();
            if room == 0 {
                return Err(MessageError::Long.into());
            }
            if (&mut self.stream)
                .take(room_u64(room))
                .read_buf(&mut self.sealed)
                .await?
                == 0
            {
                return Err(NetError::Rejected);
            }
            self.open(&mut first)?;
        }
        self.trust();
        self.early = first.split_off(1);
        Ok(first.remove(0))
    }

    /// The other end has proven itself: from now on its messages may be long.
    pub(super) fn trust(&mut self) {
        self.messages.expect_all();
    }

    /// Waits for bytes, and appends every message that they complete to `out`: possibly none.
    /// Nothing is lost when the future is dropped.
    pub(super) async fn read(&mut self, out: &mut Vec<Bytes>) -> Result<(), NetError> {
        if !self.early.is_empty() {
            out.append(&mut self.early);
            return Ok(());
        }
        self.sealed.reserve(self.read_bytes);
        let received = self.stream.read_buf(&mut self.sealed).await?;
        if received == 0 {
            return Err(NetError::Closed);
        }
        if received >= self.read_bytes {
            self.read_bytes = READ_BYTES_MAX.min(2 * self.read_bytes);
        } else if received < self.read_bytes / 4 {
            self.read_bytes = READ_BYTES_MIN.max(self.read_bytes / 2);
        }
        self.open(out)
    }

    fn open(&mut self, out: &mut Vec<Bytes>) -> Result<(), NetError> {
        while self
            .opener
            .open(&mut self.sealed, &mut self.messages.plaintext)?
        {
            while let Some(message) = self.messages.next_message()? {
                out.push(message);
            }
        }
        Ok(())
    }
}

/// The first pieces, as many as are written at once.
fn next_part(pieces: &mut VecDeque<Bytes>) -> Vec<Bytes> {
    let mut part = Vec::with_capacity(pieces.len());
    let mut room = WRITE_BYTES_MAX;
    while room > 0
        && let Some(piece) = pieces.front_mut()
    {
        let taken = piece.split_to(piece.len().min(room));
        room -= taken.len();
        if piece.is_empty() {
            pieces.pop_front();
        }
        part.push(taken);
    }
    part
}

fn room_u64(room: usize) -> u64 {
    u64::try_from(room).expect("memory is below 2^64")
}

/// The sending half of a session.
#[derive(Debug)]
pub(super) struct SealedWriter<W> {
    stream: W,
    sealer: Sealer,
    /// What the next [`flush`](Self::flush) sends.
    pub(super) encoder: Encoder,
    /// What was taken from the encoder and is not sealed.
    pieces: VecDeque<Bytes>,
    /// How much of what was sealed last is written.
    written: usize,
}

impl<W: AsyncWrite + Unpin> SealedWriter<W> {
    pub(super) fn new(stream: W, sealer: Sealer) -> Self {
        Self {
            stream,
            sealer,
            encoder: Encoder::new(),
            pieces: VecDeque::new(),
            written: 0,
        }
    }

    /// Seals everything that was encoded, in as few frames as hold it, and writes it. A batch goes
    /// out in one write; a very long one in a few, so that the other end can begin on it.
    ///
    /// When the future is dropped, the next one goes on where it was.
    pub(super) async fn flush(&mut self) -> Result<(), NetError> {
        loop {
            while self.written < self.sealer.sealed().len() {
                let rest = &self.sealer.sealed()[self.written..];
                match self.stream.write(rest).await? {
                    0 => return Err(io::Error::from(io::ErrorKind::WriteZero).into()),
                    written => self.written += written,
                }
            }
            if self.pieces.is_empty() {
                self.pieces.extend(self.encoder.take());
            }
            if self.pieces.is_empty() {
                return Ok(());
            }
            self.sealer.seal(&next_part(&mut self.pieces))?;
            self.written = 0;
        }
    }

    /// Ends the direction, after what was flushed.
    pub(super) async fn shutdown(&mut self) -> Result<(), NetError> {
        Ok(self.stream.shutdown().await?)
    }

    /// Whether everything that was encoded is written.
    pub(super) fn is_idle(&self) -> bool {
        self.encoder.is_empty()
            && self.pieces.is_empty()
            && self.written == self.sealer.sealed().len()
    }

    /// Whether the encoder holds so much that it should be flushed before more is put there.
    pub(super) fn is_full(&self) -> bool {
        self.encoder.len() >= BATCH_BYTES_MAX
    }

    /// Lets go of buffers, when nothing was sent for a while.
    pub(super) fn rest(&mut self) {
        if self.is_idle() {
            self.sealer.rest();
            self.written = 0;
        }
    }
}

/// A timer that is put off by every event, at the price of reading the clock: the timer itself is
/// touched once in its time.
#[derive(Debug)]
pub(super) struct Quiet {
    since: Instant,
    limit: Duration,
    sleep: std::pin::Pin<Box<Sleep>>,
}

impl Quiet {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            since: Instant::now(),
            limit,
            sleep: Box::pin(sleep(limit)),
        }
    }

    /// Something happened.
    pub(super) fn interrupt(&mut self) {
        self.since = Instant::now();
    }

    /// Returns when nothing has happened for as long as the limit.
    pub(super) async fn elapsed(&mut self) {
        loop {
            self.sleep.as_mut().await;
            let end = self.since + self.limit;
            let over = end <= Instant::now();
            self.sleep.as_mut().reset(end);
            if over {
                return;
            }
        }
    }
}

const _: () = assert!(FIRST_FRAME_BYTES_MAX < FRAME_PAYLOAD_MAX);
