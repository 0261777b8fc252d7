//! Requests: what clients ask.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `61 74 64 64` |
//! | 4 | 3 | padding, zero, ignored on receipt |
//! | 7 | 1 | type: `01` READ, `02` WRITE, and those of `extension` |
//! | 8 | 8 | request number |
//! | 16 | 8 | sector index |
//! | 24 | 0 or 4096 | content of a WRITE |
//! | end | 32 | tag |

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::extension::{
    ATTACH_FIELDS_BYTES, RANGE_FIELDS_BYTES, command, put_attach, put_range, sectors_written,
};
use super::kind::{ClientKind, MAGIC};
use super::tags::ConnectionSession;
use crate::domain::{Attach, SECTOR_SIZE};
use crate::wire::auth::{TAG_BYTES, Tagger, Verified};

const TYPE: usize = MAGIC.len() + 3;
const NUMBER: usize = TYPE + 1;
const SECTOR: usize = NUMBER + 8;
const CONTENT: usize = SECTOR + 8;

/// What is thrown away of a message of unknown type: the magic, the padding and the type.
const UNKNOWN_BYTES: usize = NUMBER;

/// The size of a READ request.
pub const READ_REQUEST_BYTES: usize = CONTENT + TAG_BYTES;

/// The size of a WRITE request.
pub const WRITE_REQUEST_BYTES: usize = CONTENT + SECTOR_SIZE + TAG_BYTES;

const _: () = assert!(READ_REQUEST_BYTES == 56 && WRITE_REQUEST_BYTES == 4152);

/// A request whose tag was right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRequest {
    /// Chosen by the client, echoed in the response.
    pub number: u64,
    /// Index of the sector; whether there is one is not checked yet.
    pub sector: u64,
    /// What to do with it.
    pub command: ClientCommand,
}

/// What a client wants of a sector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCommand {
    /// READ.
    Read,
    /// WRITE of this content, exactly a sector of it.
    Write(Bytes),
    /// ATTACH. It names no sector, as HEARTBEAT, DETACH and HELLO do not.
    Attach {
        /// What is asked for.
        attach: Attach,
        /// What the connection's last HELLO was answered.
        session: ConnectionSession,
    },
    /// READ RANGE: so many sectors.
    ReadRange {
        /// Within the bounds of any.
        count: u32,
    },
    /// WRITE RANGE of this content, whole sectors.
    WriteRange(Bytes),
    /// DISCARD of so many sectors.
    Discard {
        /// Within the bounds of any.
        count: u32,
    },
    /// HEARTBEAT.
    Heartbeat,
    /// DETACH.
    Detach,
    /// HELLO.
    Hello,
}

/// The next thing found in a stream of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded {
    /// An authenticated request.
    Request(ClientRequest),
    /// A message of a request's form with a wrong tag: to be answered with `AuthFailure`.
    WrongTag {
        /// What stands where the number would be.
        number: u64,
        /// Its type.
        kind: ClientKind,
    },
    /// An authenticated request of the extension whose other fields make none.
    Malformed {
        /// Its number.
        number: u64,
        /// Its type.
        kind: ClientKind,
    },
    /// What would be a WRITE RANGE if its count could be one: of no known type, unless the
    /// connection is attached. Nothing was authenticated.
    Unmeasured {
        /// What stands where the number would be.
        number: u64,
    },
}

/// What [`glance`] sees at the start of a stream, in which nothing was authenticated yet.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Glance {
    /// An authenticated request.
    Request,
    /// So many bytes that are no request.
    Garbage(usize),
    /// A message of so many bytes with a wrong tag.
    WrongTag {
        /// What stands where the number would be.
        number: u64,
        /// Its type.
        kind: ClientKind,
        /// The message's size.
        bytes: usize,
    },
    /// The beginning of a request, or nothing.
    Incomplete,
}

