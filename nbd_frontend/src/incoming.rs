//! Requests as they arrive from the client.
//!
//! One read of the socket takes what is there, so that many small requests cost one system call.
//! A payload that fits the buffer is a slice of it; a larger one is read into memory of its own.
//! Nothing is copied but tiny payloads, and what was already in the buffer of a large one.
//!
//! A payload's memory is reserved before it is waited for (see [`budget`](crate::budget)); the
//! payload of a refused WRITE is read and thrown away, so that the stream stays in step.

use std::future::Future;
use std::io;
use std::mem;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::budget::{Budget, Reservation};
use crate::command::{Command, Terms};
use crate::proto::{BadMagic, REQUEST_HEADER_BYTES, Refusal, RequestHeader};

/// The buffer of a connection that sends little: one write of a sector.
const BUFFER_BYTES_MIN: usize = 4096 + 2 * REQUEST_HEADER_BYTES;
/// The buffer of a busy connection: some thirty writes of a sector. A slice keeps the memory of
/// its whole buffer until it is written, which is why the buffer is no larger: a client that puts
/// much rubbish between slow writes can keep this much for each, beyond its part of the budget.
const BUFFER_BYTES_MAX: usize = 128 << 10;
/// Payloads from this size on get memory of their own, unless they are in the buffer already.
const OWN_MEMORY_BYTES_MIN: usize = 32 << 10;
/// A payload below this is copied, lest it keep a whole buffer.
const SLICE_BYTES_MIN: usize = 2048;

/// Why requests can no longer be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IncomingError {
    #[error("the socket failed")]
    Socket(#[from] io::Error),
    #[error("the client is out of step")]
    Magic(#[from] BadMagic),
    #[error("the client went away in the middle of a request")]
    Truncated,
}

/// What the client asks for next.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// A request that may be executed; the payload is empty but for a WRITE.
    Request {
        cookie: u64,
        command: Command,
        payload: Bytes,
        reservation: Reservation,
    },
    /// A request to be answered with an error.
    Refused { cookie: u64, refusal: Refusal },
    /// No more requests: the client says goodbye.
    Goodbye,
    /// No more requests: the client closed its side between two of them.
    End,
}

/// The requests of one connection.
pub(crate) struct Incoming {
    budget: Arc<Budget>,
    buffer: BytesMut,
    /// The size of the buffer, between the two bounds, by how much came of late.
    buffer_bytes: usize,
    read_bytes: u64,
    at_end_of_stream: bool,
    state: State,
}

/// A request that may be executed as soon as its memory and payload are there.
#[derive(Copy, Clone)]
struct Accepted {
    cookie: u64,
    command: Command,
    payload_bytes: usize,
}

#[derive(Default)]
enum State {
    /// A header comes next.
    Header,
    /// Memory is being reserved for this request.
    Reserving(Accepted, Pin<Box<dyn Future<Output = Reservation> + Send>>),
    /// The payload of this request comes next, if it has one.
    Payload(Accepted, Reservation, Payload),
    /// The payload of a refused request comes next, to be thrown away.
    Discarding {
        cookie: u64,
        refusal: Refusal,
        rest: u64,
    },
    /// The client has said goodbye.
    Goodbye,
    /// Nothing comes any more.
    #[default]
    Ended,
}

/// Where a payload is put together.
enum Payload {
    /// In the connection's buffer, until all of these bytes are there.
    Buffered(usize),
    /// In memory of its own, until this many more bytes are there.
    Own { bytes: BytesMut, missing: usize },
}

impl State {
    /// The payload that is being read into memory of its own, and what is missing of it.
    fn own_payload(&mut self) -> Option<(&mut BytesMut, &mut usize)> {
        match self {
            Self::Payload(_, _, Payload::Own { bytes, missing }) if *missing > 0 => {
                Some((bytes, missing))
            }
            _ => None,
        }
    }
}

impl Incoming {
    /// `ahead` is what was read of the requests before.
    pub(crate) fn new(budget: Arc<Budget>, ahead: BytesMut) -> Self {
        Self {
            budget,
            buffer: ahead,
            buffer_bytes: BUFFER_BYTES_MIN,
            read_bytes: 0,
            at_end_of_stream: false,
            state: State::Header,
        }
    }

