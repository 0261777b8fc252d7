//! Requests to bytes and back, and what they cost.

use super::super::codec::{Encoder, Fields};
use super::super::message::{FENCE_QUESTION, MessageError, OPEN, STAMPS, STORE, VALUES};
use super::sectors::{put_extents, put_votes, store_extents, votes};
use super::{Asker, id, put_id};
use crate::domain::{Question, Request};

/// What a request counts against a credit's bytes: the data that it carries or may be answered
/// with, and a flat sum for everything else. Both ends reckon with it.
pub fn cost(request: &Request) -> u64 {
    const FLAT_BYTES: u64 = 256;
    /// A reply has no more data than an operation covers.
    const REPLY_BYTES_MAX: u64 = 1 << 20;
    FLAT_BYTES
        + match &request.question {
            Question::Stamps { .. } | Question::Fence | Question::Open { .. } => 0,
            Question::Values { range, .. } => range.bytes().min(REPLY_BYTES_MAX),
            Question::Store { extents } => extents
                .iter()
                .map(|extent| u64::try_from(extent.data_bytes()).expect("memory is below 2^64"))
                .sum(),
        }
}

/// As [`PeerMessage::encode`](super::PeerMessage::encode), without taking the request apart.
pub fn encode_request(request: &Request, asker: Asker, out: &mut Encoder) {
    out.message(request_code(&request.question), |out| {
        put_id(request.id, asker, out);
        out.fence(request.authority);
        match &request.question {
            Question::Stamps { range } => out.range(*range),
            Question::Values { range, held } => {
                out.range(*range);
                put_votes(held, out);
            }
            Question::Store { extents } => put_extents(extents, out),
            Question::Fence => {}
            Question::Open { continues } => {
                out.option(continues.map(|generation| generation.0));
            }
        }
    });
}

pub(super) fn request(
    code: u8,
    fields: &mut Fields,
    asker: Asker,
) -> Result<Request, MessageError> {
    Ok(Request {
        id: id(fields, asker)?,
        authority: fields.fence()?,
        question: question(code, fields)?,
    })
}

pub(super) fn request_code(question: &Question) -> u8 {
    match question {
        Question::Stamps { .. } => STAMPS,
        Question::Values { .. } => VALUES,
        Question::Store { .. } => STORE,
        Question::Fence => FENCE_QUESTION,
        Question::Open { .. } => OPEN,
    }
}

fn question(code: u8, fields: &mut Fields) -> Result<Question, MessageError> {
    Ok(match code {
        STAMPS => Question::Stamps {
            range: fields.range()?,
        },
        VALUES => {
            let range = fields.range()?;
            let held = votes(fields)?;
            if held.count() != range.count() {
                return Err(MessageError::Malformed("the votes of a question"));
            }
            Question::Values { range, held }
        }
        STORE => Question::Store {
            extents: store_extents(fields)?,
        },
        FENCE_QUESTION => Question::Fence,
        OPEN => Question::Open {
            continues: fields.optional_generation()?,
        },
        _ => return Err(MessageError::Type(code)),
    })
}
