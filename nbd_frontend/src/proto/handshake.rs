//! Handshake and options.
//!
//! ```text
//! greeting        S: NBDMAGIC(8) IHAVEOPT(8) handshake flags(2)
//! client flags    C: flags(4)
//! option          C: IHAVEOPT(8) option(4) length(4) data(length)
//! option reply    S: 0x3e889045565a9(8) option(4) reply type(4) length(4) data(length)
//! EXPORT_NAME     S: size(8) transmission flags(2) zeroes(124, unless NO_ZEROES)
//! INFO and GO     C: name length(4) name count(2) information types(2 each)
//! REP_SERVER      S: name length(4) name description
//! REP_INFO        S: information type(2) and
//!                    EXPORT: size(8) transmission flags(2)
//!                    NAME: name    DESCRIPTION: description
//!                    BLOCK_SIZE: minimum(4) preferred(4) maximum payload(4)
//! ```

use bytes::{Buf, BufMut, BytesMut};

const GREETING_MAGIC: u64 = 0x4e42_444d_4147_4943; // NBDMAGIC
const OPTION_MAGIC: u64 = 0x4948_4156_454f_5054; // IHAVEOPT
const REPLY_MAGIC: u64 = 0x0003_e889_0455_65a9;

const FLAG_FIXED_NEWSTYLE: u16 = 1 << 0;
const FLAG_NO_ZEROES: u16 = 1 << 1;

/// Bytes of the flags with which a client answers the greeting.
pub(crate) const CLIENT_FLAGS_BYTES: usize = 4;
/// Bytes of an option before its data.
pub(crate) const OPTION_HEADER_BYTES: usize = 16;
/// Reserved bytes after the reply to EXPORT_NAME.
const EXPORT_NAME_PADDING_BYTES: usize = 124;
/// Strings may be so long and no longer, by the specification.
pub(crate) const STRING_BYTES_MAX: usize = 4096;

const ERROR_BIT: u32 = 1 << 31;

/// What the client chose of the handshake flags.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientFlags {
    /// The reply to EXPORT_NAME is not padded.
    pub(crate) no_zeroes: bool,
}

impl ClientFlags {
    /// The flags, or `None` when there is one that was not offered: the connection must be
    /// dropped then. FIXED_NEWSTYLE itself may be missing.
    pub(crate) fn decode(bytes: [u8; CLIENT_FLAGS_BYTES]) -> Option<Self> {
        let flags = u32::from_be_bytes(bytes);
        let known = u32::from(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES);
        (flags & !known == 0).then_some(Self {
            no_zeroes: flags & u32::from(FLAG_NO_ZEROES) != 0,
        })
    }
}

/// What a client can ask for before transmission.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum OptionKind {
    ExportName,
    Abort,
    List,
    Info,
    Go,
    StructuredReply,
    /// Anything else: answered with ERR_UNSUP.
    Other(u32),
}

impl OptionKind {
    const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::ExportName,
            2 => Self::Abort,
            3 => Self::List,
            6 => Self::Info,
            7 => Self::Go,
            8 => Self::StructuredReply,
            other => Self::Other(other),
        }
    }

    const fn number(self) -> u32 {
        match self {
            Self::ExportName => 1,
            Self::Abort => 2,
            Self::List => 3,
            Self::Info => 6,
            Self::Go => 7,
            Self::StructuredReply => 8,
            Self::Other(number) => number,
        }
    }
}

/// An option before its data.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct OptionHeader {
    pub(crate) kind: OptionKind,
    /// Bytes of data that follow.
    pub(crate) length: u32,
}

impl OptionHeader {
    /// The header, or `None` when it does not begin as options do.
    pub(crate) fn decode(bytes: &[u8; OPTION_HEADER_BYTES]) -> Option<Self> {
        let mut bytes = bytes.as_slice();
        if bytes.get_u64() != OPTION_MAGIC {
            return None;
        }
        Some(Self {
            kind: OptionKind::from_number(bytes.get_u32()),
            length: bytes.get_u32(),
        })
    }
}