    /// The next request, from what was read; pending while more must be [filled](Self::poll_fill)
    /// in, or memory be reserved.
    pub(crate) fn poll_next(
        &mut self,
        terms: &Terms,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Arrival, IncomingError>> {
        loop {
            match mem::take(&mut self.state) {
                State::Header => {
                    let Some(header) = self.buffer.first_chunk::<REQUEST_HEADER_BYTES>() else {
                        return self.starved(State::Header);
                    };
                    let header = RequestHeader::decode(header)?;
                    self.buffer.advance(REQUEST_HEADER_BYTES);
                    self.state = self.begin(&header, terms);
                }
                State::Reserving(request, mut waiting) => {
                    let Poll::Ready(reservation) = waiting.as_mut().poll(cx) else {
                        self.state = State::Reserving(request, waiting);
                        return Poll::Pending;
                    };
                    let payload = self.begin_payload(request.payload_bytes);
                    self.state = State::Payload(request, reservation, payload);
                }
                State::Payload(request, reservation, payload) => match self.take_payload(payload) {
                    Ok(payload) => {
                        self.state = State::Header;
                        let Accepted {
                            cookie, command, ..
                        } = request;
                        let arrival = Arrival::Request {
                            cookie,
                            command,
                            payload,
                            reservation,
                        };
                        return Poll::Ready(Ok(arrival));
                    }
                    Err(payload) => {
                        return self.starved(State::Payload(request, reservation, payload));
                    }
                },
                State::Discarding {
                    cookie,
                    refusal,
                    mut rest,
                } => {
                    let part = usize::try_from(rest)
                        .unwrap_or(usize::MAX)
                        .min(self.buffer.len());
                    self.buffer.advance(part);
                    rest -= u64::try_from(part).expect("at most the rest");
                    if rest > 0 {
                        return self.starved(State::Discarding {
                            cookie,
                            refusal,
                            rest,
                        });
                    }
                    self.state = State::Header;
                    return Poll::Ready(Ok(Arrival::Refused { cookie, refusal }));
                }
                State::Goodbye => return Poll::Ready(Ok(Arrival::Goodbye)),
                State::Ended => return Poll::Ready(Ok(Arrival::End)),
            }
        }
    }

    /// Reads once from the socket; ready when something came, or the end of the stream.
    pub(crate) fn poll_fill<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.at_end_of_stream || matches!(self.state, State::Ended) {
            return Poll::Pending;
        }
        let read = if let Some((own, missing)) = self.state.own_payload() {
            let read = ready!(poll_read(stream, own, *missing, cx))?;
            *missing -= read;
            read
        } else {
            let room = self.make_room();
            if room == 0 {
                return Poll::Pending;
            }
            let read = ready!(poll_read(stream, &mut self.buffer, room, cx))?;
            if read == room {
                self.buffer_bytes = (2 * self.buffer_bytes).min(BUFFER_BYTES_MAX);
            }
            read
        };
        self.at_end_of_stream = read == 0;
        self.read_bytes += u64::try_from(read).expect("a length in memory fits 64 bits");
        Poll::Ready(Ok(()))
    }

    /// Gives back the buffer of a connection that was idle for a while.
    pub(crate) fn shrink(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
            self.buffer_bytes = BUFFER_BYTES_MIN;
        }
    }

    /// Bytes ever read.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// Whether memory is held for a payload that the client has not sent yet.
    pub(crate) fn awaits_payload(&self) -> bool {
        matches!(self.state, State::Payload(..))
    }

    /// `state` needs more than was read: it waits for that, unless nothing more will come.
    fn starved(&mut self, state: State) -> Poll<Result<Arrival, IncomingError>> {
        if !self.at_end_of_stream {
            self.state = state;
            return Poll::Pending;
        }
        if matches!(state, State::Header) && self.buffer.is_empty() {
            return Poll::Ready(Ok(Arrival::End));
        }
        Poll::Ready(Err(IncomingError::Truncated))
    }

    fn begin(&mut self, header: &RequestHeader, terms: &Terms) -> State {
        let cookie = header.cookie;
        match Command::check(header, terms) {
            Err(refusal) => State::Discarding {
                cookie,
                refusal,
                rest: header.payload_bytes(),
            },
            Ok(Command::Disconnect) => State::Goodbye,
            Ok(command) => {
                let payload_bytes = usize::try_from(header.payload_bytes())
                    .expect("the terms allow no payload that memory could not hold");
                self.reserve(Accepted {
                    cookie,
                    command,
                    payload_bytes,
                })
            }
        }
    }

    fn reserve(&mut self, request: Accepted) -> State {
        let bytes = request.command.memory_bytes();
        if let Some(reservation) = self.budget.try_reserve(bytes) {
            let payload = self.begin_payload(request.payload_bytes);
            State::Payload(request, reservation, payload)
        } else {
            State::Reserving(request, Box::pin(Arc::clone(&self.budget).reserve(bytes)))
        }
    }

    fn begin_payload(&mut self, bytes: usize) -> Payload {
        if bytes < OWN_MEMORY_BYTES_MIN || bytes <= self.buffer.len() {
            return Payload::Buffered(bytes);
        }
        let missing = bytes - self.buffer.len();
        let mut own = BytesMut::with_capacity(bytes);
        own.extend_from_slice(&self.buffer);
        self.buffer.clear();
        Payload::Own {
            bytes: own,
            missing,
        }
    }

    fn take_payload(&mut self, payload: Payload) -> Result<Bytes, Payload> {
        match payload {
            Payload::Buffered(bytes) if bytes > self.buffer.len() => Err(payload),
            Payload::Buffered(bytes) if bytes < SLICE_BYTES_MIN => {
                let copy = Bytes::copy_from_slice(&self.buffer[..bytes]);
                self.buffer.advance(bytes);
                Ok(copy)
            }
            Payload::Buffered(bytes) => Ok(self.buffer.split_to(bytes).freeze()),
            Payload::Own { bytes, missing: 0 } => Ok(bytes.freeze()),
            Payload::Own { .. } => Err(payload),
        }
    }

    /// Room in the buffer for the next read. It is made only when the request at hand needs it:
    /// while requests wait for other things, no more is taken in than fits.
    fn make_room(&mut self) -> usize {
        let filled = self.buffer.len();
        let wanted = match &self.state {
            State::Header => REQUEST_HEADER_BYTES,
            State::Payload(_, _, Payload::Buffered(bytes)) => *bytes,
            State::Discarding { .. } => filled + 1,
            _ => 0,
        };
        let spare = self.buffer.capacity() - filled;
        if filled < wanted && spare < (wanted - filled).max(self.buffer_bytes / 2) {
            self.buffer
                .reserve(wanted.max(self.buffer_bytes) - filled.min(self.buffer_bytes));
        }
        self.buffer.capacity() - filled
    }
}

/// Appends at most `limit` bytes from the stream; 0 at its end.
fn poll_read<S: AsyncRead + Unpin>(
    stream: &mut S,
    target: &mut BytesMut,
    limit: usize,
    cx: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    let mut target = target.limit(limit);
    pin!(stream.read_buf(&mut target)).poll(cx)
}

#[cfg(test)]
mod tests;
