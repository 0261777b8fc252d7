//! The stream of messages that the frames of a session carry.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | length of the rest, 1 to 2 MiB |
//! | 4 | 1 | type |
//! | 5 | length - 1 | fields of the type; nothing may be left over |
//!
//! | type | message | from |
//! |---|---|---|
//! | `00` | heartbeat | both |
//! | `01` | introduction | both, of role peer |
//! | `10` | stamps? | connector, of role peer |
//! | `11` | values? | connector, of role peer |
//! | `12` | store | connector, of role peer |
//! | `13` | fence? | connector, of role peer |
//! | `14` | open | connector, of role peer |
//! | `20` | held | listener, of role peer |
//! | `21` | stored | listener, of role peer |
//! | `22` | declined | listener, of role peer |
//! | `23` | fence | listener, of role peer |
//! | `24` | opened | listener, of role peer |
//! | `25` | refused | listener, of role peer |
//! | `40` | status? | connector, of role client |
//! | `41` | attachments? | connector, of role client |
//! | `42` | release | connector, of role client |
//! | `43` | attach | connector, of role client |
//! | `44` | detach | connector, of role client |
//! | `45` | read | connector, of role client |
//! | `46` | write | connector, of role client |
//! | `47` | discard | connector, of role client |
//! | `48` | flush | connector, of role client |
//! | `50` | status | listener, of role client |
//! | `51` | attachments | listener, of role client |
//! | `52` | released | listener, of role client |
//! | `53` | attached | listener, of role client |
//! | `54` | attach refused | listener, of role client |
//! | `55` | detached | listener, of role client |
//! | `56` | values | listener, of role client |
//! | `57` | done | listener, of role client |
//! | `58` | failed | listener, of role client |
//! | `59` | fenced | listener, of role client |

use bytes::{Buf, Bytes, BytesMut};

/// The most bytes of a message after its length: the data of 256 sectors, and room for the records
/// of the longest discard.
pub const MESSAGE_BYTES_MAX: usize = 2 << 20;

/// The most bytes of a session's first message each way, which is read before anything else of the
/// other end is believed: an introduction with the stores of 254 processes and
/// as many attachments as one names.
pub const FIRST_MESSAGE_BYTES_MAX: usize = 8 << 10;

/// The size of a message's length.
pub(super) const LENGTH_BYTES: usize = 4;

pub(super) const HEARTBEAT: u8 = 0x00;
pub(super) const INTRODUCTION: u8 = 0x01;
pub(super) const STAMPS: u8 = 0x10;
pub(super) const VALUES: u8 = 0x11;
pub(super) const STORE: u8 = 0x12;
pub(super) const FENCE_QUESTION: u8 = 0x13;
pub(super) const OPEN: u8 = 0x14;
pub(super) const HELD: u8 = 0x20;
pub(super) const STORED: u8 = 0x21;
pub(super) const DECLINED: u8 = 0x22;
pub(super) const FENCE: u8 = 0x23;
pub(super) const OPENED: u8 = 0x24;
pub(super) const REFUSED: u8 = 0x25;
pub(super) const STATUS_QUESTION: u8 = 0x40;
pub(super) const ATTACHMENTS_QUESTION: u8 = 0x41;
pub(super) const RELEASE: u8 = 0x42;
pub(super) const ATTACH: u8 = 0x43;
pub(super) const DETACH: u8 = 0x44;
pub(super) const READ: u8 = 0x45;
pub(super) const WRITE: u8 = 0x46;
pub(super) const DISCARD: u8 = 0x47;
pub(super) const FLUSH: u8 = 0x48;
pub(super) const STATUS: u8 = 0x50;
pub(super) const ATTACHMENTS: u8 = 0x51;
pub(super) const RELEASED: u8 = 0x52;
pub(super) const ATTACHED: u8 = 0x53;
pub(super) const ATTACH_REFUSED: u8 = 0x54;
pub(super) const DETACHED: u8 = 0x55;
pub(super) const SECTORS: u8 = 0x56;
pub(super) const DONE: u8 = 0x57;
pub(super) const FAILED: u8 = 0x58;
pub(super) const FENCED: u8 = 0x59;

/// A larger allocation is let go once nothing is left in it.
const KEPT_BYTES_MAX: usize = 256 << 10;

/// Cuts the opened bytes of a session into messages.
#[derive(Debug)]
pub struct MessageStream {
    /// Where opened frames are appended.
    pub plaintext: BytesMut,
    length_max: usize,
}

impl MessageStream {
    /// An empty stream, of which only the first message is expected.
    pub fn new() -> Self {
        Self {
            plaintext: BytesMut::new(),
            length_max: FIRST_MESSAGE_BYTES_MAX,
        }
    }

    /// From now on messages of every length are expected.
    pub fn expect_all(&mut self) {
        self.length_max = MESSAGE_BYTES_MAX;
    }

    /// The next message, type and fields, as a slice of the stream; `None` when more bytes are
    /// needed.
    pub fn next_message(&mut self) -> Result<Option<Bytes>, MessageError> {
        let Some(&length) = self.plaintext.first_chunk::<LENGTH_BYTES>() else {
            if self.plaintext.is_empty() && self.plaintext.capacity() > KEPT_BYTES_MAX {
                self.plaintext = BytesMut::new();
            }
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(length)).map_err(|_| MessageError::Long)?;
        if length == 0 {
            return Err(MessageError::Short);
        }
        if length > self.length_max {
            return Err(MessageError::Long);
        }
        let end = LENGTH_BYTES + length;
        if self.plaintext.len() < end {
            self.plaintext.reserve(end - self.plaintext.len());
            return Ok(None);
        }
        self.plaintext.advance(LENGTH_BYTES);
        Ok(Some(self.plaintext.split_to(length).freeze()))
    }
}

impl Default for MessageStream {
    fn default() -> Self {
        Self::new()
    }
}

/// What a message of a session has that no correct process sends.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It ends within a field.
    #[error("a message is too short for its fields")]
    Short,
    /// It is longer than any may be.
    #[error("a message is longer than any may be")]
    Long,
    /// It goes on after its last field.
    #[error("a message goes on after its last field")]
    Trailing,
    /// A type that there is none of, or that this end is not sent.
    #[error("a message has the type {0:#04x}, which is not expected here")]
    Type(u8),
    /// It is about a volume that there is none of.
    #[error("a message is about volume {0}, and there is only volume 0")]
    Volume(u16),
    /// A field with a value that it never has.
    #[error("a message is malformed in {0}")]
    Malformed(&'static str),
}
