//! Frames: what a session's bytes are once its keys are there.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 2 | length of the rest, 17 to 65,535 |
//! | 2 | length | a Noise message: ciphertext and 16 bytes of tag |
//!
//! The n-th frame of a direction is sealed with nonce n, so that none can be left out, repeated,
//! reordered or sent back. Together the plaintexts of a direction are one stream of messages
//! (`message`), which may lie across frames as they like: a batch is cut into as few frames as
//! its bytes allow.
//!
//! After [`FRAMES_MAX`] frames a direction is used up, and the session ends: AES-GCM keys are not
//! for ever. The next session has new ones.

use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use snow::StatelessTransportState;

/// The most bytes of plaintext in a frame.
pub const FRAME_PAYLOAD_MAX: usize = 65_519;

/// What a frame adds to its plaintext.
pub const FRAME_OVERHEAD: usize = LENGTH_BYTES + TAG_BYTES;

/// Frames of one direction of a session: 256 TiB.
pub const FRAMES_MAX: u64 = 1 << 32;

const LENGTH_BYTES: usize = 2;
const TAG_BYTES: usize = 16;
const _: () = assert!(FRAME_PAYLOAD_MAX + TAG_BYTES == 65_535);

/// Seals one direction.
#[derive(Debug)]
pub struct Sealer {
    transport: Arc<StatelessTransportState>,
    frames: u64,
    /// Gathers what is smaller than a frame.
    plaintext: Vec<u8>,
    /// Never shortened, so that its bytes need not be cleared before each batch.
    sealed: Vec<u8>,
    /// How many of them are the last batch.
    length: usize,
}

/// Opens one direction.
#[derive(Debug)]
pub struct Opener {
    transport: Arc<StatelessTransportState>,
    frames: u64,
}

impl Sealer {
    pub(super) fn new(transport: Arc<StatelessTransportState>) -> Self {
        Self {
            transport,
            frames: 0,
            plaintext: Vec::new(),
            sealed: Vec::new(),
            length: 0,
        }
    }

    /// The frames of these pieces, one after another, in as few frames as hold them: what
    /// [`Self::sealed`] is from now on. Nothing is kept back. A piece that fills a whole frame is sealed where it lies, the rest is gathered
    /// first.
    pub fn seal(&mut self, pieces: &[Bytes]) -> Result<&[u8], FrameError> {
        let total: usize = pieces.iter().map(Bytes::len).sum();
        let frames = total.div_ceil(FRAME_PAYLOAD_MAX);
        let length = total + frames * FRAME_OVERHEAD;
        if self.sealed.len() < length {
            self.sealed.resize(length, 0);
        }
        if FRAMES_MAX - self.frames < u64::try_from(frames).expect("memory is below 2^64") {
            return Err(FrameError::UsedUp);
        }
        let mut at = 0;
        for piece in pieces {
            let mut rest = &piece[..];
            while !rest.is_empty() {
                let room = FRAME_PAYLOAD_MAX - self.plaintext.len();
                let (now, after) = rest.split_at(rest.len().min(room));
                rest = after;
                if now.len() == FRAME_PAYLOAD_MAX {
                    at += seal_frame(&self.transport, self.frames, now, &mut self.sealed[at..]);
                    self.frames += 1;
                    continue;
                }
                self.plaintext.extend_from_slice(now);
                if self.plaintext.len() == FRAME_PAYLOAD_MAX {
                    at += self.seal_gathered(at);
                }
            }
        }
        if !self.plaintext.is_empty() {
            at += self.seal_gathered(at);
        }
        assert_eq!(at, length, "every frame but the last is full");
        self.length = length;
        Ok(self.sealed())
    }

    /// What was sealed last.
    pub fn sealed(&self) -> &[u8] {
        &self.sealed[..self.length]
    }

    /// Lets go of the room for batches, and of the last one, when there was none for a while.
    pub fn rest(&mut self) {
        self.plaintext = Vec::new();
        self.sealed = Vec::new();
        self.length = 0;
    }

    fn seal_gathered(&mut self, at: usize) -> usize {
        let out = &mut self.sealed[at..];
        let length = seal_frame(&self.transport, self.frames, &self.plaintext, out);
        self.frames += 1;
        self.plaintext.clear();
        length
    }
}

/// Writes the frame to the front of `out`; says how long it is.
fn seal_frame(
    transport: &StatelessTransportState,
    nonce: u64,
    plaintext: &[u8],
    out: &mut [u8],
) -> usize {
    let length = u16::try_from(plaintext.len() + TAG_BYTES).expect("a frame is bounded");
    out[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    let sealed = transport
        .write_message(nonce, plaintext, &mut out[LENGTH_BYTES..])
        .expect("the plaintext fits a Noise message and the room made for it");
    assert_eq!(
        sealed,
        usize::from(length),
        "a Noise message is its plaintext and a tag"
    );
    LENGTH_BYTES + sealed
}

impl Opener {
    pub(super) fn new(transport: Arc<StatelessTransportState>) -> Self {
        Self {
            transport,
            frames: 0,
        }
    }

    /// Takes the frame at the front of `sealed`, if it is whole, and appends its plaintext to
    /// `plaintext`; says whether there was one. After an error the session is lost.
    pub fn open(
        &mut self,
        sealed: &mut BytesMut,
        plaintext: &mut BytesMut,
    ) -> Result<bool, FrameError> {
        let Some(&length) = sealed.first_chunk::<LENGTH_BYTES>() else {
            return Ok(false);
        };
        let length = usize::from(u16::from_be_bytes(length));
        if length <= TAG_BYTES {
            return Err(FrameError::Empty);
        }
        let Some(message) = sealed[LENGTH_BYTES..].get(..length) else {
            return Ok(false);
        };
        if self.frames == FRAMES_MAX {
            return Err(FrameError::UsedUp);
        }
        let start = plaintext.len();
        plaintext.resize(start + length, 0);
        let opened = self
            .transport
            .read_message(self.frames, message, &mut plaintext[start..])
            .map_err(|_| FrameError::NotAuthentic)?;
        plaintext.truncate(start + opened);
        sealed.advance(LENGTH_BYTES + length);
        self.frames += 1;
        Ok(true)
    }
}

/// Why a session's bytes cannot be opened, or no more be sealed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// A length that no frame has.
    #[error("a frame without content was received")]
    Empty,
    /// Changed on its way, or never sealed for this place of this session.
    #[error("a frame is not authentic")]
    NotAuthentic,
    /// The session's keys have sealed enough.
    #[error("the session's keys are used up")]
    UsedUp,
}

#[cfg(test)]
mod tests;
