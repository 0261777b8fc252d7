//! The classic client protocol, version 1, byte for byte as in `PROTOCOL.md`.
//!
//! All numbers are in network byte order. Every message ends in a tag: HMAC-SHA256 with the client
//! key over everything before it, or `tags`'s where the client has attached. A request's fields are
//! decoded only once its tag was found right; of one with a wrong tag nothing is known but the
//! number and type that its `AuthFailure` has to name.
//!
//! `extension` is what drivers may speak besides: types `80` and above.

mod extension;
mod kind;
mod request;
mod response;
mod status;
mod tags;

pub use extension::AttachAnswer;
pub use kind::ClientKind;
pub use request::{
    ClientCommand, ClientRequest, Decoded, Glance, READ_REQUEST_BYTES, WRITE_REQUEST_BYTES,
    bytes_missing, decode_request, glance,
};
pub use response::{
    ClientResponse, EncodedResponse, RESPONSE_HEAD_BYTES, ResponseError, decode_answer,
    decode_response, seal_pieces,
};
pub use status::ClientStatus;
pub use tags::{ConnectionSession, SessionTagger};
