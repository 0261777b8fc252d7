//! The messages of sessions between processes: the register's questions and answers.
//!
//! The connector asks and the listener answers, so every operation on a session is the
//! connector's: its identifier goes without rank and incarnation, and no process can speak in
//! another's name.
//!
//! Introduction
//!
//! | size | field |
//! |---|---|
//! | 16 | identity of the sender's store |
//! | 1 | `01` if the store has never held anything, else `00` |
//! | 4, 8 | credit: requests, bytes (of no meaning from the connector) |
//! | 2 | processes of the recorded birth, 0 while there is none |
//! | each 1, 16 | `01` and a store's identity, or `00` and zeroes for one that was not met |
//! | 2 | holders that the sender runs, at most 16, and that many of them, as in `holder` |
//!
//! Requests: stamps?, values?, store, fence?, open
//!
//! | size | field |
//! |---|---|
//! | 1, 8, 1 | identifier: shard, sequence, round |
//! | 38 | authority: a fence |
//! | 8, 4 | stamps?, values?: the range's first sector, its count |
//! | 2 | values?: runs of votes, and that many of them |
//! | 2 | store: extents, and that many of them |
//! | 1, 0 or 8 | open: `01` and the generation that is continued, or `00` |
//!
//! Replies: held, stored, declined, fence, opened, refused
//!
//! | size | field |
//! |---|---|
//! | 1, 8, 1 | identifier of the request |
//! | 2 | held: runs of votes, and that many of them |
//! | 2 | held: extents, and that many of them |
//! | 38 | fence, refused: a fence |
//! | 2 | fence: holders, and that many of them, as in `holder` |
//!
//! A run of votes: 4 count, 1 vote (`00` lost, `01` the zero stamp, `02` a stamp that follows), and
//! 0 or 29 stamp. Neighbouring runs differ.
//!
//! An extent: 8 first sector, 4 count, 29 stamp, 1 content (`00` zeroes, `01` data that follow, `02`
//! unchanged), and 0 or count * 4096 data. Extents ascend and do not overlap. *Unchanged* is in
//! stores alone, and its stamp is a settled generation above 0 and nothing else.
//!
//! A stamp that names no writer has nothing but a settled generation: it is that of sectors that
//! were settled and never written, which hold zeroes.

mod introduction;
mod reply;
mod request;
mod sectors;

use introduction::{introduction, put_introduction};
pub use reply::encode_reply;
use reply::{reply, reply_code};
pub use request::{cost, encode_request};
use request::{request, request_code};

use super::codec::{Encoder, Fields};
use super::message::{
    DECLINED, FENCE, FENCE_QUESTION, HEARTBEAT, HELD, INTRODUCTION, MessageError, OPEN, OPENED,
    REFUSED, STAMPS, STORE, STORED, VALUES,
};
use crate::domain::{
    Birth, Holder, Incarnation, OperationId, Rank, Reply, Request, RequestId, StoreId,
};

/// What a process tells its peers of its store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Introduction {
    /// Its store's identity.
    pub store: StoreId,
    /// The birth that it has recorded, if it has.
    pub birth: Option<Birth>,
    /// Whether its store has never held anything.
    pub empty: bool,
    /// The attachments that this process runs and that hold a volume: the oldest
    /// [`HOLDERS_MAX`] of them.
    pub holders: Vec<Holder>,
}

/// The most holders that an introduction names.
pub const HOLDERS_MAX: usize = 16;

/// What a process lets a peer have under way here at once.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Credit {
    /// How many requests.
    pub requests: u32,
    /// How many bytes they and their replies carry, by [`cost`].
    pub bytes: u64,
}

/// The process that asks on a session: its connector.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Asker {
    /// Its rank.
    pub rank: Rank,
    /// Its incarnation.
    pub incarnation: Incarnation,
}

/// A message of a session between processes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerMessage {
    /// Says only that its sender lives.
    Heartbeat,
    /// The first message each way, and again whenever there is news.
    Introduction {
        /// What there is to know of the sender.
        introduction: Introduction,
        /// What the sender, if it is the listener, lets the connector have under way.
        credit: Credit,
    },
    /// The connector asks.
    Request(Request),
    /// The listener answers.
    Reply(Reply),
    /// The listener will never answer this request: its place is free again.
    Declined(RequestId),
}

impl PeerMessage {
    /// The message's type.
    pub fn code(&self) -> u8 {
        match self {
            Self::Heartbeat => HEARTBEAT,
            Self::Introduction { .. } => INTRODUCTION,
            Self::Request(request) => request_code(&request.question),
            Self::Reply(reply) => reply_code(&reply.answer),
            Self::Declined(_) => DECLINED,
        }
    }

    /// Appends the message, of a session of this asker.
    ///
    /// # Panics
    /// When it names an operation of another process or incarnation, or more holders, or longer
    /// names, than any may.
    pub fn encode(&self, asker: Asker, out: &mut Encoder) {
        match self {
            Self::Heartbeat => out.message(HEARTBEAT, |_| ()),
            Self::Introduction {
                introduction,
                credit,
            } => out.message(INTRODUCTION, |out| {
                put_introduction(introduction, *credit, out);
            }),
            Self::Request(request) => encode_request(request, asker, out),
            Self::Reply(reply) => encode_reply(reply, asker, out),
            Self::Declined(id) => out.message(DECLINED, |out| put_id(*id, asker, out)),
        }
    }

    /// The message of these bytes, type and fields, as
    /// [`next_message`](super::MessageStream::next_message) gave them. Data are slices of them.
    pub fn decode(message: bytes::Bytes, asker: Asker) -> Result<Self, MessageError> {
        let mut fields = Fields::new(message);
        let code = fields.u8()?;
        let message = match code {
            HEARTBEAT => Self::Heartbeat,
            INTRODUCTION => introduction(&mut fields)?,
            STAMPS | VALUES | STORE | FENCE_QUESTION | OPEN => {
                Self::Request(request(code, &mut fields, asker)?)
            }
            HELD | STORED | FENCE | OPENED | REFUSED => {
                Self::Reply(reply(code, &mut fields, asker)?)
            }
            DECLINED => Self::Declined(id(&mut fields, asker)?),
            _ => return Err(MessageError::Type(code)),
        };
        fields.end()?;
        Ok(message)
    }
}

fn put_id(id: RequestId, asker: Asker, out: &mut Encoder) {
    let OperationId {
        coordinator,
        incarnation,
        shard,
        sequence,
    } = id.operation;
    assert!(
        coordinator == asker.rank && incarnation == asker.incarnation,
        "a session is about its connector's own operations"
    );
    out.u8(shard);
    out.u64(sequence);
    out.u8(id.round);
}

fn id(fields: &mut Fields, asker: Asker) -> Result<RequestId, MessageError> {
    let operation = OperationId {
        coordinator: asker.rank,
        incarnation: asker.incarnation,
        shard: fields.u8()?,
        sequence: fields.u64()?,
    };
    let round = fields.u8()?;
    Ok(RequestId { operation, round })
}

#[cfg(test)]
mod tests;
