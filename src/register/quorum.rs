//! Majorities: who counts, and what enough of them agree on. Pure arithmetic over votes.
//!
//! Everything that the register promises rests on two facts. Any two majorities share a process,
//! and a process counts only with what its stable storage holds. So whatever a majority has
//! acknowledged is seen by every later majority. A lost copy is no vote: it neither helps to make
//! a majority nor says anything about what was written.

use crate::domain::{Generation, Rank, Runs, Stamp, Vote};

/// How many of `processes` are more than half of them.
pub(super) const fn majority(processes: u8) -> u8 {
    processes / 2 + 1
}

/// A set of processes, in which each counts once.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ranks {
    members: [u64; 4],
    count: u8,
}

impl Ranks {
    /// Adds a process; false when it was there already.
    pub(super) fn insert(&mut self, rank: Rank) -> bool {
        let (word, bit) = Self::position(rank);
        let new = self.members[word] & bit == 0;
        self.members[word] |= bit;
        self.count += u8::from(new);
        new
    }

    /// Takes a process out, if it is there.
    pub(super) fn remove(&mut self, rank: Rank) {
        let (word, bit) = Self::position(rank);
        self.count -= u8::from(self.members[word] & bit != 0);
        self.members[word] &= !bit;
    }

    /// Whether the process is there.
    pub(super) fn contains(&self, rank: Rank) -> bool {
        let (word, bit) = Self::position(rank);
        self.members[word] & bit != 0
    }

    /// How many there are.
    pub(super) fn count(&self) -> u8 {
        self.count
    }

    fn position(rank: Rank) -> (usize, u64) {
        (rank.place() / 64, 1 << (rank.place() % 64))
    }
}

/// What a majority said of a sector.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Agreed {
    /// The highest stamp among the votes.
    pub(super) highest: Stamp,
    /// How many voted for it.
    pub(super) holders: u8,
}

/// What the highest value of a sector lacks before an operation of a generation may rely on it
/// (rule 9 of `ATTACHMENTS.md`).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing: every majority that the operation's successors ask will see it, or a newer one.
    Nothing,
    /// Copies: it was settled under this generation, but too few hold it.
    Copies,
    /// Settling: it is of an older generation, and somebody may hold another value of that, which
    /// a later operation must not take for newer.
    Settling,
}

impl Agreed {
    /// What the value lacks for an operation of this generation.
    pub(super) fn need(self, processes: u8, generation: Generation) -> Need {
        if self.highest.settled < generation {
            // All of them: then there is no other value. A majority would not do.
            if self.holders == processes {
                Need::Nothing
            } else {
                Need::Settling
            }
        } else if self.holders >= majority(processes) {
            Need::Nothing
        } else {
            Need::Copies
        }
    }
}

/// How what was decided stands under a generation.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It may be relied on.
    Stands,
    /// Something is to be stored first, but for nothing else than that not all have answered: all
    /// that did agree.
    MayStand,
    /// Something is to be stored first, whatever the others say.
    Lacks,
}

/// Weighs what was decided when so many processes had answered.
pub(super) fn standing(
    processes: u8,
    generation: Generation,
    answers: usize,
    decided: &Runs<Agreed>,
) -> Standing {
    let mut standing = Standing::Stands;
    for (_, agreed) in decided.iter() {
        match agreed.need(processes, generation) {
            Need::Nothing => {}
            Need::Settling if usize::from(agreed.holders) == answers => {
                standing = Standing::MayStand;
            }
            Need::Settling | Need::Copies => return Standing::Lacks,
        }
    }
    standing
}

/// What the votes so far amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// More votes are needed, and may come.
    Undecided,
    /// Of some sector so many copies are lost that no majority of intact ones is left.
    Unreadable,
    /// For each of the first sectors, at least one, a majority has voted. They may be fewer than
    /// asked for, where answers end early.
    Decided(Runs<Agreed>),
}

/// Judges the votes of different processes on the same `sectors` sectors. Votes beyond these do
/// not count; answers may be shorter, but none is empty.
pub(super) fn judge<'a>(
    processes: u8,
    sectors: u32,
    votes: impl Iterator<Item = &'a Runs<Vote>> + Clone,
) -> Verdict {
    let mut answers = 0;
    let mut uniform = Some(Tally::EMPTY);
    for votes in votes.clone() {
        answers += 1;
        uniform = match (uniform, votes.as_uniform()) {
            (Some(tally), Some(vote)) if votes.count() >= sectors => Some(tally.with(vote)),
            _ => None,
        };
    }
    let everyone = answers == processes;
    if let Some(tally) = uniform {
        // The hot path: one sector, or many that are alike. No vectors are merged.
        return weigh(processes, everyone, std::iter::once((sectors, tally)));
    }
    let mut tallies = Runs::uniform(sectors, Tally::EMPTY);
    for votes in votes {
        tallies = tallies.zip(&padded(votes, sectors), |tally, vote| match vote {
            Some(vote) => tally.with(vote),
            None => tally,
        });
    }
    weigh(processes, everyone, tallies.iter())
}

