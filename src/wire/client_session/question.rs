//! Questions of clients to bytes and back.

use bytes::Bytes;

use super::super::codec::{Encoder, Fields};
use super::super::holder::{kind, put_kind};
use super::super::message::{
    ATTACH, ATTACHMENTS_QUESTION, DETACH, DISCARD, FLUSH, HEARTBEAT, MessageError, READ, RELEASE,
    STATUS_QUESTION, WRITE,
};
use super::{DATA_SECTORS_MAX, DISCARD_SECTORS_MAX, RequestNumber, SessionQuestion};
use crate::domain::{Attach, OwnerId, SECTOR_SIZE};

/// The only volume that there is.
const VOLUME: u16 = 0;

impl SessionQuestion {
    /// Appends the question.
    ///
    /// # Panics
    /// When it is about more sectors than a question may be about, or about none.
    pub fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Heartbeat => out.message(HEARTBEAT, |_| ()),
            Self::Status => out.message(STATUS_QUESTION, |_| ()),
            Self::Attachments => out.message(ATTACHMENTS_QUESTION, |_| ()),
            Self::Release { owner } => out.message(RELEASE, |out| out.slice(&owner.0)),
            Self::Attach(attach) => out.message(ATTACH, |out| put_attach(attach, out)),
            Self::Detach => out.message(DETACH, |_| ()),
            Self::Read {
                number,
                first,
                count,
            } => {
                assert!(within(*count, DATA_SECTORS_MAX), "a read is bounded");
                out.message(READ, |out| put_sectors(*number, *first, *count, out));
            }
            Self::Write {
                number,
                first,
                data,
            } => {
                assert!(whole_sectors(data), "a write is of whole sectors");
                out.message(WRITE, |out| {
                    out.u64(number.0);
                    out.u64(*first);
                    out.value(data);
                });
            }
            Self::Discard {
                number,
                first,
                count,
            } => {
                assert!(within(*count, DISCARD_SECTORS_MAX), "a discard is bounded");
                out.message(DISCARD, |out| put_sectors(*number, *first, *count, out));
            }
            Self::Flush { number } => out.message(FLUSH, |out| out.u64(number.0)),
        }
    }

    /// The question of these bytes, type and fields. Data are a slice of them.
    pub fn decode(message: Bytes) -> Result<Self, MessageError> {
        let mut fields = Fields::new(message);
        let question = match fields.u8()? {
            HEARTBEAT => Self::Heartbeat,
            STATUS_QUESTION => Self::Status,
            ATTACHMENTS_QUESTION => Self::Attachments,
            RELEASE => Self::Release {
                owner: OwnerId(fields.array()?),
            },
            ATTACH => Self::Attach(attach(&mut fields)?),
            DETACH => Self::Detach,
            READ => Self::Read {
                number: number(&mut fields)?,
                first: fields.u64()?,
                count: count(&mut fields, DATA_SECTORS_MAX)?,
            },
            WRITE => Self::Write {
                number: number(&mut fields)?,
                first: fields.u64()?,
                data: data(&mut fields)?,
            },
            DISCARD => Self::Discard {
                number: number(&mut fields)?,
                first: fields.u64()?,
                count: count(&mut fields, DISCARD_SECTORS_MAX)?,
            },
            FLUSH => Self::Flush {
                number: number(&mut fields)?,
            },
            other => return Err(MessageError::Type(other)),
        };
        fields.end()?;
        Ok(question)
    }
}

fn put_attach(attach: &Attach, out: &mut Encoder) {
    out.u16(VOLUME);
    out.slice(&attach.owner.0);
    put_kind(attach.kind, out);
    out.flag(attach.take_over);
    out.option(attach.continues.map(|generation| generation.0));
}

fn attach(fields: &mut Fields) -> Result<Attach, MessageError> {
    match fields.u16()? {
        VOLUME => {}
        other => return Err(MessageError::Volume(other)),
    }
    Ok(Attach {
        owner: OwnerId(fields.array()?),
        kind: kind(fields)?,
        take_over: fields.flag()?,
        continues: fields.optional_generation()?,
    })
}

fn put_sectors(number: RequestNumber, first: u64, count: u32, out: &mut Encoder) {
    out.u64(number.0);
    out.u64(first);
    out.u32(count);
}

fn number(fields: &mut Fields) -> Result<RequestNumber, MessageError> {
    Ok(RequestNumber(fields.u64()?))
}

fn count(fields: &mut Fields, most: u32) -> Result<u32, MessageError> {
    let count = fields.u32()?;
    if within(count, most) {
        Ok(count)
    } else {
        Err(MessageError::Malformed("a number of sectors"))
    }
}

fn data(fields: &mut Fields) -> Result<Bytes, MessageError> {
    let data = fields.rest();
    if whole_sectors(&data) {
        Ok(data)
    } else {
        Err(MessageError::Malformed("the data of a write"))
    }
}

fn within(count: u32, most: u32) -> bool {
    (1..=most).contains(&count)
}

fn whole_sectors(data: &Bytes) -> bool {
    let sectors = u32::try_from(data.len() / SECTOR_SIZE);
    data.len().is_multiple_of(SECTOR_SIZE)
        && sectors.is_ok_and(|sectors| within(sectors, DATA_SECTORS_MAX))
}
