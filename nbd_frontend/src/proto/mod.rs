//! The NBD protocol as bytes: constants, and codecs between bytes and types, without any I/O.
//!
//! The source is `doc/proto.md` of <https://github.com/NetworkBlockDevice/nbd>, "the specification"
//! below. Every number is big-endian.

mod error;
mod handshake;
mod transmission;

pub(crate) use error::{ErrorCode, Refusal};
pub(crate) use handshake::{
    BadOption, CLIENT_FLAGS_BYTES, ClientFlags, Info, InfoRequest, OPTION_HEADER_BYTES,
    OptionHeader, OptionKind, ReplyKind, STRING_BYTES_MAX, TransmissionFlags, Wanted, decode_name,
    encode_export_name_reply, encode_greeting, encode_info, encode_option_reply, encode_server,
};
pub(crate) use transmission::{
    BadMagic, CommandFlags, CommandKind, REQUEST_HEADER_BYTES, RequestHeader, encode_data_heading,
    encode_error_chunk, encode_hole_chunk, encode_none_chunk, encode_simple_reply,
};
