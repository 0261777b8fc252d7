//! Bytes to messages and back, without any I/O.

mod auth;
mod hello;
mod peer;

pub use auth::{
    CLIENT_KEY_BYTES, ClientKey, KeyIdentifier, SYSTEM_KEY_BYTES, SystemKey, TAG_BYTES, TagError,
};
pub use hello::{ClusterId, HELLO_BYTES, Hello, HelloError, Process, Role, SESSION_MAGIC, VERSION};
pub use peer::{Credit, Introduction, STATUS_BYTES_MAX};