impl ClientRequest {
    /// What it asks for.
    pub fn kind(&self) -> ClientKind {
        match self.command {
            ClientCommand::Read => ClientKind::Read,
            ClientCommand::Write(_) => ClientKind::Write,
            ClientCommand::Attach { .. } => ClientKind::Attach,
            ClientCommand::ReadRange { .. } => ClientKind::ReadRange,
            ClientCommand::WriteRange(_) => ClientKind::WriteRange,
            ClientCommand::Discard { .. } => ClientKind::Discard,
            ClientCommand::Heartbeat => ClientKind::Heartbeat,
            ClientCommand::Detach => ClientKind::Detach,
            ClientCommand::Hello => ClientKind::Hello,
        }
    }

    /// Appends the request's bytes.
    ///
    /// # Panics
    /// When the content of a WRITE is not exactly a sector, or that of a WRITE RANGE no whole ones.
    pub fn encode(&self, tagger: &dyn Tagger, out: &mut BytesMut) {
        let start = out.len();
        out.put_slice(&MAGIC);
        out.put_bytes(0, TYPE - MAGIC.len());
        out.put_u8(self.kind().code());
        out.put_u64(self.number);
        out.put_u64(self.sector);
        match &self.command {
            ClientCommand::Read
            | ClientCommand::Heartbeat
            | ClientCommand::Detach
            | ClientCommand::Hello => {}
            ClientCommand::Write(content) => {
                assert_eq!(content.len(), SECTOR_SIZE, "a WRITE carries one sector");
                out.put_slice(content);
            }
            ClientCommand::Attach { attach, session } => put_attach(attach, *session, out),
            ClientCommand::ReadRange { count } | ClientCommand::Discard { count } => {
                put_range(*count, out);
            }
            ClientCommand::WriteRange(content) => {
                let count = content.len() / SECTOR_SIZE;
                assert_eq!(content.len(), count * SECTOR_SIZE, "sectors are whole");
                put_range(u32::try_from(count).expect("far below 2^32"), out);
                out.put_slice(content);
            }
        }
        let tag = tagger.tag(&[&out[start..]]);
        out.put_slice(&tag);
    }
}

/// Takes the next request off the front of `stream`, and whatever garbage is before it; `None`
/// when more bytes are needed. The content of a WRITE is a slice of `stream`, not a copy.
pub fn decode_request(tagger: &dyn Tagger, stream: &mut BytesMut) -> Option<Decoded> {
    loop {
        let (kind, length) = match scan(stream) {
            Scan::Garbage(length) => {
                stream.advance(length);
                continue;
            }
            Scan::Incomplete { .. } => return None,
            Scan::Unmeasured => {
                let number = number_of(stream);
                stream.advance(UNKNOWN_BYTES);
                return Some(Decoded::Unmeasured { number });
            }
            Scan::Message(kind, length) => (kind, length),
        };
        let Ok(verified) = Verified::new(tagger, &stream[..length]) else {
            let number = number_of(&stream[..length]);
            stream.advance(length);
            return Some(Decoded::WrongTag { number, kind });
        };
        let (number, sector) = fields(&verified);
        let command = match kind {
            ClientKind::Read => {
                stream.advance(length);
                Some(ClientCommand::Read)
            }
            ClientKind::Write => {
                let message = stream.split_to(length).freeze();
                let content = message.slice(CONTENT..CONTENT + SECTOR_SIZE);
                Some(ClientCommand::Write(content))
            }
            ClientKind::Attach => {
                let message = stream.split_to(length).freeze();
                let fields = &message[CONTENT..CONTENT + ATTACH_FIELDS_BYTES];
                command(kind, fields, Bytes::new())
            }
            _ => {
                let message = stream.split_to(length).freeze();
                let body = message.slice(CONTENT..length - TAG_BYTES);
                let (fields, content) = body.split_at(body.len().min(RANGE_FIELDS_BYTES));
                command(kind, fields, body.slice_ref(content))
            }
        };
        return Some(match command {
            Some(command) => Decoded::Request(ClientRequest {
                number,
                sector,
                command,
            }),
            None => Decoded::Malformed { number, kind },
        });
    }
}

