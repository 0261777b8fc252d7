//! The messages of sessions of clients.
//!
//! A status question has no fields. A status is JSON, of at most [`STATUS_BYTES_MAX`] bytes, up to
//! the end of its message.

use bytes::Bytes;

use super::codec::{Encoder, Fields};
use super::message::{HEARTBEAT, MessageError, STATUS, STATUS_QUESTION};

/// The most bytes of JSON that a status has.
pub const STATUS_BYTES_MAX: usize = 64 << 10;

/// What a client asks in a session.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum SessionQuestion {
    /// Says only that the client lives.
    Heartbeat,
    /// How the process stands.
    Status,
}

/// What a client is answered in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionAnswer {
    /// Says only that the process lives.
    Heartbeat,
    /// How the process stands, as JSON.
    Status(Bytes),
}

impl SessionQuestion {
    /// Appends the question.
    pub fn encode(self, out: &mut Encoder) {
        match self {
            Self::Heartbeat => out.message(HEARTBEAT, |_| ()),
            Self::Status => out.message(STATUS_QUESTION, |_| ()),
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
