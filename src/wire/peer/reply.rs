//! Replies to bytes and back.

use super::super::codec::{Encoder, Fields};
use super::super::holder::{HOLDER_BYTES_MIN, holder, put_holder};
use super::super::message::{FENCE, HELD, MessageError, OPENED, REFUSED, STORED};
use super::sectors::{held_extents, put_extents, put_votes, votes};
use super::{Asker, id, put_id};
use crate::domain::{Answer, Held, Reply};

/// As [`PeerMessage::encode`](super::PeerMessage::encode), without taking the reply apart.
pub fn encode_reply(reply: &Reply, asker: Asker, out: &mut Encoder) {
    out.message(reply_code(&reply.answer), |out| {
        put_id(reply.id, asker, out);
        match &reply.answer {
            Answer::Held(held) => {
                put_votes(&held.votes, out);
                put_extents(&held.values, out);
            }
            Answer::Stored | Answer::Opened => {}
            Answer::Fence { fence, holders } => {
                out.fence(*fence);
                out.count(holders.len());
                for holder in holders {
                    put_holder(holder, out);
                }
            }
            Answer::Refused { fence } => out.fence(*fence),
        }
    });
}

pub(super) fn reply(code: u8, fields: &mut Fields, asker: Asker) -> Result<Reply, MessageError> {
    Ok(Reply {
        id: id(fields, asker)?,
        answer: answer(code, fields)?,
    })
}

pub(super) fn reply_code(answer: &Answer) -> u8 {
    match answer {
        Answer::Held(_) => HELD,
        Answer::Stored => STORED,
        Answer::Fence { .. } => FENCE,
        Answer::Opened => OPENED,
        Answer::Refused { .. } => REFUSED,
    }
}

fn answer(code: u8, fields: &mut Fields) -> Result<Answer, MessageError> {
    Ok(match code {
        HELD => Answer::Held(Held {
            votes: votes(fields)?,
            values: held_extents(fields)?,
        }),
        STORED => Answer::Stored,
        FENCE => {
            let fence = fields.fence()?;
            let holders = fields.count(HOLDER_BYTES_MIN)?;
            let holders = (0..holders)
                .map(|_| holder(fields))
                .collect::<Result<_, _>>()?;
            Answer::Fence { fence, holders }
        }
        OPENED => Answer::Opened,
        REFUSED => Answer::Refused {
            fence: fields.fence()?,
        },
        _ => return Err(MessageError::Type(code)),
    })
}
