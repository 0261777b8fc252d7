//! Holders and kinds of attachments, as peers and clients are told of them.
//!
//! A kind: 1 kind (`00` exclusive, `01` exclusive with a join key that follows, `02` shared, `03`
//! read-only), and 0 or 32 join key.
//!
//! A holder: 1 process, 16 owner, its kind, 8 generation, 1 length of the client's name, 0 to 64
//! that many bytes of UTF-8, 8 seconds since 1970.

use super::codec::{Encoder, Fields};
use super::message::MessageError;
use crate::domain::{AttachKind, CLIENT_NAME_BYTES_MAX, Holder, JoinKey, OwnerId};

const KIND_EXCLUSIVE: u8 = 0;
const KIND_JOINED: u8 = 1;
const KIND_SHARED: u8 = 2;
const KIND_READ_ONLY: u8 = 3;

/// The fewest bytes that a holder takes.
pub(super) const HOLDER_BYTES_MIN: usize = 1 + 16 + 1 + 8 + 1 + 8;

/// Appends a holder.
///
/// # Panics
/// When its client's name is longer than any may be.
pub(super) fn put_holder(holder: &Holder, out: &mut Encoder) {
    let name = holder.client.as_bytes();
    assert!(
        name.len() <= CLIENT_NAME_BYTES_MAX,
        "a client's name is bounded"
    );
    out.u8(holder.process.number());
    out.slice(&holder.owner.0);
    put_kind(holder.kind, out);
    out.u64(holder.generation.0);
    out.u8(u8::try_from(name.len()).expect("a client's name is short"));
    out.slice(name);
    out.u64(holder.since);
}

pub(super) fn holder(fields: &mut Fields) -> Result<Holder, MessageError> {
    Ok(Holder {
        process: fields.rank()?,
        owner: OwnerId(fields.array()?),
        kind: kind(fields)?,
        generation: fields.generation()?,
        client: name(fields)?,
        since: fields.u64()?,
    })
}

/// Appends a kind.
pub(super) fn put_kind(kind: AttachKind, out: &mut Encoder) {
    match kind {
        AttachKind::Exclusive { join: None } => out.u8(KIND_EXCLUSIVE),
        AttachKind::Exclusive { join: Some(key) } => {
            out.u8(KIND_JOINED);
            out.slice(&key.0);
        }
        AttachKind::Shared => out.u8(KIND_SHARED),
        AttachKind::ReadOnly => out.u8(KIND_READ_ONLY),
    }
}

pub(super) fn kind(fields: &mut Fields) -> Result<AttachKind, MessageError> {
    Ok(match fields.u8()? {
        KIND_EXCLUSIVE => AttachKind::Exclusive { join: None },
        KIND_JOINED => AttachKind::Exclusive {
            join: Some(JoinKey(fields.array()?)),
        },
        KIND_SHARED => AttachKind::Shared,
        KIND_READ_ONLY => AttachKind::ReadOnly,
        _ => return Err(MessageError::Malformed("a kind of attachment")),
    })
}

fn name(fields: &mut Fields) -> Result<String, MessageError> {
    const FAULT: MessageError = MessageError::Malformed("a client's name");
    let length = usize::from(fields.u8()?);
    if length > CLIENT_NAME_BYTES_MAX {
        return Err(FAULT);
    }
    let bytes = fields.value(u64::try_from(length).expect("a name is short"))?;
    String::from_utf8(bytes.into()).map_err(|_| FAULT)
}
