//! What another process can do wrong, and how it is found out.

use crate::domain::{
    Content, Extent, Generation, Held, Question, Rank, Request, Runs, SectorRange, Stamp, Vote,
};

use super::{DISCARD_SECTORS_MAX, OPERATION_SECTORS_MAX};

/// What no correct process says. Whoever does has a fault; nothing else that it says on that
/// connection can be relied on.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerFault {
    /// The rank is this process's own, or none of the cluster's.
    #[error("process {0} is not one of the others")]
    NotAPeer(Rank),
    /// A request of an operation that another process coordinates.
    #[error("the request is of an operation that another process coordinates")]
    ForeignOperation,
    /// A request for more sectors than any operation covers.
    #[error("the request covers {sectors} sectors, more than the {most} that it may")]
    TooManySectors {
        /// How many it covers.
        sectors: u32,
        /// How many it may.
        most: u32,
    },
    /// A question for values with not one held vote for each sector.
    #[error("the question covers {sectors} sectors, but names {votes} held votes")]
    HeldMismatch {
        /// How many sectors.
        sectors: u32,
        /// How many votes.
        votes: u32,
    },
    /// A question of an attach, which no register answers.
    #[error("the question is one of an attach, but was asked of a register")]
    NotForARegister,
    /// A request under a fence with the number of another one, under which operations run here: a
    /// number has one owner.
    #[error("the request is of a generation that is another owner's")]
    TwoOwners,
    /// A store of nothing, of unordered or overlapping values, of a stamp that does not fit the
    /// content, or of data that does not fill its sectors.
    #[error("the values to be stored are empty, out of order, ill stamped or of the wrong length")]
    MalformedStore,
    /// A store of what is not settled under the generation that it is made under, or an answer
    /// with a stamp that only a later generation than it was asked under can have made.
    #[error("a stamp is of another generation than the request allows")]
    WrongGeneration,
    /// A refusal that names no newer fence than the request's.
    #[error("the request is refused for the sake of a generation that is not newer")]
    WrongRefusal,
    /// An answer to what was never asked.
    #[error("the answer is to a request that was never made")]
    NeverAsked,
    /// An answer of the wrong kind.
    #[error("the answer does not fit the question")]
    WrongAnswer,
    /// An answer with no vote, or with more votes than sectors were asked about.
    #[error("the answer has {votes} votes for {sectors} sectors")]
    VotesMismatch {
        /// How many sectors were asked about.
        sectors: u32,
        /// How many votes came.
        votes: u32,
    },
    /// An answer whose values are not exactly those that its votes promise.
    #[error("the values of the answer are not those of its votes")]
    ValuesMismatch,
}

/// Checks a request before anything is done for it, to whomever it is known to be from.
pub(super) fn check_request(from: Rank, request: &Request) -> Result<(), PeerFault> {
    if request.id.operation.coordinator != from {
        return Err(PeerFault::ForeignOperation);
    }
    check_question(&request.question, request.authority.generation)
}

/// Checks a question that is asked under this generation.
fn check_question(question: &Question, generation: Generation) -> Result<(), PeerFault> {
    match question {
        Question::Stamps { range } => check_length(range.count(), DISCARD_SECTORS_MAX),
        Question::Values { range, held } => {
            check_length(range.count(), OPERATION_SECTORS_MAX)?;
            if held.count() == range.count() {
                Ok(())
            } else {
                Err(PeerFault::HeldMismatch {
                    sectors: range.count(),
                    votes: held.count(),
                })
            }
        }
        Question::Store { extents } => check_extents(extents, generation),
        Question::Fence | Question::Open { .. } => Err(PeerFault::NotForARegister),
    }
}

