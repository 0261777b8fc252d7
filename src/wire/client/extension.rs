//! The extension of the classic protocol: attachments and ranges of sectors, for drivers that
//! cannot speak sessions. What follows is its specification; clients are written by it.
//!
//! All numbers are in network byte order. Messages keep the form of the classic ones: a request
//! begins with the 24 bytes of `request`, a response with the 16 bytes of `response`, and each ends
//! in a tag of 32 bytes.
//!
//! | type | request | size | response |
//! |---|---|---|---|
//! | `80` ATTACH | sector 0, and the fields below | 136 | `c0`, with 96 bytes of content |
//! | `81` READ RANGE | first sector, 4 count, 4 zero | 64 | `c1`, with the sectors if it succeeded |
//! | `82` WRITE RANGE | first sector, 4 count, 4 zero, count * 4096 content | 64 + content | `c2` |
//! | `83` DISCARD | first sector, 4 count, 4 zero | 64 | `c3`; the sectors read as zeroes then |
//! | `84` HEARTBEAT | sector 0 | 56 | `c4` |
//! | `85` DETACH | sector 0 | 56 | `c5`, after everything that was asked before |
//! | `86` HELLO | sector 0 | 56 | `c6`, with a session: 16 bytes that the process has just drawn |
//!
//! A count is 1 to [`DATA_SECTORS_MAX`], that of DISCARD to [`DISCARD_SECTORS_MAX`].
//!
//! An ATTACH after its sector
//!
//! | offset | size | field |
//! |---|---|---|
//! | 24 | 16 | owner: drawn at random, and kept from one connection to the next |
//! | 40 | 1 | kind: `00` exclusive, `01` exclusive to be joined, `02` shared, `03` read-only |
//! | 41 | 1 | flags: `01` to take over, `02` to continue the generation at 48, which is ignored otherwise |
//! | 42 | 6 | zero |
//! | 48 | 8 | the generation that this owner was attached under before |
//! | 56 | 32 | join key; zero unless the kind is `01` |
//! | 88 | 16 | session: what the last HELLO of this connection was answered |
//! | 104 | 32 | tag |
//!
//! The content of its response, whatever the status, but for `AuthFailure`, which is bare
//!
//! | offset | size | field |
//! |---|---|---|
//! | 16 | 8 | generation: the attachment's, or that of the holder or of whoever came in between |
//! | 24 | 8 | sectors of the disk |
//! | 32 | 4 | the most sectors of a READ RANGE or WRITE RANGE |
//! | 36 | 4 | the most sectors of a DISCARD |
//! | 40 | 4 | milliseconds after which the client, if it sent nothing else, sends a HEARTBEAT |
//! | 44 | 1 | process: the holder's, the one to attach at, or the one that answers |
//! | 45 | 3 | zero |
//! | 48 | 64 | where the holder's client is, in UTF-8, zeroes after it; all zero if nobody holds it |
//! | 112 | 32 | tag |
//!
//! # Connections
//! A client says HELLO and then attaches, by an ATTACH that names the session. Each of them is good
//! for one ATTACH, on its connection, within 3 s; any other is `Invalid`, so that nobody attaches by
//! one that was recorded or held back. A process of the classic protocol alone skips a HELLO: that a
//! READ behind it is answered and it is not tells them apart.
//!
//! All of that has the tags of the classic protocol. From the `Ok` of an ATTACH on, those of that
//! connection are the ones of `tags` for its session, so that a process accepts nothing that was
//! recorded elsewhere. Nor does a client that draws the number of its HELLO at random, goes on from
//! there, and sees that it is answered under those. Until an ATTACH is answered, nothing should follow
//! it, and what does is not looked at.
//!
//! - The numbers of requests that follow rise: each is higher than the one before. One that does not,
//!   or a wrong tag, ends the connection, and is not answered.
//! - READ and WRITE run under the attachment too.
//! - When the attachment is ended by another or by an operator, what is under way is answered by
//!   `Fenced`, and the connection is closed. What a client did not get answered may have been done, or
//!   may still be done under the generation that it was asked under: it is asked again only under a
//!   later one.
//! - The attachment ends with the connection, however that ends, or when nothing has come for several
//!   times as long as the response to the ATTACH says.
//! - After DETACH everything but a HEARTBEAT is answered by `NotAttached`.
//! - A refused ATTACH leaves the connection as it was: there may be another HELLO, and another ATTACH.
//!   After an `Ok` both are `Invalid`.
//!
//! # What is no request
//! The rules of the classic protocol stand. As a type counts the whole of what is fixed: an ATTACH,
//! HEARTBEAT, DETACH or HELLO that names a sector is of no known type, nor is a WRITE RANGE of a count that
//! none may have; but when attached that ends the connection, without an answer. A connection of which nothing was
//! authenticated knows no WRITE RANGE, which would make it keep a mebibyte for anyone.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::kind::ClientKind;
use super::request::ClientCommand;
use super::status::ClientStatus;
use super::tags::{ConnectionSession, SESSION_BYTES};
use crate::domain::{
    Attach, AttachKind, CLIENT_NAME_BYTES_MAX, Generation, JoinKey, OwnerId, Rank, SECTOR_SIZE,
};
use crate::wire::auth::TAG_BYTES;
use crate::wire::client_session::{DATA_SECTORS_MAX, DISCARD_SECTORS_MAX};