/// What [`decode_request`] would find next in `stream`, taking nothing; but it knows no WRITE RANGE,
/// whose length it will not believe.
pub fn glance(tagger: &dyn Tagger, stream: &[u8]) -> Glance {
    match scan(stream) {
        Scan::Garbage(length) => Glance::Garbage(length),
        Scan::Unmeasured => Glance::Garbage(UNKNOWN_BYTES),
        _ if kind_at_front(stream) == Some(ClientKind::WriteRange) => {
            Glance::Garbage(UNKNOWN_BYTES)
        }
        Scan::Incomplete { .. } => Glance::Incomplete,
        Scan::Message(kind, bytes) => match Verified::new(tagger, &stream[..bytes]) {
            Ok(_) => Glance::Request,
            Err(_) => Glance::WrongTag {
                number: number_of(stream),
                kind,
                bytes,
            },
        },
    }
}

/// How many bytes the request at the front of `stream` still lacks, so far as can be told.
pub fn bytes_missing(stream: &[u8]) -> usize {
    match scan(stream) {
        Scan::Incomplete { missing } => missing,
        Scan::Garbage(_) | Scan::Unmeasured | Scan::Message(..) => 0,
    }
}

enum Scan {
    /// So many bytes are no request; never 0.
    Garbage(usize),
    /// A whole message of this type and size is there, unauthenticated.
    Message(ClientKind, usize),
    /// The head of a WRITE RANGE is there, with a count that none may have.
    Unmeasured,
    /// At least so many bytes are missing.
    Incomplete { missing: usize },
}

fn scan(stream: &[u8]) -> Scan {
    match before_magic(stream) {
        0 => {}
        garbage => return Scan::Garbage(garbage),
    }
    if stream.len() <= TYPE {
        let missing = NUMBER - stream.len();
        return Scan::Incomplete { missing };
    }
    let Some(kind) = kind_at_front(stream) else {
        return Scan::Garbage(UNKNOWN_BYTES);
    };
    let sector = stream.iter().take(CONTENT).skip(SECTOR);
    if kind.is_without_sector() && sector.clone().any(|&byte| byte != 0) {
        return Scan::Garbage(UNKNOWN_BYTES);
    }
    let body = match kind {
        ClientKind::Read | ClientKind::Heartbeat | ClientKind::Detach | ClientKind::Hello => 0,
        ClientKind::Write => SECTOR_SIZE,
        ClientKind::Attach => ATTACH_FIELDS_BYTES,
        ClientKind::ReadRange | ClientKind::Discard => RANGE_FIELDS_BYTES,
        ClientKind::WriteRange => match stream.get(CONTENT..CONTENT + RANGE_FIELDS_BYTES) {
            None => RANGE_FIELDS_BYTES,
            Some(fields) => match sectors_written(fields) {
                None => return Scan::Unmeasured,
                Some(sectors) => RANGE_FIELDS_BYTES + sectors * SECTOR_SIZE,
            },
        },
    };
    let length = CONTENT + body + TAG_BYTES;
    match length.checked_sub(stream.len()) {
        None | Some(0) => Scan::Message(kind, length),
        Some(missing) => Scan::Incomplete { missing },
    }
}

/// The type of the message that begins with this magic, if it is known.
fn kind_at_front(stream: &[u8]) -> Option<ClientKind> {
    ClientKind::from_code(*stream.get(TYPE)?)
}

/// How many bytes there are before the magic, or before what may become one.
fn before_magic(stream: &[u8]) -> usize {
    let mut from = 0;
    while let Some(found) = stream[from..].iter().position(|&byte| byte == MAGIC[0]) {
        let rest = &stream[from + found..];
        let compared = rest.len().min(MAGIC.len());
        if rest[..compared] == MAGIC[..compared] {
            return from + found;
        }
        from += found + 1;
    }
    stream.len()
}

fn fields(request: &Verified<'_>) -> (u64, u64) {
    let mut rest = &request.bytes()[NUMBER..];
    (rest.get_u64(), rest.get_u64())
}

/// The only field that is looked at without a right tag, since `AuthFailure` has to echo it.
fn number_of(message: &[u8]) -> u64 {
    (&message[NUMBER..]).get_u64()
}

#[cfg(test)]
mod tests;
