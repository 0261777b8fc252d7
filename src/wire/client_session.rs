//! The messages of sessions of clients.
//!
//! A status question has no fields. A status is JSON, of at most [`STATUS_BYTES_MAX`] bytes, up to
//! the end of its message.

use bytes::Bytes;

use super::codec::{Encoder, Fields};
use super::message::{HEARTBEAT, MessageError, STATUS, STATUS_QUESTION};
use super::peer::Credit;
use crate::domain::{Attach, AttachRefusal, Fence, Generation, OperationError, OwnerId};

/// The most bytes of JSON that a status has.
pub const STATUS_BYTES_MAX: usize = 64 << 10;

/// A client's number for one of its requests; no two of a session are the same.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestNumber(pub u64);

/// What a client asks in a session. At most one attachment is bound to a session, and ends with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionQuestion {
    /// Says only that the client lives.
    Heartbeat,
    /// How the process stands.
    Status,
    /// Which attachments the process runs.
    Attachments,
    /// End the attachments of this owner, as if fenced.
    Release {
        /// Whose.
        owner: OwnerId,
    },
    /// Attach; before anything below. Answered by `Attached` or `AttachRefused`, when there is a
    /// majority.
    Attach(Attach),
    /// Give the attachment back. Answered by `Detached`, after everything that was asked before.
    Detach,
    /// The values of sectors; at most 256 of them. Answered by `Values` or `Failed`.
    Read {
        /// Named by the answer.
        number: RequestNumber,
        /// The first sector's index.
        first: u64,
        /// How many sectors.
        count: u32,
    },
    /// New values for sectors; at most 256 of them, and whole ones. Answered by `Done` or `Failed`.
    Write {
        /// Named by the answer.
        number: RequestNumber,
        /// The first sector's index.
        first: u64,
        /// The sectors' bytes, one after another.
        data: Bytes,
    },
    /// Zeroes that take no space; at most 65,536 sectors. Answered by `Done` or `Failed`.
    Discard {
        /// Named by the answer.
        number: RequestNumber,
        /// The first sector's index.
        first: u64,
        /// How many sectors.
        count: u32,
    },
    /// Answered by `Done` once everything that was answered before is on stable storage.
    Flush {
        /// Named by the answer.
        number: RequestNumber,
    },
}

/// What a client is answered in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionAnswer {
    /// Says only that the process lives.
    Heartbeat,
    /// How the process stands, as JSON.
    Status(Bytes),
    /// The attachments that the process runs, as JSON.
    Attachments(Bytes),
    /// Whether there was an attachment to be released.
    Released(bool),
    /// The session is attached.
    Attached {
        /// The generation that it runs under.
        fence: Fence,
        /// How many sectors the volume has.
        sectors: u64,
        /// What the client may have under way in the session: requests without their answers, and
        /// the bytes that they write or read. More is a fault.
        credit: Credit,
    },
    /// The session is not attached; it may try again.
    AttachRefused(AttachRefusal),
    /// The attachment is given back.
    Detached,
    /// The values that a read asked for: its sectors in order, all of them.
    Values {
        /// Of the request.
        number: RequestNumber,
        /// One after another.
        values: Vec<SectorValues>,
    },
    /// A write, discard or flush is done.
    Done {
        /// Of the request.
        number: RequestNumber,
    },
    /// A request failed.
    Failed {
        /// Of the request.
        number: RequestNumber,
        /// Why.
        error: OperationError,
    },
    /// The attachment has ended by a newer generation: what was not answered is of unknown outcome,
    /// and nothing more is answered. The session may not attach again.
    Fenced {
        /// The newer generation.
        by: Generation,
    },
}

/// A part of what was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SectorValues {
    /// So many sectors of zeroes.
    Zeroes(u32),
    /// Whole sectors.
    Data(Bytes),
}

