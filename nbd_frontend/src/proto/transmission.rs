//! Requests and replies.
//!
//! ```text
//! request           C: 0x25609513(4) flags(2) command(2) cookie(8) offset(8) length(4)
//!                      data(length, WRITE only)
//! simple reply      S: 0x67446698(4) error(4) cookie(8) data(of a READ without an error)
//! structured chunk  S: 0x668e33ef(4) flags(2) type(2) cookie(8) length(4) payload(length)
//!                      NONE: nothing
//!                      OFFSET_DATA: offset(8) data
//!                      OFFSET_HOLE: offset(8) bytes of zeroes(4)
//!                      ERROR: error(4) text length(2) text
//! ```

use bytes::{Buf, BufMut, BytesMut};

use super::{Refusal, STRING_BYTES_MAX};

const REQUEST_MAGIC: u32 = 0x2560_9513;
const SIMPLE_REPLY_MAGIC: u32 = 0x6744_6698;
const CHUNK_MAGIC: u32 = 0x668e_33ef;

/// Bytes of a request before its payload.
pub(crate) const REQUEST_HEADER_BYTES: usize = 28;

const CHUNK_DONE: u16 = 1 << 0;

const CHUNK_NONE: u16 = 0;
const CHUNK_OFFSET_DATA: u16 = 1;
const CHUNK_OFFSET_HOLE: u16 = 2;
const CHUNK_ERROR: u16 = (1 << 15) | 1;

/// What follows does not begin as a request does: the stream is out of step.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a request begins with {0:#010x} instead of {REQUEST_MAGIC:#010x}")]
pub(crate) struct BadMagic(pub(crate) u32);

/// What a request asks for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum CommandKind {
    Read,
    Write,
    Disconnect,
    Flush,
    Trim,
    Cache,
    WriteZeroes,
    /// Anything else: answered with EINVAL.
    Other(u16),
}

impl CommandKind {
    const fn from_number(number: u16) -> Self {
        match number {
            0 => Self::Read,
            1 => Self::Write,
            2 => Self::Disconnect,
            3 => Self::Flush,
            4 => Self::Trim,
            5 => Self::Cache,
            6 => Self::WriteZeroes,
            other => Self::Other(other),
        }
    }
}

/// The flags of a request.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommandFlags(pub(crate) u16);

impl CommandFlags {
    /// No reply before the request's writes are on stable storage; allowed on every command.
    pub(crate) const FUA: Self = Self(1 << 0);
    /// Zeroes are to be written, not punched.
    pub(crate) const NO_HOLE: Self = Self(1 << 1);
    /// A READ is answered by one content chunk.
    pub(crate) const DF: Self = Self(1 << 2);
    /// Zeroing shall fail rather than be as slow as writing.
    pub(crate) const FAST_ZERO: Self = Self(1 << 4);

    /// Whether all flags of `other` are set.
    pub(crate) const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// The flags without those of `other`.
    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether no flag is set.
    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// A request before its payload. The length is wider than in the compact header, as extended
/// headers have it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct RequestHeader {
    pub(crate) flags: CommandFlags,
    pub(crate) kind: CommandKind,
    /// Chosen by the client, returned with the reply.
    pub(crate) cookie: u64,
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

impl RequestHeader {
    /// Decodes a compact request header.
    pub(crate) fn decode(bytes: &[u8; REQUEST_HEADER_BYTES]) -> Result<Self, BadMagic> {
        let mut bytes = bytes.as_slice();
        let magic = bytes.get_u32();
        if magic != REQUEST_MAGIC {
            return Err(BadMagic(magic));
        }
        Ok(Self {
            flags: CommandFlags(bytes.get_u16()),
            kind: CommandKind::from_number(bytes.get_u16()),
            cookie: bytes.get_u64(),
            offset: bytes.get_u64(),
            length: u64::from(bytes.get_u32()),
        })
    }

