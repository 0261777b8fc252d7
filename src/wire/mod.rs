//! Bytes to messages and back, without any I/O.
//!
//! | module | what |
//! |---|---|
//! | `client` | the classic protocol of `PROTOCOL.md` and its extension: requests, responses, resynchronisation |
//! | `hello` | the plain beginning of a session, which tells it from a classic connection |
//! | `session` | its key exchange: two hellos and two messages become two directions |
//! | `frame` | a direction's sealed frames |
//! | `message` | the stream of messages in them, and their types |
//! | `peer` | what processes say to one another: the register's questions and answers |
//! | `client_session` | what clients say in sessions: attachments, their operations, status |
//! | `holder` | who holds a volume, as both are told of it |
//! | `auth`, `codec` | keys and tags; fields |
//!
//! Guarantees: nothing is decoded before it was authenticated, but for a hello, and for the number
//! and type that an `AuthFailure` has to echo. No length is believed before it was compared with
//! its limit, no bytes make a decoder panic, and what is decoded is exactly what would be sent:
//! nothing trails, nothing has two encodings. Data are slices of what was received.
//!
//! Random bytes are passed in, and time plays no part.

mod auth;
mod client;
mod client_session;
mod codec;
mod frame;
mod hello;
mod holder;
mod message;
mod peer;
mod session;

pub use auth::{
    CLIENT_KEY_BYTES, ClientKey, KeyIdentifier, SYSTEM_KEY_BYTES, SystemKey, TAG_BYTES, TagError,
    Tagger,
};
pub use client::{
    AttachAnswer, ClientCommand, ClientKind, ClientRequest, ClientResponse, ClientStatus,
    ConnectionSession, Decoded, EncodedResponse, Glance, READ_REQUEST_BYTES, RESPONSE_HEAD_BYTES,
    ResponseError, SessionTagger, WRITE_REQUEST_BYTES, bytes_missing, decode_answer,
    decode_request, decode_response, glance, seal_pieces,
};
pub use client_session::{
    DATA_SECTORS_MAX, DISCARD_SECTORS_MAX, RequestNumber, STATUS_BYTES_MAX, SectorValues,
    SessionAnswer, SessionQuestion,
};
pub use codec::Encoder;
pub use frame::{FRAME_OVERHEAD, FRAME_PAYLOAD_MAX, FRAMES_MAX, FrameError, Opener, Sealer};
pub use hello::{HELLO_BYTES, Hello, HelloError, Process, Role, SESSION_MAGIC, VERSION};
pub use message::{FIRST_MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX, MessageError, MessageStream};
pub use peer::{
    Asker, Credit, HOLDERS_MAX, Introduction, PeerMessage, cost, encode_reply, encode_request,
};
pub use session::{
    Accepting, Acceptor, Connecting, Connector, EPHEMERAL_BYTES, EXCHANGE_BYTES, Established,
    SessionError, SessionKey, Unproven,
};