/// How an option is answered.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReplyKind {
    Ack,
    Server,
    Info,
    Unsupported,
    Policy,
    Invalid,
    Unknown,
    TooBig,
}

impl ReplyKind {
    const fn number(self) -> u32 {
        match self {
            Self::Ack => 1,
            Self::Server => 2,
            Self::Info => 3,
            Self::Unsupported => ERROR_BIT | 1,
            Self::Policy => ERROR_BIT | 2,
            Self::Invalid => ERROR_BIT | 3,
            Self::Unknown => ERROR_BIT | 6,
            Self::TooBig => ERROR_BIT | 9,
        }
    }
}

/// The data of an option is not what the specification says.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadOption {
    #[error("the option's data end too early")]
    Truncated,
    #[error("the option's data go on after their end")]
    TrailingBytes,
    #[error("the export's name is longer than 4096 bytes")]
    NameTooLong,
    #[error("the export's name is not UTF-8")]
    NameNotUtf8,
}

/// What INFO and GO ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct InfoRequest<'a> {
    pub(crate) name: &'a str,
    /// Pieces of information wanted besides the size and flags.
    pub(crate) wanted: Wanted,
}

/// Which optional pieces of information a client asked for.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) name: bool,
    pub(crate) description: bool,
    pub(crate) block_size: bool,
}

const INFO_EXPORT: u16 = 0;
const INFO_NAME: u16 = 1;
const INFO_DESCRIPTION: u16 = 2;
const INFO_BLOCK_SIZE: u16 = 3;

impl<'a> InfoRequest<'a> {
    /// Decodes the data of INFO or GO; unknown types of information are left out, as they must be.
    pub(crate) fn decode(mut data: &'a [u8]) -> Result<Self, BadOption> {
        let name_bytes = data.try_get_u32().map_err(|_| BadOption::Truncated)?;
        let name_bytes = usize::try_from(name_bytes).map_err(|_| BadOption::NameTooLong)?;
        let (name, mut rest) = data
            .split_at_checked(name_bytes)
            .ok_or(BadOption::Truncated)?;
        let name = decode_name(name)?;
        let count = rest.try_get_u16().map_err(|_| BadOption::Truncated)?;
        let mut wanted = Wanted::default();
        for _ in 0..count {
            match rest.try_get_u16().map_err(|_| BadOption::Truncated)? {
                INFO_NAME => wanted.name = true,
                INFO_DESCRIPTION => wanted.description = true,
                INFO_BLOCK_SIZE => wanted.block_size = true,
                _ => {}
            }
        }
        if rest.has_remaining() {
            return Err(BadOption::TrailingBytes);
        }
        Ok(Self { name, wanted })
    }
}

/// The name of an export, as the data of EXPORT_NAME are nothing else.
pub(crate) fn decode_name(bytes: &[u8]) -> Result<&str, BadOption> {
    if bytes.len() > STRING_BYTES_MAX {
        return Err(BadOption::NameTooLong);
    }
    str::from_utf8(bytes).map_err(|_| BadOption::NameNotUtf8)
}

/// What the export can do, as clients learn it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct TransmissionFlags(u16);

impl TransmissionFlags {
    const HAS_FLAGS: u16 = 1 << 0;
    const READ_ONLY: u16 = 1 << 1;
    const SEND_FLUSH: u16 = 1 << 2;
    const SEND_FUA: u16 = 1 << 3;
    const SEND_TRIM: u16 = 1 << 5;
    const SEND_WRITE_ZEROES: u16 = 1 << 6;
    const SEND_DF: u16 = 1 << 7;
    const CAN_MULTI_CONN: u16 = 1 << 8;
    const SEND_CACHE: u16 = 1 << 10;
    const SEND_FAST_ZERO: u16 = 1 << 11;

