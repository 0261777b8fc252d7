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
        }
    }

    /// Appends to `out` the frames of these pieces, one after another, in as few frames as hold
    /// them. Nothing is kept back. A piece that fills a whole frame is sealed where it lies, the
    /// rest is gathered first.
    pub fn seal(&mut self, pieces: &[Bytes], out: &mut BytesMut) -> Result<(), FrameError> {
        let total: usize = pieces.iter().map(Bytes::len).sum();
        out.reserve(total + total.div_ceil(FRAME_PAYLOAD_MAX) * FRAME_OVERHEAD);
        for piece in pieces {
            let mut rest = &piece[..];
            while !rest.is_empty() {
                if self.plaintext.is_empty() && rest.len() >= FRAME_PAYLOAD_MAX {
                    let (whole, after) = rest.split_at(FRAME_PAYLOAD_MAX);
                    self.frames = seal_frame(&self.transport, self.frames, whole, out)?;
                    rest = after;
                    continue;
                }
                let room = FRAME_PAYLOAD_MAX - self.plaintext.len();
                let (now, after) = rest.split_at(rest.len().min(room));
                self.plaintext.extend_from_slice(now);
                rest = after;
                if self.plaintext.len() == FRAME_PAYLOAD_MAX {
                    self.seal_gathered(out)?;
                }
            }
        }
        if !self.plaintext.is_empty() {
            self.seal_gathered(out)?;
        }
        Ok(())
    }

    fn seal_gathered(&mut self, out: &mut BytesMut) -> Result<(), FrameError> {
        self.frames = seal_frame(&self.transport, self.frames, &self.plaintext, out)?;
        self.plaintext.clear();
        Ok(())
    }
}

fn seal_frame(
    transport: &StatelessTransportState,
    nonce: u64,
    plaintext: &[u8],
    out: &mut BytesMut,
) -> Result<u64, FrameError> {
    if nonce == FRAMES_MAX {
        return Err(FrameError::UsedUp);
    }
    let sealed = plaintext.len() + TAG_BYTES;
    let length = u16::try_from(sealed).expect("a frame's plaintext is bounded");
    let start = out.len() + LENGTH_BYTES;
    out.extend_from_slice(&length.to_be_bytes());
    out.resize(start + sealed, 0);
    let written = transport
        .write_message(nonce, plaintext, &mut out[start..])
        .expect("the plaintext fits a Noise message and the room made for it");
    assert_eq!(
        written, sealed,
        "a Noise message is its plaintext and a tag"
    );
    Ok(nonce + 1)
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

    /// How many bytes the frame that starts with `sealed` has in all, once that can be told.
    pub fn frame_bytes(sealed: &[u8]) -> Option<usize> {
        let length = sealed.first_chunk::<LENGTH_BYTES>()?;
        Some(LENGTH_BYTES + usize::from(u16::from_be_bytes(*length)))
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