/// What a process has to store of a sector.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Owed {
    /// Nothing.
    Nothing,
    /// The value, settled under the operation's generation.
    Value,
    /// That the value which it holds is settled under the operation's generation.
    Unchanged,
}

/// What a process has to store of the decided sectors for an operation of this generation, so that
/// a majority holds the highest value of each, settled. `votes` is `None` for a process that has
/// not answered.
///
/// A process that voted for the value needs no second copy of it, only to settle it, if a majority
/// voted for it. Every reader since then has met one of them, so nobody has settled an older value,
/// and the process holds this one or a newer one whatever it was told meanwhile. A value that fewer
/// voted for may have been replaced at its voter, under a shared generation, by an older one that
/// another reader has settled; so a voter is sent the value as well. One whose copy is lost did not
/// vote: it is owed the value, too.
pub(super) fn owed(
    processes: u8,
    generation: Generation,
    decided: &Runs<Agreed>,
    votes: Option<&Runs<Vote>>,
) -> Runs<Owed> {
    let owed = |agreed: Agreed, vote: Option<Vote>| {
        let need = agreed.need(processes, generation);
        let is_safe = agreed.holders >= majority(processes);
        match vote.and_then(Vote::stamp) {
            _ if need == Need::Nothing => Owed::Nothing,
            Some(stamp) if stamp == agreed.highest && need == Need::Copies => Owed::Nothing,
            Some(stamp) if is_safe && is_same_value(stamp, agreed.highest) => Owed::Unchanged,
            _ => Owed::Value,
        }
    };
    match votes {
        None => decided.map(|agreed| owed(agreed, None)),
        Some(votes) => decided.zip(&padded(votes, decided.count()), owed),
    }
}

/// The highest timestamp that was used under this generation.
pub(super) fn highest_timestamp(decided: &Runs<Agreed>, generation: Generation) -> u64 {
    let stamps = decided.iter().map(|(_, agreed)| agreed.highest);
    let of_generation = stamps.filter(|stamp| stamp.generation == generation);
    of_generation
        .map(|stamp| stamp.timestamp)
        .max()
        .unwrap_or(0)
}

/// Whether the stamps are of one value of a sector: they differ in nothing but under which
/// generation it was settled.
fn is_same_value(a: Stamp, b: Stamp) -> bool {
    a.settled_under(b.settled) == b.settled_under(a.settled)
}

/// The votes on one sector, summed up.
#[derive(Copy, Clone, PartialEq, Eq)]
struct Tally {
    intact: u8,
    lost: u8,
    highest: Stamp,
    holders: u8,
}

impl Tally {
    const EMPTY: Self = Self {
        intact: 0,
        lost: 0,
        highest: Stamp::ZERO,
        holders: 0,
    };

    fn with(mut self, vote: Vote) -> Self {
        match vote {
            Vote::Lost => self.lost += 1,
            Vote::Stamp(stamp) => {
                self.intact += 1;
                if stamp > self.highest {
                    self.highest = stamp;
                    self.holders = 0;
                }
                self.holders += u8::from(stamp == self.highest);
            }
        }
        self
    }
}

fn weigh(processes: u8, everyone: bool, tallies: impl Iterator<Item = (u32, Tally)>) -> Verdict {
    let majority = majority(processes);
    let mut decided = Runs::new();
    // The first sector without a majority ends what is decided. Whether to go on without it
    // depends on why it has none: where the answers are just too short, the rest is asked for
    // again; where a copy is lost, another process may still answer.
    let mut waits_for_others = None;
    for (count, tally) in tallies {
        if tally.lost > processes - majority {
            return Verdict::Unreadable;
        }
        if waits_for_others.is_some() {
            continue;
        }
        if tally.intact >= majority {
            let Tally {
                highest, holders, ..
            } = tally;
            decided.push(count, Agreed { highest, holders });
        } else {
            waits_for_others = Some(tally.intact + tally.lost >= majority && !everyone);
        }
    }
    if decided.is_empty() || waits_for_others == Some(true) {
        Verdict::Undecided
    } else {
        Verdict::Decided(decided)
    }
}

/// The votes for exactly `sectors` sectors, `None` where there is none.
fn padded(votes: &Runs<Vote>, sectors: u32) -> Runs<Option<Vote>> {
    let mut padded = votes.map(Some);
    padded.truncate(sectors);
    padded.push(sectors - padded.count(), None);
    padded
}

#[cfg(test)]
mod tests;