impl SessionQuestion {
    /// Appends the question.
    pub fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Heartbeat => out.message(HEARTBEAT, |_| ()),
            Self::Status => out.message(STATUS_QUESTION, |_| ()),
            _ => todo!("wire"),
        }
    }

    /// The question of these bytes, type and fields.
    pub fn decode(message: Bytes) -> Result<Self, MessageError> {
        let mut fields = Fields::new(message);
        let question = match fields.u8()? {
            HEARTBEAT => Self::Heartbeat,
            STATUS_QUESTION => Self::Status,
            other => return Err(MessageError::Type(other)),
        };
        fields.end()?;
        Ok(question)
    }
}

impl SessionAnswer {
    /// Appends the answer.
    ///
    /// # Panics
    /// When a status is longer than [`STATUS_BYTES_MAX`].
    pub fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Heartbeat => out.message(HEARTBEAT, |_| ()),
            Self::Status(json) => {
                assert!(json.len() <= STATUS_BYTES_MAX, "a status is bounded");
                out.message(STATUS, |out| out.value(json));
            }
            _ => todo!("wire"),
        }
    }

    /// The answer of these bytes, type and fields.
    pub fn decode(message: Bytes) -> Result<Self, MessageError> {
        let mut fields = Fields::new(message);
        let answer = match fields.u8()? {
            HEARTBEAT => Self::Heartbeat,
            STATUS => {
                let json = fields.rest();
                if json.len() > STATUS_BYTES_MAX {
                    return Err(MessageError::Long);
                }
                Self::Status(json)
            }
            other => return Err(MessageError::Type(other)),
        };
        fields.end()?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::MessageStream;

    fn encoded(encode: impl FnOnce(&mut Encoder)) -> Vec<u8> {
        let mut encoder = Encoder::new();
        encode(&mut encoder);
        encoder.take().concat()
    }

    fn message(bytes: &[u8]) -> Bytes {
        let mut stream = MessageStream::new();
        stream.expect_all();
        stream.plaintext.extend_from_slice(bytes);
        stream.next_message().unwrap().unwrap()
    }

    #[test]
    fn golden_status() {
        let question = encoded(|out| SessionQuestion::Status.encode(out));
        assert_eq!(question, [0, 0, 0, 1, 0x40]);
        assert_eq!(
            SessionQuestion::decode(message(&question)),
            Ok(SessionQuestion::Status)
        );

        let answer = SessionAnswer::Status(Bytes::from_static(b"{}"));
        let bytes = encoded(|out| answer.encode(out));
        assert_eq!(bytes, [0, 0, 0, 3, 0x50, b'{', b'}']);
        assert_eq!(SessionAnswer::decode(message(&bytes)), Ok(answer));

        let heartbeat = encoded(|out| SessionAnswer::Heartbeat.encode(out));
        assert_eq!(heartbeat, [0, 0, 0, 1, 0]);
        assert_eq!(
            SessionAnswer::decode(message(&heartbeat)),
            Ok(SessionAnswer::Heartbeat)
        );
        assert_eq!(
            SessionQuestion::decode(message(&heartbeat)),
            Ok(SessionQuestion::Heartbeat)
        );
    }

    #[test]
    fn what_is_no_message_of_clients_is_refused() {
        let stamps = Bytes::from_static(&[0x10, 1, 2]);
        assert_eq!(
            SessionQuestion::decode(stamps),
            Err(MessageError::Type(0x10))
        );
        let long = Bytes::from_static(&[0x40, 1]);
        assert_eq!(SessionQuestion::decode(long), Err(MessageError::Trailing));
        let mut status = vec![b' '; STATUS_BYTES_MAX + 2];
        status[0] = STATUS;
        assert_eq!(
            SessionAnswer::decode(Bytes::from(status)),
            Err(MessageError::Long)
        );
        assert_eq!(
            SessionAnswer::decode(Bytes::new()),
            Err(MessageError::Short)
        );
    }
}
