//! Bytes to messages and back, without any I/O.

mod auth;
mod client;
mod hello;
mod peer;

pub use auth::{
    CLIENT_KEY_BYTES, ClientKey, KeyIdentifier, SYSTEM_KEY_BYTES, SystemKey, TAG_BYTES, TagError,
};
pub use client::{
    ClientCommand, ClientKind, ClientRequest, ClientResponse, ClientStatus, Decoded,
    EncodedResponse, Glance, READ_REQUEST_BYTES, RESPONSE_HEAD_BYTES, ResponseError,
    WRITE_REQUEST_BYTES, decode_request, decode_response, glance,
};
pub use hello::{ClusterId, HELLO_BYTES, Hello, HelloError, Process, Role, SESSION_MAGIC, VERSION};
pub use peer::{Credit, Introduction, STATUS_BYTES_MAX};
