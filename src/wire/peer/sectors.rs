//! Votes and values to bytes and back.

use super::super::codec::{Encoder, Fields};
use super::super::message::MessageError;
use crate::domain::{Content, Extent, Generation, Runs, STAMP_BYTES, SectorRange, Stamp, Vote};

const RUN_BYTES_MIN: usize = 4 + 1;
const EXTENT_BYTES_MIN: usize = 8 + 4 + STAMP_BYTES + 1;

const VOTE_LOST: u8 = 0;
const VOTE_ZERO: u8 = 1;
const VOTE_STAMP: u8 = 2;

const CONTENT_ZEROES: u8 = 0;
const CONTENT_DATA: u8 = 1;
const CONTENT_UNCHANGED: u8 = 2;

pub(super) fn put_votes(votes: &Runs<Vote>, out: &mut Encoder) {
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

pub(super) fn votes(fields: &mut Fields) -> Result<Runs<Vote>, MessageError> {
    let runs = fields.count(RUN_BYTES_MIN)?;
    let mut votes = Runs::new();
    for run in 0..runs {
        let count = fields.u32()?;
        let vote = match fields.u8()? {
            VOTE_LOST => Vote::Lost,
            VOTE_ZERO => Vote::ZERO,
            VOTE_STAMP => Vote::Stamp(nonzero_stamp(fields)?),
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

pub(super) fn put_extents(extents: &[Extent], out: &mut Encoder) {
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
            Content::Unchanged => out.u8(CONTENT_UNCHANGED),
        }
    }
}

/// The extents of a store, for which
/// [`Question::range`](crate::domain::Question::range) must hold.
pub(super) fn store_extents(fields: &mut Fields) -> Result<Vec<Extent>, MessageError> {
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

/// The values of an answer, which is about what sectors hold: never *unchanged*.
pub(super) fn held_extents(fields: &mut Fields) -> Result<Vec<Extent>, MessageError> {
    let extents = extents(fields)?;
    if extents
        .iter()
        .any(|extent| extent.content == Content::Unchanged)
    {
        return Err(MessageError::Malformed("a content"));
    }
    Ok(extents)
}

fn extents(fields: &mut Fields) -> Result<Vec<Extent>, MessageError> {
    let count = fields.count(EXTENT_BYTES_MIN)?;
    let mut extents: Vec<Extent> = Vec::with_capacity(count);
    for _ in 0..count {
        let range = fields.range()?;
        let stamp = nonzero_stamp(fields)?;
        let content = match fields.u8()? {
            CONTENT_ZEROES => Content::Zeroes,
            CONTENT_DATA if stamp.is_written() => Content::Data(fields.value(range.bytes())?),
            CONTENT_UNCHANGED if is_settled_alone(stamp) => Content::Unchanged,
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

/// A stamp that some write or settling has made; the zero stamp has its own encodings.
fn nonzero_stamp(fields: &mut Fields) -> Result<Stamp, MessageError> {
    let stamp = fields.stamp()?;
    if stamp.is_written() || is_settled_alone(stamp) {
        Ok(stamp)
    } else {
        Err(MessageError::Malformed("a stamp"))
    }
}

/// Whether nothing but settling has made the stamp.
fn is_settled_alone(stamp: Stamp) -> bool {
    let settled = Stamp {
        settled: stamp.settled,
        ..Stamp::ZERO
    };
    stamp == settled && stamp.settled > Generation(0)
}
