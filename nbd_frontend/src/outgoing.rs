//! Replies on their way to the client.
//!
//! Headers and small data are gathered in one buffer, large data stay where the device gave them,
//! and everything that is ready goes out in one vectored write. A reply keeps its part of the
//! memory budget until its last byte is out.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use crate::budget::Reservation;
use crate::byte_device::{Run, zeroes};
use crate::command::{ByteRange, Command};
use crate::proto::{
    Refusal, encode_data_heading, encode_error_chunk, encode_hole_chunk, encode_none_chunk,
    encode_simple_reply,
};

/// Data up to this size are copied behind their header: cheaper than another slice to gather.
const COPY_BYTES_MAX: usize = 512;
/// Slices in one write: a READ takes two, and Linux takes 1024 at most.
const SLICES_MAX: usize = 128;
/// Space for headers, taken anew when it is used up.
const HEADERS_BYTES: usize = 4096;

/// What a reply must know of its request.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Heading {
    pub(crate) cookie: u64,
    pub(crate) shape: Shape,
}

/// How a request is answered.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Nothing but success or an error.
    Status,
    /// The bytes of a range.
    Data {
        range: ByteRange,
        single_chunk: bool,
    },
}

impl Heading {
    /// The heading of the reply to a good request.
    pub(crate) fn new(cookie: u64, command: &Command) -> Self {
        let shape = match *command {
            Command::Read {
                range,
                single_chunk,
            } => Shape::Data {
                range,
                single_chunk,
            },
            _ => Shape::Status,
        };
        Self { cookie, shape }
    }
}

/// The replies of one connection.
#[derive(Debug)]
pub(crate) struct Outgoing {
    structured_replies: bool,
    /// Full slices, in order, before what is in `tail`.
    slices: VecDeque<Bytes>,
    tail: BytesMut,
    /// Bytes ever queued and ever written.
    queued_bytes: u64,
    written_bytes: u64,
    /// For each reply that is not out, in order: where it ends, and its part of the budget.
    unwritten: VecDeque<(u64, Option<Reservation>)>,
}

impl Outgoing {
    pub(crate) fn new(structured_replies: bool) -> Self {
        Self {
            structured_replies,
            slices: VecDeque::new(),
            tail: BytesMut::new(),
            queued_bytes: 0,
            written_bytes: 0,
            unwritten: VecDeque::new(),
        }
    }

    /// How many replies are not out.
    pub(crate) fn replies(&self) -> usize {
        self.unwritten.len()
    }

    /// Bytes ever written.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes
    }

    /// Gives back the buffers of a connection that was idle for a while.
    pub(crate) fn shrink(&mut self) {
        if self.replies() == 0 {
            self.tail = BytesMut::new();
            self.slices = VecDeque::new();
            self.unwritten = VecDeque::new();
        }
    }

    /// Queues the reply to a request that was carried out; `runs` are the data of a READ.
    pub(crate) fn succeed(
        &mut self,
        heading: Heading,
        runs: &[Run],
        reservation: Option<Reservation>,
    ) {
        self.make_room();
        match heading.shape {
            Shape::Data {
                range,
                single_chunk,
            } if self.structured_replies => {
                self.push_chunks(heading.cookie, range.offset, runs, single_chunk);
            }
            _ => {
                encode_simple_reply(&mut self.tail, heading.cookie, 0);
                self.push_runs(runs);
            }
        }
        self.end_reply(reservation);
    }

    /// Queues the reply to a request that was refused or failed.
    pub(crate) fn fail(
        &mut self,
        cookie: u64,
        refusal: &Refusal,
        reservation: Option<Reservation>,
    ) {
        self.make_room();
        if self.structured_replies {
            encode_error_chunk(&mut self.tail, cookie, refusal);
        } else {
            encode_simple_reply(&mut self.tail, cookie, refusal.code.number());
        }
        self.end_reply(reservation);
    }

    /// Writes as much as the socket takes; ready when everything is out.
    pub(crate) fn poll_write<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.slices.len() + self.tail.len() > 0 {
            let mut gathered = [IoSlice::new(&[]); SLICES_MAX];
            let mut count = 0;
            let tail = std::iter::once(&self.tail[..]).filter(|tail| !tail.is_empty());
            for slice in self
                .slices
                .iter()
                .map(|slice| &slice[..])
                .chain(tail)
                .take(SLICES_MAX)
            {
                gathered[count] = IoSlice::new(slice);
                count += 1;
            }
            let stream = Pin::new(&mut *stream);
            let written = ready!(stream.poll_write_vectored(cx, &gathered[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    fn make_room(&mut self) {
        if self.tail.is_empty() {
            self.tail.reserve(HEADERS_BYTES);
        }
    }

    fn push_chunks(&mut self, cookie: u64, offset: u64, runs: &[Run], single_chunk: bool) {
        if runs.is_empty() {
            encode_none_chunk(&mut self.tail, cookie);
            return;
        }
        let is_hole = |run: &Run| matches!(run, Run::Zeroes(_));
        let unfragmented = single_chunk && !runs.iter().all(is_hole);
        let mut chunk_offset = offset;
        let mut chunks = runs
            .chunk_by(|one, next| unfragmented || is_hole(one) == is_hole(next))
            .peekable();
        while let Some(chunk) = chunks.next() {
            let bytes: u64 = chunk.iter().map(Run::length).sum();
            let length = u32::try_from(bytes).expect("a READ is far below 4 GiB");
            let done = chunks.peek().is_none();
            if is_hole(&chunk[0]) && !unfragmented {
                encode_hole_chunk(&mut self.tail, done, cookie, chunk_offset, length);
            } else {
                encode_data_heading(&mut self.tail, done, cookie, chunk_offset, length);
                self.push_runs(chunk);
            }
            chunk_offset += bytes;
        }
    }

    fn push_runs(&mut self, runs: &[Run]) {
        for run in runs {
            match run {
                Run::Data(data) => self.push_data(data.clone()),
                Run::Zeroes(length) => zeroes(*length).for_each(|data| self.push_data(data)),
            }
        }
    }

    fn push_data(&mut self, data: Bytes) {
        if data.len() <= COPY_BYTES_MAX {
            self.tail.extend_from_slice(&data);
            return;
        }
        if !self.tail.is_empty() {
            let headers = self.tail.split().freeze();
            self.queued_bytes += byte_count(&headers);
            self.slices.push_back(headers);
        }
        self.queued_bytes += byte_count(&data);
        self.slices.push_back(data);
    }

    fn end_reply(&mut self, reservation: Option<Reservation>) {
        let end = self.queued_bytes + byte_count(&self.tail);
        self.unwritten.push_back((end, reservation));
    }

    fn advance(&mut self, written: usize) {
        let mut rest = written;
        while let Some(first) = self.slices.front_mut() {
            if first.len() > rest {
                first.advance(rest);
                rest = 0;
                break;
            }
            rest -= first.len();
            self.slices.pop_front();
        }
        self.tail.advance(rest);
        self.queued_bytes += u64::try_from(rest).expect("a length in memory fits 64 bits");
        self.written_bytes += u64::try_from(written).expect("a length in memory fits 64 bits");
        let out = self
            .unwritten
            .partition_point(|(end, _)| *end <= self.written_bytes);
        self.unwritten.drain(..out);
    }
}

fn byte_count(data: &[u8]) -> u64 {
    u64::try_from(data.len()).expect("a length in memory fits 64 bits")
}

#[cfg(test)]
mod tests;
