//! Answers to clients to bytes and back.

use bytes::Bytes;

use super::super::codec::{Encoder, Fields};
use super::super::holder::{holder, put_holder};
use super::super::message::{
    ATTACH_REFUSED, ATTACHED, ATTACHMENTS, DETACHED, DONE, FAILED, FENCED, HEARTBEAT, MessageError,
    RELEASED, SECTORS, STATUS,
};
use super::super::peer::Credit;
use super::{DATA_SECTORS_MAX, RequestNumber, STATUS_BYTES_MAX, SectorValues, SessionAnswer};
use crate::domain::{
    AttachKind, AttachRefusal, Generation, Holder, OperationError, SECTOR_SIZE, SECTOR_SIZE_U64,
};

const HELD: u8 = 0;
const REFUSED_FENCED: u8 = 1;
const ELSEWHERE: u8 = 2;
const CONTENDED: u8 = 3;
const REFUSED_SHUTTING_DOWN: u8 = 4;

const UNREADABLE: u8 = 0;
const PAST_END: u8 = 1;
const READ_ONLY: u8 = 2;
const FAILED_FENCED: u8 = 3;
const TIMED_OUT: u8 = 4;
const FAILED_SHUTTING_DOWN: u8 = 5;

const PART_ZEROES: u8 = 0;
const PART_DATA: u8 = 1;
const PART_BYTES_MIN: usize = 1 + 4;

impl SessionAnswer {
    /// Appends the answer.
    ///
    /// # Panics
    /// When JSON is longer than [`STATUS_BYTES_MAX`], or values are of no or too many sectors.
    pub fn encode(&self, out: &mut Encoder) {
        match self {
            Self::Heartbeat => out.message(HEARTBEAT, |_| ()),
            Self::Status(json) => put_json(STATUS, json, out),
            Self::Attachments(json) => put_json(ATTACHMENTS, json, out),
            Self::Released(released) => out.message(RELEASED, |out| out.flag(*released)),
            Self::Attached {
                fence,
                sectors,
                credit,
            } => out.message(ATTACHED, |out| {
                out.fence(*fence);
                out.u64(*sectors);
                out.u32(credit.requests);
                out.u64(credit.bytes);
            }),
            Self::AttachRefused(refusal) => {
                out.message(ATTACH_REFUSED, |out| put_refusal(refusal, out));
            }
            Self::Detached => out.message(DETACHED, |_| ()),
            Self::Values { number, values } => out.message(SECTORS, |out| {
                out.u64(number.0);
                put_values(values, out);
            }),
            Self::Done { number } => out.message(DONE, |out| out.u64(number.0)),
            Self::Failed { number, error } => out.message(FAILED, |out| {
                out.u64(number.0);
                put_error(error, out);
            }),
            Self::Fenced { by } => out.message(FENCED, |out| out.fence(*by)),
        }
    }

    /// The answer of these bytes, type and fields. Data are slices of them.
    pub fn decode(message: Bytes) -> Result<Self, MessageError> {
        let mut fields = Fields::new(message);
        let answer = match fields.u8()? {
            HEARTBEAT => Self::Heartbeat,
            STATUS => Self::Status(json(&mut fields)?),
            ATTACHMENTS => Self::Attachments(json(&mut fields)?),
            RELEASED => Self::Released(fields.flag()?),
            ATTACHED => Self::Attached {
                fence: fields.fence()?,
                sectors: fields.u64()?,
                credit: Credit {
                    requests: fields.u32()?,
                    bytes: fields.u64()?,
                },
            },
            ATTACH_REFUSED => Self::AttachRefused(refusal(&mut fields)?),
            DETACHED => Self::Detached,
            SECTORS => Self::Values {
                number: number(&mut fields)?,
                values: values(&mut fields)?,
            },
            DONE => Self::Done {
                number: number(&mut fields)?,
            },
            FAILED => Self::Failed {
                number: number(&mut fields)?,
                error: error(&mut fields)?,
            },
            FENCED => Self::Fenced {
                by: fields.fence()?,
            },
            other => return Err(MessageError::Type(other)),
        };
        fields.end()?;
        Ok(answer)
    }
}

fn put_json(code: u8, json: &Bytes, out: &mut Encoder) {
    assert!(json.len() <= STATUS_BYTES_MAX, "a status is bounded");
    out.message(code, |out| out.value(json));
}

fn json(fields: &mut Fields) -> Result<Bytes, MessageError> {
    let json = fields.rest();
    if json.len() > STATUS_BYTES_MAX {
        return Err(MessageError::Long);
    }
    Ok(json)
}