/// Checks an answer about `range`, to a question under this generation for the values that are
/// newer than `newer_than`, or for no values.
///
/// Whoever holds a stamp of a later generation has accepted that one's fence, and so refuses
/// instead of answering. That is why no operation meets one (rule 8 of `ATTACHMENTS.md`).
pub(super) fn check_held(
    range: SectorRange,
    generation: Generation,
    newer_than: Option<&Runs<Vote>>,
    held: &Held,
) -> Result<(), PeerFault> {
    let votes = &held.votes;
    if votes.is_empty() || votes.count() > range.count() {
        return Err(PeerFault::VotesMismatch {
            sectors: range.count(),
            votes: votes.count(),
        });
    }
    let mut stamps = votes.iter().filter_map(|(_, vote)| vote.stamp());
    if !stamps.all(|stamp| is_well_formed(stamp) && stamp.settled <= generation) {
        return Err(PeerFault::WrongGeneration);
    }
    let fits = match newer_than {
        None => held.values.is_empty(),
        Some(newer_than) => values_fit(
            range,
            &votes.zip(newer_than, |vote, asker| {
                (vote, vote > asker && vote != Vote::ZERO)
            }),
            &held.values,
        ),
    };
    if fits {
        Ok(())
    } else {
        Err(PeerFault::ValuesMismatch)
    }
}

/// Whether there are values for exactly those sectors that they are wanted for, each under the
/// stamp of its vote.
fn values_fit(range: SectorRange, votes: &Runs<(Vote, bool)>, values: &[Extent]) -> bool {
    let mut values = values.iter();
    for (offset, count, (vote, wanted)) in votes.spans() {
        let end = offset + count;
        let mut at = if wanted { offset } else { end };
        // No value passes the end of its span: the next one has another stamp, or is not wanted.
        while at < end {
            let Some(value) = values.next() else {
                return false;
            };
            let fits = value.range.first() == range.part(at, 1).first()
                && value.range.count() <= end - at
                && Some(value.stamp) == vote.stamp()
                && value.content != Content::Unchanged
                && fits_its_stamp(value);
            if !fits {
                return false;
            }
            at += value.range.count();
        }
    }
    values.next().is_none()
}

/// Everything that is stored under a generation is settled under it: written, written back or
/// settled by its operations. Settling without the value relies on that.
fn check_extents(extents: &[Extent], generation: Generation) -> Result<(), PeerFault> {
    let in_order = extents
        .windows(2)
        .all(|pair| pair[0].range.last() < pair[1].range.first());
    let well_formed = extents
        .iter()
        .all(|extent| !extent.stamp.is_zero() && fits_its_stamp(extent));
    let (Some(first), Some(last)) = (extents.first(), extents.last()) else {
        return Err(PeerFault::MalformedStore);
    };
    let one_volume = first.range.first().volume() == last.range.first().volume();
    if !in_order || !well_formed || !one_volume {
        return Err(PeerFault::MalformedStore);
    }
    if extents
        .iter()
        .any(|extent| extent.stamp.settled != generation)
    {
        return Err(PeerFault::WrongGeneration);
    }
    let span = last.range.last().to_bits() - first.range.first().to_bits();
    let sectors = u32::try_from(span.saturating_add(1)).unwrap_or(u32::MAX);
    check_length(sectors, DISCARD_SECTORS_MAX)
}

fn check_length(sectors: u32, most: u32) -> Result<(), PeerFault> {
    if sectors <= most {
        Ok(())
    } else {
        Err(PeerFault::TooManySectors { sectors, most })
    }
}

/// Whether a value, or what settles one, can have this stamp, and fills its sectors. Nobody wrote
/// what was never written, and what settles a value says nothing of who wrote that.
fn fits_its_stamp(extent: &Extent) -> bool {
    let stamp = extent.stamp;
    is_well_formed(stamp)
        && match &extent.content {
            Content::Zeroes => true,
            Content::Unchanged => !stamp.is_written(),
            Content::Data(bytes) => {
                stamp.is_written() && u64::try_from(bytes.len()) == Ok(extent.range.bytes())
            }
        }
}

/// A value is settled under the generation that wrote it, at least; what nobody wrote has nothing
/// but a settled generation.
fn is_well_formed(stamp: Stamp) -> bool {
    if stamp.is_written() {
        stamp.generation <= stamp.settled
    } else {
        stamp == Stamp::ZERO.settled_under(stamp.settled)
    }
}

#[cfg(test)]
mod tests;
