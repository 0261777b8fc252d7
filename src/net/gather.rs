//! Responses on their way out, gathered into vectored writes.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes, BytesMut};
use tokio::net::TcpStream;

use crate::wire::EncodedResponse;

/// The system takes no more pieces at once.
const PIECES_MAX: usize = 1024;

/// Pieces that the socket has not taken yet.
///
/// Bounded by the requests under way: a response that is not written counts as one.
#[derive(Debug, Default)]
pub(super) struct Gather {
    pieces: VecDeque<Bytes>,
    /// Heads and tags, which are written together where no content is between them.
    small: BytesMut,
    /// The ends of responses among the pieces: how many pieces each still has.
    responses: VecDeque<usize>,
}

impl Gather {
    /// Appends a response.
    pub(super) fn push(&mut self, response: EncodedResponse) {
        let EncodedResponse { head, content, tag } = response;
        self.small.extend_from_slice(&head);
        let mut pieces = 1;
        if content.is_empty() {
            self.small.extend_from_slice(&tag);
            self.pieces.push_back(self.small.split().freeze());
        } else {
            self.pieces.push_back(self.small.split().freeze());
            self.pieces.push_back(content);
            self.small.extend_from_slice(&tag);
            self.pieces.push_back(self.small.split().freeze());
            pieces = 3;
        }
        self.responses.push_back(pieces);
    }

    /// How many responses are not written to their end.
    pub(super) fn len(&self) -> usize {
        self.responses.len()
    }

    /// Whether everything is written.
    pub(super) fn is_empty(&self) -> bool {
        self.responses.is_empty()
    }

    /// Writes as much as the socket takes without waiting.
    pub(super) fn write_to(&mut self, stream: &TcpStream) -> io::Result<()> {
        while !self.pieces.is_empty() {
            let slices: Vec<_> = self
                .pieces
                .iter()
                .take(PIECES_MAX)
                .map(|piece| IoSlice::new(piece))
                .collect();
            match stream.try_write_vectored(&slices) {
                Ok(written) => self.written(written),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn written(&mut self, mut bytes: usize) {
        while let Some(first) = self.pieces.front_mut() {
            if bytes < first.len() {
                first.advance(bytes);
                return;
            }
            bytes -= first.len();
            self.pieces.pop_front();
            let left = self
                .responses
                .front_mut()
                .expect("every piece is a response's");
            *left -= 1;
            if *left == 0 {
                self.responses.pop_front();
            }
        }
    }
}
