//! The classic client protocol, version 1, byte for byte as in `PROTOCOL.md`.
//!
//! All numbers are in network byte order. Every message ends in a tag: HMAC-SHA256 with the client
//! key over everything before it. A request's fields are decoded only once its tag was found
//! right; of one with a wrong tag nothing is known but the number and type that its
//! `AuthFailure` has to name.

mod request;
mod response;

pub use request::{
    ClientCommand, ClientRequest, Decoded, Glance, READ_REQUEST_BYTES, WRITE_REQUEST_BYTES,
    decode_request, glance,
};
pub use response::{
    ClientResponse, ClientStatus, EncodedResponse, RESPONSE_HEAD_BYTES, ResponseError,
    decode_response,
};

/// Whether a sector is read or written.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ClientKind {
    /// READ.
    Read,
    /// WRITE.
    Write,
}

impl ClientKind {
    /// The type's byte in a request.
    const fn code(self) -> u8 {
        match self {
            Self::Read => 1,
            Self::Write => 2,
        }
    }

    const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Read),
            2 => Some(Self::Write),
            _ => None,
        }
    }
}

/// The first bytes of every message, "atdd".
const MAGIC: [u8; 4] = *b"atdd";
