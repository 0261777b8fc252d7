//! Bytes to messages and back, without any I/O.

mod auth;
mod client;
mod codec;
mod frame;
mod hello;
mod message;
mod peer;
mod session;
mod status;

pub use auth::{
    CLIENT_KEY_BYTES, ClientKey, KeyIdentifier, SYSTEM_KEY_BYTES, SystemKey, TAG_BYTES, TagError,
};
pub use client::{
    ClientCommand, ClientKind, ClientRequest, ClientResponse, ClientStatus, Decoded,
    EncodedResponse, Glance, READ_REQUEST_BYTES, RESPONSE_HEAD_BYTES, ResponseError,
    WRITE_REQUEST_BYTES, decode_request, decode_response, glance,
};
pub use codec::Encoder;
pub use frame::{FRAME_OVERHEAD, FRAME_PAYLOAD_MAX, FRAMES_MAX, FrameError, Opener, Sealer};
pub use hello::{HELLO_BYTES, Hello, HelloError, Process, Role, SESSION_MAGIC, VERSION};
pub use message::{FIRST_MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX, MessageError, MessageStream};
pub use peer::{Asker, Credit, Introduction, PeerMessage, cost, encode_reply, encode_request};
pub use session::{
    Accepting, Acceptor, Connecting, Connector, EPHEMERAL_BYTES, EXCHANGE_BYTES, Established,
    SessionError, SessionKey, Unproven,
};
pub use status::{STATUS_BYTES_MAX, SessionAnswer, SessionQuestion};