/// Bytes of a request before the fields of the extension.
const HEAD: usize = 24;

const KIND: usize = 16;
const FLAGS: usize = KIND + 1;
const ZERO: usize = FLAGS + 1;
const CONTINUES: usize = ZERO + 6;
const JOIN: usize = CONTINUES + 8;
const IN: usize = JOIN + 32;
/// What an ATTACH has besides the head and the tag.
pub(super) const ATTACH_FIELDS_BYTES: usize = IN + SESSION_BYTES;

/// Count and zero.
pub(super) const RANGE_FIELDS_BYTES: usize = 8;

const _: () = assert!(HEAD + ATTACH_FIELDS_BYTES + TAG_BYTES == 136);
const _: () = assert!(HEAD + RANGE_FIELDS_BYTES + TAG_BYTES == 64);

const TAKE_OVER: u8 = 1;
const CONTINUING: u8 = 2;

/// The size of an ATTACH's answer, without head and tag.
pub(super) const ATTACH_ANSWER_BYTES: usize = NAME + NAME_BYTES;

const SECTORS: usize = 8;
const DATA_MAX: usize = SECTORS + 8;
const DISCARD_MAX: usize = DATA_MAX + 4;
const HEARTBEAT: usize = DISCARD_MAX + 4;
const PROCESS: usize = HEARTBEAT + 4;
const RESERVED: usize = PROCESS + 1;
const NAME: usize = RESERVED + 3;
const NAME_BYTES: usize = 64;
const _: () = assert!(ATTACH_ANSWER_BYTES == 96);
const _: () = assert!(CLIENT_NAME_BYTES_MAX <= NAME_BYTES);

/// What an ATTACH is answered besides the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttachAnswer {
    /// The attachment's, the holder's, or that of whoever came in between; otherwise 0.
    pub generation: Generation,
    /// How many sectors the disk has.
    pub sectors: u64,
    /// The most sectors of a READ RANGE or WRITE RANGE.
    pub data_sectors_max: u32,
    /// The most sectors of a DISCARD.
    pub discard_sectors_max: u32,
    /// How long the client may send nothing before it sends a HEARTBEAT.
    pub heartbeat_ms: u32,
    /// The holder's, the one to attach at, or the one that answers.
    pub process: Rank,
    /// Where the holder's client is, at most 64 bytes of it; empty if nobody holds the disk.
    pub holder: String,
}

impl AttachAnswer {
    /// The content of the response.
    ///
    /// # Panics
    /// When the holder's name is too long.
    pub fn encode(&self) -> Bytes {
        let mut out = BytesMut::with_capacity(ATTACH_ANSWER_BYTES);
        out.put_u64(self.generation.0);
        out.put_u64(self.sectors);
        out.put_u32(self.data_sectors_max);
        out.put_u32(self.discard_sectors_max);
        out.put_u32(self.heartbeat_ms);
        out.put_u8(self.process.number());
        out.put_bytes(0, NAME - RESERVED);
        let name = self.holder.as_bytes();
        assert!(name.len() <= NAME_BYTES, "names of clients are bounded");
        out.put_slice(name);
        out.put_bytes(0, NAME_BYTES - name.len());
        out.freeze()
    }

    /// The answer of a response's content, or `None` when it is none's.
    pub fn decode(content: &[u8]) -> Option<Self> {
        let content: &[u8; ATTACH_ANSWER_BYTES] = content.try_into().ok()?;
        let mut fields = &content[..];
        let generation = Generation::new(fields.get_u64())?;
        let sectors = fields.get_u64();
        let (data_sectors_max, discard_sectors_max) = (fields.get_u32(), fields.get_u32());
        let heartbeat_ms = fields.get_u32();
        let process = Rank::new(content[PROCESS])?;
        let name = &content[NAME..];
        let end = name.iter().position(|&byte| byte == 0);
        let (name, rest) = name.split_at(end.unwrap_or(NAME_BYTES));
        if !is_zero(&content[RESERVED..NAME]) || !is_zero(rest) {
            return None;
        }
        Some(Self {
            generation,
            sectors,
            data_sectors_max,
            discard_sectors_max,
            heartbeat_ms,
            process,
            holder: String::from_utf8(name.to_vec()).ok()?,
        })
    }
}

