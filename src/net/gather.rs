//! Responses on their way out, gathered into vectored writes.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use bytes::{Buf, Bytes, BytesMut};
use tokio::net::TcpStream;

use crate::wire::{EncodedResponse, RESPONSE_HEAD_BYTES, TAG_BYTES};

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
    /// The ends of responses among the pieces.
    responses: VecDeque<Unwritten>,
    content_bytes: u64,
}

/// What there is of a response.
#[derive(Debug)]
struct Unwritten {
    pieces: usize,
    content_bytes: u64,
}

impl Gather {
    /// Appends a response.
    pub(super) fn push(&mut self, response: EncodedResponse) {
        let EncodedResponse { head, content, tag } = response;
        let content = (!content.is_empty()).then_some(content);
        self.push_pieces(head, content, tag);
    }

    /// Appends a response whose content is in pieces, none of them empty.
    pub(super) fn push_pieces(
        &mut self,
        head: [u8; RESPONSE_HEAD_BYTES],
        content: impl IntoIterator<Item = Bytes>,
        tag: [u8; TAG_BYTES],
    ) {
        let before = self.pieces.len();
        let mut content_bytes = 0;
        self.small.extend_from_slice(&head);
        for piece in content {
            if !self.small.is_empty() {
                self.pieces.push_back(self.small.split().freeze());
            }
            content_bytes += u64::try_from(piece.len()).expect("memory is below 2^64");
            self.pieces.push_back(piece);
        }
        self.small.extend_from_slice(&tag);
        self.pieces.push_back(self.small.split().freeze());
        self.content_bytes += content_bytes;
        self.responses.push_back(Unwritten {
            pieces: self.pieces.len() - before,
            content_bytes,
        });
    }

    /// How many responses are not written to their end.
    pub(super) fn len(&self) -> usize {
        self.responses.len()
    }

    /// How much content they have; none of it counts as written before the response's end is.
    pub(super) fn content_bytes(&self) -> u64 {
        self.content_bytes
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
            let response = self
                .responses
                .front_mut()
                .expect("every piece is a response's");
            response.pieces -= 1;
            if response.pieces == 0 {
                self.content_bytes -= response.content_bytes;
                self.responses.pop_front();
            }
        }
    }
}