fn put_refusal(refusal: &AttachRefusal, out: &mut Encoder) {
    match refusal {
        AttachRefusal::Held(holder) => {
            out.u8(HELD);
            put_holder(&for_strangers(holder), out);
        }
        AttachRefusal::Fenced { by } => {
            out.u8(REFUSED_FENCED);
            out.u64(by.0);
        }
        AttachRefusal::Elsewhere { process } => {
            out.u8(ELSEWHERE);
            out.u8(process.number());
        }
        AttachRefusal::Contended => out.u8(CONTENDED),
        AttachRefusal::ShuttingDown => out.u8(REFUSED_SHUTTING_DOWN),
    }
}

fn refusal(fields: &mut Fields) -> Result<AttachRefusal, MessageError> {
    Ok(match fields.u8()? {
        HELD => {
            let holder = holder(fields)?;
            if holder != for_strangers(&holder) {
                return Err(MessageError::Malformed("a holder"));
            }
            AttachRefusal::Held(Box::new(holder))
        }
        REFUSED_FENCED => AttachRefusal::Fenced {
            by: generation(fields)?,
        },
        ELSEWHERE => AttachRefusal::Elsewhere {
            process: fields.rank()?,
        },
        CONTENDED => AttachRefusal::Contended,
        REFUSED_SHUTTING_DOWN => AttachRefusal::ShuttingDown,
        _ => return Err(MessageError::Malformed("a refusal")),
    })
}

/// The holder as anybody may know it: without the key that would let him join.
fn for_strangers(holder: &Holder) -> Holder {
    let kind = match holder.kind {
        AttachKind::Exclusive { .. } => AttachKind::Exclusive { join: None },
        kind @ (AttachKind::Shared | AttachKind::ReadOnly) => kind,
    };
    Holder {
        kind,
        ..holder.clone()
    }
}

fn put_error(error: &OperationError, out: &mut Encoder) {
    match error {
        OperationError::Unreadable => out.u8(UNREADABLE),
        OperationError::PastEnd { sectors } => {
            out.u8(PAST_END);
            out.u64(*sectors);
        }
        OperationError::ReadOnly => out.u8(READ_ONLY),
        OperationError::Fenced { by } => {
            out.u8(FAILED_FENCED);
            out.fence(*by);
        }
        OperationError::TimedOut => out.u8(TIMED_OUT),
        OperationError::ShuttingDown => out.u8(FAILED_SHUTTING_DOWN),
    }
}

fn error(fields: &mut Fields) -> Result<OperationError, MessageError> {
    Ok(match fields.u8()? {
        UNREADABLE => OperationError::Unreadable,
        PAST_END => OperationError::PastEnd {
            sectors: fields.u64()?,
        },
        READ_ONLY => OperationError::ReadOnly,
        FAILED_FENCED => OperationError::Fenced {
            by: fields.fence()?,
        },
        TIMED_OUT => OperationError::TimedOut,
        FAILED_SHUTTING_DOWN => OperationError::ShuttingDown,
        _ => return Err(MessageError::Malformed("a failure")),
    })
}

fn put_values(values: &[SectorValues], out: &mut Encoder) {
    let mut sectors = 0;
    out.count(values.len());
    for part in values {
        let count = match part {
            SectorValues::Zeroes(count) => {
                out.u8(PART_ZEROES);
                out.u32(*count);
                *count
            }
            SectorValues::Data(data) => {
                assert!(
                    data.len().is_multiple_of(SECTOR_SIZE),
                    "values are whole sectors"
                );
                let count = u32::try_from(data.len() / SECTOR_SIZE).expect("an answer is bounded");
                out.u8(PART_DATA);
                out.u32(count);
                out.value(data);
                count
            }
        };
        assert!(count > 0, "no part is empty");
        sectors += count;
    }
    assert!(
        (1..=DATA_SECTORS_MAX).contains(&sectors),
        "values are of as many sectors as a read"
    );
}

fn values(fields: &mut Fields) -> Result<Vec<SectorValues>, MessageError> {
    const FAULT: MessageError = MessageError::Malformed("the values of a read");
    let parts = fields.count(PART_BYTES_MIN)?;
    let mut room = DATA_SECTORS_MAX;
    let mut values = Vec::new();
    for _ in 0..parts {
        let kind = fields.u8()?;
        let count = fields.u32()?;
        // Every part has a sector, so that there are never more parts than a read has sectors.
        if count == 0 || count > room {
            return Err(FAULT);
        }
        room -= count;
        values.push(match kind {
            PART_ZEROES => SectorValues::Zeroes(count),
            PART_DATA => SectorValues::Data(fields.value(u64::from(count) * SECTOR_SIZE_U64)?),
            _ => return Err(FAULT),
        });
    }
    if values.is_empty() {
        return Err(FAULT);
    }
    Ok(values)
}

fn number(fields: &mut Fields) -> Result<RequestNumber, MessageError> {
    Ok(RequestNumber(fields.u64()?))
}

fn generation(fields: &mut Fields) -> Result<Generation, MessageError> {
    fields.generation()
}