/// How many bytes of content a response has, if `sectors` are those that were asked for.
pub(super) const fn content_bytes(
    kind: ClientKind,
    status: ClientStatus,
    sectors: Option<u32>,
) -> Option<usize> {
    match (kind, status) {
        (ClientKind::Attach, ClientStatus::AuthFailure) => Some(0),
        (ClientKind::Attach, _) => Some(ATTACH_ANSWER_BYTES),
        (ClientKind::Hello, ClientStatus::Ok) => Some(SESSION_BYTES),
        (ClientKind::Read, ClientStatus::Ok) => Some(SECTOR_SIZE),
        (ClientKind::ReadRange, ClientStatus::Ok) => match sectors {
            Some(count) if count > 0 && count <= DATA_SECTORS_MAX => {
                Some(count as usize * SECTOR_SIZE)
            }
            _ => None,
        },
        _ => Some(0),
    }
}

/// The sectors that a WRITE RANGE has by these fields, if any may.
pub(super) fn sectors_written(mut fields: &[u8]) -> Option<usize> {
    let count = fields.get_u32();
    let count = (1..=DATA_SECTORS_MAX).contains(&count).then_some(count)?;
    Some(usize::try_from(count).expect("far below 4 GiB"))
}

pub(super) fn put_range(count: u32, out: &mut BytesMut) {
    out.put_u32(count);
    out.put_u32(0);
}

pub(super) fn put_attach(attach: &Attach, session: ConnectionSession, out: &mut BytesMut) {
    let (kind, join) = match attach.kind {
        AttachKind::Exclusive { join: None } => (0, None),
        AttachKind::Exclusive { join: Some(join) } => (1, Some(join)),
        AttachKind::Shared => (2, None),
        AttachKind::ReadOnly => (3, None),
    };
    let take_over = if attach.take_over { TAKE_OVER } else { 0 };
    let continuing = attach.continues.map_or(0, |_| CONTINUING);
    out.put_slice(&attach.owner.0);
    out.put_u8(kind);
    out.put_u8(take_over | continuing);
    out.put_bytes(0, CONTINUES - ZERO);
    out.put_u64(attach.continues.map_or(0, |generation| generation.0));
    out.put_slice(&join.map_or([0; 32], |join| join.0));
    out.put_slice(&session.0);
}

/// The command of the extension that these authenticated fields and content are, if they are well
/// formed.
pub(super) fn command(kind: ClientKind, fields: &[u8], content: Bytes) -> Option<ClientCommand> {
    match kind {
        ClientKind::Read | ClientKind::Write => None,
        ClientKind::Attach => {
            let (fields, session) = fields.split_at_checked(IN)?;
            Some(ClientCommand::Attach {
                attach: attach(fields)?,
                session: ConnectionSession(session.try_into().ok()?),
            })
        }
        ClientKind::ReadRange => {
            let count = range(fields, DATA_SECTORS_MAX)?;
            Some(ClientCommand::ReadRange { count })
        }
        ClientKind::WriteRange => {
            range(fields, DATA_SECTORS_MAX)?;
            Some(ClientCommand::WriteRange(content))
        }
        ClientKind::Discard => {
            let count = range(fields, DISCARD_SECTORS_MAX)?;
            Some(ClientCommand::Discard { count })
        }
        ClientKind::Heartbeat => Some(ClientCommand::Heartbeat),
        ClientKind::Detach => Some(ClientCommand::Detach),
        ClientKind::Hello => Some(ClientCommand::Hello),
    }
}

fn range(mut fields: &[u8], most: u32) -> Option<u32> {
    let count = fields.get_u32();
    let is_whole = (1..=most).contains(&count) && fields.get_u32() == 0;
    is_whole.then_some(count)
}

fn attach(fields: &[u8]) -> Option<Attach> {
    let fields: &[u8; IN] = fields.try_into().ok()?;
    let owner = OwnerId(fields[..KIND].try_into().ok()?);
    let join: [u8; 32] = fields[JOIN..].try_into().ok()?;
    let kind = match fields[KIND] {
        1 => {
            let join = Some(JoinKey(join));
            AttachKind::Exclusive { join }
        }
        _ if !is_zero(&join) => return None,
        0 => AttachKind::Exclusive { join: None },
        2 => AttachKind::Shared,
        3 => AttachKind::ReadOnly,
        _ => return None,
    };
    let flags = fields[FLAGS];
    if flags & !(TAKE_OVER | CONTINUING) != 0 || !is_zero(&fields[ZERO..CONTINUES]) {
        return None;
    }
    let continues = if flags & CONTINUING == 0 {
        None
    } else {
        Some(Generation::new((&fields[CONTINUES..JOIN]).get_u64())?)
    };
    Some(Attach {
        owner,
        kind,
        take_over: flags & TAKE_OVER != 0,
        continues,
    })
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == 0)
}

#[cfg(test)]
mod tests;
