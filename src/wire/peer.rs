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
//!
//! Requests: stamps?, values?, store
//!
//! | size | field |
//! |---|---|
//! | 1, 8, 1 | identifier: shard, sequence, round |
//! | 8 | authority |
//! | 8, 4 | stamps?, values?: the range's first sector, its count |
//! | 2 | values?: runs of votes, and that many of them |
//! | 2 | store: extents, and that many of them |
//!
//! Replies: held, stored, declined
//!
//! | size | field |
//! |---|---|
//! | 1, 8, 1 | identifier of the request |
//! | 2 | held: runs of votes, and that many of them |
//! | 2 | held: extents, and that many of them |
//!
//! A run of votes: 4 count, 1 vote (`00` lost, `01` the zero stamp, `02` a stamp that follows), and
//! 0 or 29 stamp. Neighbouring runs differ.
//!
//! An extent: 8 first sector, 4 count, 29 stamp, 1 content (`00` zeroes, `01` data that follow),
//! and 0 or count * 4096 data. Extents ascend and do not overlap.

use super::codec::{Encoder, Fields};
use super::message::{
    DECLINED, HEARTBEAT, HELD, INTRODUCTION, MessageError, STAMPS, STORE, STORED, VALUES,
};
use crate::domain::{
    Answer, Birth, Content, Extent, Held, Holder, Incarnation, OperationId, Question, Rank, Reply,
    Request, RequestId, Runs, STAMP_BYTES, SectorRange, Stamp, StoreId, Vote,
};

const BORN_BYTES: usize = 1 + 16;
const RUN_BYTES_MIN: usize = 4 + 1;
const EXTENT_BYTES_MIN: usize = 8 + 4 + STAMP_BYTES + 1;

const VOTE_LOST: u8 = 0;
const VOTE_ZERO: u8 = 1;
const VOTE_STAMP: u8 = 2;

const CONTENT_ZEROES: u8 = 0;
const CONTENT_DATA: u8 = 1;

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

impl PeerMessage {
    /// The message's type.
    pub fn code(&self) -> u8 {
        match self {
            Self::Heartbeat => HEARTBEAT,
            Self::Introduction { .. } => INTRODUCTION,
            Self::Request(request) => request_code(&request.question),
            Self::Reply(reply) => match reply.answer {
                Answer::Held(_) => HELD,
                Answer::Stored => STORED,
                _ => todo!("wire"),
            },
            Self::Declined(_) => DECLINED,
        }
    }

    /// Appends the message, of a session of this asker.
    ///
    /// # Panics
    /// When it names an operation of another process or incarnation.
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
            STAMPS | VALUES | STORE => Self::Request(Request {
                id: id(&mut fields, asker)?,
                authority: fields.fence()?,
                question: question(code, &mut fields)?,
            }),
            HELD | STORED => Self::Reply(Reply {
                id: id(&mut fields, asker)?,
                answer: match code {
                    HELD => Answer::Held(Held {
                        votes: votes(&mut fields)?,
                        values: extents(&mut fields)?,
                    }),
                    _ => Answer::Stored,
                },
            }),
            DECLINED => Self::Declined(id(&mut fields, asker)?),
            _ => return Err(MessageError::Type(code)),
        };
        fields.end()?;
        Ok(message)
    }
}

/// As [`PeerMessage::encode`], without taking the request apart.
pub fn encode_request(request: &Request, asker: Asker, out: &mut Encoder) {
    out.message(request_code(&request.question), |out| {
        put_id(request.id, asker, out);
        out.slice(&request.authority.to_bytes());
        match &request.question {
            Question::Stamps { range } => out.range(*range),
            Question::Values { range, held } => {
                out.range(*range);
                put_votes(held, out);
            }
            Question::Store { extents } => put_extents(extents, out),
            _ => todo!("wire"),
        }
    });
}

/// As [`PeerMessage::encode`], without taking the reply apart.
pub fn encode_reply(reply: &Reply, asker: Asker, out: &mut Encoder) {
    match &reply.answer {
        Answer::Held(held) => out.message(HELD, |out| {
            put_id(reply.id, asker, out);
            put_votes(&held.votes, out);
            put_extents(&held.values, out);
        }),
        Answer::Stored => out.message(STORED, |out| put_id(reply.id, asker, out)),
        _ => todo!("wire"),
    }
}

fn request_code(question: &Question) -> u8 {
    match question {
        Question::Stamps { .. } => STAMPS,
        Question::Values { .. } => VALUES,
        Question::Store { .. } => STORE,
        _ => todo!("wire"),
    }
}

fn put_introduction(introduction: &Introduction, credit: Credit, out: &mut Encoder) {
    out.store_id(introduction.store);
    out.u8(introduction.empty.into());
    out.u32(credit.requests);
    out.u64(credit.bytes);
    let stores = introduction
        .birth
        .as_ref()
        .map_or(&[][..], |birth| &birth.stores);
    out.count(stores.len());
    for store in stores {
        out.u8(store.is_some().into());
        out.store_id(store.unwrap_or(StoreId([0; 16])));
    }
}