    /// The flags of an export. FLUSH and FUA are always offered: without them the Linux client
    /// takes the disk for one that has nothing to flush.
    pub(crate) const fn new(read_only: bool, structured_replies: bool) -> Self {
        let mut flags = Self::HAS_FLAGS
            | Self::SEND_FLUSH
            | Self::SEND_FUA
            | Self::CAN_MULTI_CONN
            | Self::SEND_CACHE;
        flags |= if read_only {
            Self::READ_ONLY
        } else {
            Self::SEND_TRIM | Self::SEND_WRITE_ZEROES | Self::SEND_FAST_ZERO
        };
        if structured_replies {
            flags |= Self::SEND_DF;
        }
        Self(flags)
    }
}

/// One piece of information about an export.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Info<'a> {
    Export {
        size_bytes: u64,
        flags: TransmissionFlags,
    },
    Name(&'a str),
    Description(&'a str),
    BlockSize {
        minimum: u32,
        preferred: u32,
        payload_max: u32,
    },
}

/// Appends the greeting.
pub(crate) fn encode_greeting(out: &mut BytesMut) {
    out.put_u64(GREETING_MAGIC);
    out.put_u64(OPTION_MAGIC);
    out.put_u16(FLAG_FIXED_NEWSTYLE | FLAG_NO_ZEROES);
}

/// Appends the reply to EXPORT_NAME, which has no header of its own.
pub(crate) fn encode_export_name_reply(
    out: &mut BytesMut,
    size_bytes: u64,
    flags: TransmissionFlags,
    no_zeroes: bool,
) {
    out.put_u64(size_bytes);
    out.put_u16(flags.0);
    if !no_zeroes {
        out.put_bytes(0, EXPORT_NAME_PADDING_BYTES);
    }
}

/// Appends a reply to `option` whose data are `data`.
pub(crate) fn encode_option_reply(
    out: &mut BytesMut,
    option: OptionKind,
    reply: ReplyKind,
    data: &[u8],
) {
    out.put_u64(REPLY_MAGIC);
    out.put_u32(option.number());
    out.put_u32(reply.number());
    out.put_u32(u32::try_from(data.len()).expect("replies to options are a few strings"));
    out.put_slice(data);
}

/// Appends a line of the answer to LIST.
pub(crate) fn encode_server(out: &mut BytesMut, name: &str, description: &str) {
    let mut data = BytesMut::new();
    data.put_u32(u32::try_from(name.len()).expect("names have at most 4096 bytes"));
    data.put_slice(name.as_bytes());
    data.put_slice(description.as_bytes());
    encode_option_reply(out, OptionKind::List, ReplyKind::Server, &data);
}

/// Appends a piece of information as a reply to INFO or GO.
pub(crate) fn encode_info(out: &mut BytesMut, option: OptionKind, info: Info<'_>) {
    let mut data = BytesMut::new();
    match info {
        Info::Export { size_bytes, flags } => {
            data.put_u16(INFO_EXPORT);
            data.put_u64(size_bytes);
            data.put_u16(flags.0);
        }
        Info::Name(name) => {
            data.put_u16(INFO_NAME);
            data.put_slice(name.as_bytes());
        }
        Info::Description(text) => {
            data.put_u16(INFO_DESCRIPTION);
            data.put_slice(text.as_bytes());
        }
        Info::BlockSize {
            minimum,
            preferred,
            payload_max,
        } => {
            data.put_u16(INFO_BLOCK_SIZE);
            data.put_u32(minimum);
            data.put_u32(preferred);
            data.put_u32(payload_max);
        }
    }
    encode_option_reply(out, option, ReplyKind::Info, &data);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greeting_is_that_of_fixed_newstyle_with_no_zeroes() {
        let mut out = BytesMut::new();
        encode_greeting(&mut out);
        assert_eq!(&out[..], b"NBDMAGICIHAVEOPT\x00\x03");
    }

    #[test]
    fn client_flags_that_were_not_offered_are_refused() {
        assert_eq!(
            ClientFlags::decode([0, 0, 0, 0]),
            Some(ClientFlags { no_zeroes: false })
        );
        assert_eq!(
            ClientFlags::decode([0, 0, 0, 1]),
            Some(ClientFlags { no_zeroes: false })
        );
        assert_eq!(
            ClientFlags::decode([0, 0, 0, 3]),
            Some(ClientFlags { no_zeroes: true })
        );
        assert_eq!(ClientFlags::decode([0, 0, 0, 4]), None);
        assert_eq!(ClientFlags::decode([0x80, 0, 0, 1]), None);
    }

    #[test]
    fn transmission_flags_are_those_that_nbdkit_and_qemu_show() {
        assert_eq!(TransmissionFlags::new(false, false).0, 0xd6d);
        assert_eq!(TransmissionFlags::new(false, true).0, 0xded);
        assert_eq!(TransmissionFlags::new(true, false).0, 0x50f);
    }

    #[test]
    fn options_are_told_apart_and_a_wrong_magic_is_seen() {
        let option = OptionHeader::decode(b"IHAVEOPT\x00\x00\x00\x07\x00\x00\x01\x00");
        assert_eq!(
            option,
            Some(OptionHeader {
                kind: OptionKind::Go,
                length: 256
            })
        );
        for number in 0..20 {
            assert_eq!(OptionKind::from_number(number).number(), number);
        }
        assert_eq!(
            OptionHeader::decode(b"IHAVEOPS\x00\x00\x00\x07\x00\x00\x01\x00"),
            None
        );
    }

    #[test]
    fn information_requests_are_decoded_to_the_last_byte() {
        let data = b"\x00\x00\x00\x02ab\x00\x02\x00\x03\x00\x63";
        let request = InfoRequest::decode(data).unwrap();
        assert_eq!(request.name, "ab");
        assert_eq!(
            request.wanted,
            Wanted {
                block_size: true,
                ..Wanted::default()
            }
        );
        for cut in 0..data.len() {
            assert_eq!(
                InfoRequest::decode(&data[..cut]),
                Err(BadOption::Truncated),
                "{cut}"
            );
        }
        let longer = b"\x00\x00\x00\x02ab\x00\x00!";
        assert_eq!(InfoRequest::decode(longer), Err(BadOption::TrailingBytes));
        let not_utf8 = b"\x00\x00\x00\x01\xff\x00\x00";
        assert_eq!(InfoRequest::decode(not_utf8), Err(BadOption::NameNotUtf8));
        let huge = b"\xff\xff\xff\xffab\x00\x00";
        assert_eq!(InfoRequest::decode(huge), Err(BadOption::Truncated));
    }

    #[test]
    fn replies_have_the_bytes_of_the_specification() {
        let mut out = BytesMut::new();
        encode_server(&mut out, "a", "bc");
        assert_eq!(
            &out[..],
            b"\x00\x03\xe8\x89\x04\x55\x65\xa9\x00\x00\x00\x03\x00\x00\x00\x02\
              \x00\x00\x00\x07\x00\x00\x00\x01abc"
        );
        out.clear();
        let sizes = Info::BlockSize {
            minimum: 1,
            preferred: 4096,
            payload_max: 1 << 25,
        };
        encode_info(&mut out, OptionKind::Info, sizes);
        assert_eq!(
            &out[8..],
            b"\x00\x00\x00\x06\x00\x00\x00\x03\x00\x00\x00\x0e\
              \x00\x03\x00\x00\x00\x01\x00\x00\x10\x00\x02\x00\x00\x00"
        );
        out.clear();
        encode_option_reply(&mut out, OptionKind::Other(99), ReplyKind::Unsupported, b"");
        assert_eq!(
            &out[8..],
            b"\x00\x00\x00\x63\x80\x00\x00\x01\x00\x00\x00\x00"
        );
        out.clear();
        encode_export_name_reply(&mut out, 4096, TransmissionFlags::new(false, false), false);
        assert_eq!(out.len(), 8 + 2 + 124);
        assert_eq!(&out[..10], b"\x00\x00\x00\x00\x00\x00\x10\x00\x0d\x6d");
    }
}