    /// Bytes of payload that follow, whether the request is a good one or not.
    pub(crate) const fn payload_bytes(&self) -> u64 {
        match self.kind {
            CommandKind::Write => self.length,
            _ => 0,
        }
    }
}

/// Appends a simple reply's header; the data of a READ follow it.
pub(crate) fn encode_simple_reply(out: &mut BytesMut, cookie: u64, error: u32) {
    out.put_u32(SIMPLE_REPLY_MAGIC);
    out.put_u32(error);
    out.put_u64(cookie);
}

fn encode_chunk_header(out: &mut BytesMut, done: bool, kind: u16, cookie: u64, length: u32) {
    out.put_u32(CHUNK_MAGIC);
    out.put_u16(if done { CHUNK_DONE } else { 0 });
    out.put_u16(kind);
    out.put_u64(cookie);
    out.put_u32(length);
}

/// Appends the chunk that ends a reply without saying more.
pub(crate) fn encode_none_chunk(out: &mut BytesMut, cookie: u64) {
    encode_chunk_header(out, true, CHUNK_NONE, cookie, 0);
}

/// Appends the head of a data chunk; `data_bytes` bytes of data follow it.
pub(crate) fn encode_data_heading(
    out: &mut BytesMut,
    done: bool,
    cookie: u64,
    offset: u64,
    data_bytes: u32,
) {
    encode_chunk_header(out, done, CHUNK_OFFSET_DATA, cookie, 8 + data_bytes);
    out.put_u64(offset);
}

/// Appends a chunk that says that `hole_bytes` bytes are zeroes.
pub(crate) fn encode_hole_chunk(
    out: &mut BytesMut,
    done: bool,
    cookie: u64,
    offset: u64,
    hole_bytes: u32,
) {
    encode_chunk_header(out, done, CHUNK_OFFSET_HOLE, cookie, 8 + 4);
    out.put_u64(offset);
    out.put_u32(hole_bytes);
}

/// Appends the chunk that ends a reply with an error and its text.
pub(crate) fn encode_error_chunk(out: &mut BytesMut, cookie: u64, refusal: &Refusal) {
    let text = cut_at_character(&refusal.text, STRING_BYTES_MAX).as_bytes();
    let text_bytes = u16::try_from(text.len()).expect("cut to 4096 bytes just now");
    encode_chunk_header(
        out,
        true,
        CHUNK_ERROR,
        cookie,
        4 + 2 + u32::from(text_bytes),
    );
    out.put_u32(refusal.code.number());
    out.put_u16(text_bytes);
    out.put_slice(text);
}

/// The longest beginning of `text` that has at most `bytes_max` bytes and only whole characters.
fn cut_at_character(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::ErrorCode;

    #[test]
    fn requests_have_the_bytes_of_the_specification() {
        let bytes = b"\x25\x60\x95\x13\x00\x01\x00\x06abcdefgh\
                      \x00\x00\x00\x00\x00\x01\x00\x00\xff\xff\xf0\x00";
        let header = RequestHeader::decode(bytes).unwrap();
        assert_eq!(header.flags, CommandFlags::FUA);
        assert_eq!(header.kind, CommandKind::WriteZeroes);
        assert_eq!(header.cookie, u64::from_be_bytes(*b"abcdefgh"));
        assert_eq!((header.offset, header.length), (65536, 0xffff_f000));
        assert_eq!(header.payload_bytes(), 0);
        let mut wrong = *bytes;
        wrong[0] = 0x26;
        assert_eq!(RequestHeader::decode(&wrong), Err(BadMagic(0x2660_9513)));
    }

    #[test]
    fn replies_have_the_bytes_of_the_specification() {
        let mut out = BytesMut::new();
        encode_simple_reply(&mut out, 7, 28);
        assert_eq!(&out[..], b"\x67\x44\x66\x98\0\0\0\x1c\0\0\0\0\0\0\0\x07");
        out.clear();
        encode_data_heading(&mut out, false, 7, 512, 4096);
        assert_eq!(
            &out[..],
            b"\x66\x8e\x33\xef\0\0\0\x01\0\0\0\0\0\0\0\x07\0\0\x10\x08\0\0\0\0\0\0\x02\0"
        );
        out.clear();
        encode_hole_chunk(&mut out, true, 7, 512, 4096);
        assert_eq!(
            &out[..],
            b"\x66\x8e\x33\xef\0\x01\0\x02\0\0\0\0\0\0\0\x07\0\0\0\x0c\0\0\0\0\0\0\x02\0\0\0\x10\0"
        );
        out.clear();
        encode_error_chunk(&mut out, 7, &Refusal::new(ErrorCode::Invalid, "no"));
        assert_eq!(
            &out[..],
            b"\x66\x8e\x33\xef\0\x01\x80\x01\0\0\0\0\0\0\0\x07\0\0\0\x08\0\0\0\x16\0\x02no"
        );
        out.clear();
        encode_none_chunk(&mut out, 7);
        assert_eq!(
            &out[..],
            b"\x66\x8e\x33\xef\0\x01\0\0\0\0\0\0\0\0\0\x07\0\0\0\0"
        );
    }

    #[test]
    fn long_error_texts_are_cut_at_a_letter() {
        let mut out = BytesMut::new();
        let text = "ä".repeat(2048) + "é";
        encode_error_chunk(
            &mut out,
            7,
            &Refusal::new(ErrorCode::Io, format!("x{text}")),
        );
        let sent = &out[26..];
        assert_eq!(sent.len(), 4095);
        assert!(str::from_utf8(sent).is_ok());
    }
}