fn introduction(fields: &mut Fields) -> Result<PeerMessage, MessageError> {
    let store = fields.store_id()?;
    let empty = fields.flag()?;
    let credit = Credit {
        requests: fields.u32()?,
        bytes: fields.u64()?,
    };
    let processes = fields.count(BORN_BYTES)?;
    if processes > usize::from(Rank::MAX) {
        return Err(MessageError::Malformed("a birth"));
    }
    let stores = (0..processes).map(|_| match (fields.flag()?, fields.store_id()?) {
        (true, store) => Ok(Some(store)),
        (false, StoreId([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])) => Ok(None),
        (false, _) => Err(MessageError::Malformed("a birth")),
    });
    let stores = stores.collect::<Result<Vec<_>, _>>()?;
    let birth = (processes > 0).then_some(Birth { stores });
    let introduction = Introduction {
        store,
        birth,
        empty,
        holders: Vec::new(),
    };
    Ok(PeerMessage::Introduction {
        introduction,
        credit,
    })
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
        _ => Question::Store {
            extents: store_extents(fields)?,
        },
    })
}

fn put_votes(votes: &Runs<Vote>, out: &mut Encoder) {
    out.count(votes.run_count());
    for (count, vote) in votes.iter() {
        out.u32(count);
        match vote {
            Vote::Lost => out.u8(VOTE_LOST),
            Vote::ZERO => out.u8(VOTE_ZERO),
            Vote::Stamp(stamp) => {
                out.u8(VOTE_STAMP);
                out.stamp(stamp);
            }
        }
    }
}

fn votes(fields: &mut Fields) -> Result<Runs<Vote>, MessageError> {
    let runs = fields.count(RUN_BYTES_MIN)?;
    let mut votes = Runs::new();
    for run in 0..runs {
        let count = fields.u32()?;
        let vote = match fields.u8()? {
            VOTE_LOST => Vote::Lost,
            VOTE_ZERO => Vote::ZERO,
            VOTE_STAMP => Vote::Stamp(written_stamp(fields)?),
            _ => return Err(MessageError::Malformed("a vote")),
        };
        if count == 0 || u32::MAX - votes.count() < count {
            return Err(MessageError::Malformed("a run of votes"));
        }
        votes.push(count, vote);
        if votes.run_count() != run + 1 {
            return Err(MessageError::Malformed("a run of votes"));
        }
    }
    Ok(votes)
}

fn put_extents(extents: &[Extent], out: &mut Encoder) {
    out.count(extents.len());
    for extent in extents {
        out.range(extent.range);
        out.stamp(extent.stamp);
        match &extent.content {
            Content::Zeroes => out.u8(CONTENT_ZEROES),
            Content::Data(data) => {
                out.u8(CONTENT_DATA);
                out.value(data);
            }
            Content::Unchanged => todo!("wire"),
        }
    }
}

fn extents(fields: &mut Fields) -> Result<Vec<Extent>, MessageError> {
    let count = fields.count(EXTENT_BYTES_MIN)?;
    let mut extents: Vec<Extent> = Vec::with_capacity(count);
    for _ in 0..count {
        let range = fields.range()?;
        let stamp = written_stamp(fields)?;
        let content = match fields.u8()? {
            CONTENT_ZEROES => Content::Zeroes,
            CONTENT_DATA => Content::Data(fields.value(range.bytes())?),
            _ => return Err(MessageError::Malformed("a content")),
        };
        if extents
            .last()
            .is_some_and(|last| last.range.last() >= range.first())
        {
            return Err(MessageError::Malformed("the order of values"));
        }
        extents.push(Extent::new(range, stamp, content));
    }
    Ok(extents)
}

/// The extents of a store, for which [`Question::range`] must hold.
fn store_extents(fields: &mut Fields) -> Result<Vec<Extent>, MessageError> {
    let extents = extents(fields)?;
    let whole = extents
        .first()
        .zip(extents.last())
        .and_then(|(first, last)| {
            let (first, last) = (first.range.first(), last.range.last());
            let count = last
                .to_bits()
                .checked_sub(first.to_bits())?
                .checked_add(1)?;
            SectorRange::new(first, u32::try_from(count).ok()?)
        });
    whole.ok_or(MessageError::Malformed("the span of a store"))?;
    Ok(extents)
}

/// A stamp that some write has made; the zero stamp has its own encodings.
fn written_stamp(fields: &mut Fields) -> Result<Stamp, MessageError> {
    match fields.stamp()? {
        Stamp::ZERO => Err(MessageError::Malformed("a stamp")),
        stamp => Ok(stamp),
    }
}

#[cfg(test)]
mod tests;
