//! Reads: what is the newest value, and may it be relied on?
//!
//! It may when a majority holds it and it was settled under this generation or a later one, or when
//! all processes hold it (rule 9 of `ATTACHMENTS.md`). Otherwise it is stored first: whoever lacks
//! it gets it, and whoever holds it settles it. Before a value is stored for no other reason than
//! that not all have answered, the read waits a while for those that are connected.
//!
//! The own votes come from the store's index and go out with the question, so that a peer sends a
//! value only where its own is newer. The own values are read from the disk meanwhile.

use crate::domain::{Answer, Extent, Held, Question, Rank, Runs, Stamp, Vote};

use super::Output;
use super::coordinator::{Coordinator, Piece};
use super::extents;
use super::fault::{self, PeerFault};
use super::operation::Progress;
use super::quorum::{self, Agreed, Need, Owed, Standing, Verdict};
use super::store_round::StoreRound;
use super::token::{LoadPurpose, StorePurpose};

/// A read.
#[derive(Debug)]
pub(super) struct Read {
    /// The values of the pieces before.
    gathered: Vec<Extent>,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Which stamps do I hold? Nobody else has been asked.
    OwnVotes,
    Query(Query),
    /// Store this, which too few hold or which is not settled.
    WriteBack {
        /// The values of the whole piece.
        values: Vec<Extent>,
        round: StoreRound,
    },
}

/// Which stamps do you hold, and which values newer than mine?
#[derive(Debug)]
struct Query {
    /// The own votes as they were sent.
    held: Runs<Vote>,
    /// The own values, once they are read, with votes that are at least as new as those sent.
    own: Option<Held>,
    /// By who has answered.
    answers: Vec<(Rank, Held)>,
    /// Whether it waits only for those who have not, since with their votes there might be nothing
    /// to store.
    waits_for_more: bool,
}

impl Read {
    /// Begins with the first piece.
    pub(super) fn start(piece: Piece, out: &mut Vec<Output>) -> Self {
        let mut read = Self {
            gathered: Vec::new(),
            phase: Phase::OwnVotes,
        };
        read.begin_piece(piece, out);
        read
    }

    /// Begins with a piece, right behind the one before.
    pub(super) fn begin_piece(&mut self, piece: Piece, out: &mut Vec<Output>) {
        self.phase = Phase::OwnVotes;
        out.push(Output::Load {
            token: LoadPurpose::Votes(piece.sequence).token(),
            range: piece.range,
            newer_than: None,
        });
    }

    /// The values of all pieces, once they are done.
    pub(super) fn into_values(self) -> Vec<Extent> {
        self.gathered
    }

    /// The own votes: asks the others, and the store for the own values.
    pub(super) fn votes_loaded(
        &mut self,
        piece: &mut Piece,
        held: Held,
        coordinator: &mut Coordinator,
        out: &mut Vec<Output>,
    ) -> Progress {
        let Phase::OwnVotes = self.phase else {
            return Progress::Waiting;
        };
        fault::check_held(piece.range, piece.generation(), None, &held)
            .expect("the store answers what it was asked");
        piece.range = piece.range.part(0, held.votes.count());
        let has_value = |vote: Vote| vote.stamp().is_some_and(Stamp::is_written);
        let nothing_to_read = !held.votes.iter().any(|(_, vote)| has_value(vote));
        let votes = held.votes.clone();
        self.query(
            *piece,
            votes,
            nothing_to_read.then_some(held),
            coordinator,
            out,
        );
        if !nothing_to_read {
            out.push(Output::Load {
                token: LoadPurpose::Values(piece.sequence).token(),
                range: piece.range,
                newer_than: Some(Runs::uniform(piece.range.count(), Vote::Lost)),
            });
        }
        self.decide(piece, coordinator, out)
    }

    /// The own values. Where one turns out to be damaged, the others were told of a stamp that
    /// stands for no value, and are asked again.
    pub(super) fn values_loaded(
        &mut self,
        piece: &mut Piece,
        held: Held,
        coordinator: &mut Coordinator,
        out: &mut Vec<Output>,
    ) -> Progress {
        let Phase::Query(query) = &mut self.phase else {
            return Progress::Waiting;
        };
        let everything = Runs::uniform(piece.range.count(), Vote::Lost);
        fault::check_held(piece.range, piece.generation(), Some(&everything), &held)
            .expect("the store answers what it was asked");
        let mut damaged = false;
        for (_, (before, now)) in query.held.zip(&held.votes, |a, b| (a, b)).iter() {
            assert!(
                now >= before || now == Vote::Lost,
                "a store never goes back to an older stamp"
            );
            damaged |= now < before;
        }
        if damaged {
            piece.range = piece.range.part(0, held.votes.count());
            piece.round += 1;
            self.query(*piece, held.votes.clone(), Some(held), coordinator, out);
        } else {
            query.own = Some(held);
        }
        self.decide(piece, coordinator, out)
    }

    /// The own copy of a write-back is stable.
    pub(super) fn stored(&mut self, coordinator: &Coordinator) -> Progress {
        let Phase::WriteBack { round, .. } = &mut self.phase else {
            return Progress::Waiting;
        };
        let progress = round.stored(coordinator);
        self.finish(progress)
    }

    /// Another process's answer to the present round.
    pub(super) fn answered(
        &mut self,
        piece: &mut Piece,
        from: Rank,
        answer: Answer,
        coordinator: &mut Coordinator,
        out: &mut Vec<Output>,
    ) -> Result<Progress, PeerFault> {
        match (&mut self.phase, answer) {
            (Phase::OwnVotes, _) => Err(PeerFault::NeverAsked),
            (Phase::Query(query), Answer::Held(held)) => {
                fault::check_held(piece.range, piece.generation(), Some(&query.held), &held)?;
                if query.has_answered(from) {
                    return Ok(Progress::Waiting);
                }
                query.answers.push((from, held));
                Ok(self.decide(piece, coordinator, out))
            }
            (Phase::WriteBack { round, .. }, Answer::Stored) => {
                let progress = round.answered(from, coordinator)?;
                Ok(self.finish(progress))
            }
            _ => Err(PeerFault::WrongAnswer),
        }
    }

    /// Sends again what the process has not answered.
    pub(super) fn resend(
        &self,
        to: Rank,
        piece: Piece,
        coordinator: &Coordinator,
        out: &mut Vec<Output>,
    ) {
        match &self.phase {
            Phase::Query(query) if !query.has_answered(to) => {
                let held = query.held.clone();
                let range = piece.range;
                coordinator.ask(to, piece, Question::Values { range, held }, out);
            }
            Phase::WriteBack { round, .. } => round.resend(to, piece, coordinator, out),
            Phase::OwnVotes | Phase::Query(_) => {}
        }
    }

    /// Whether it has a majority, and waits for this process all the same.
    pub(super) fn waits_for(&self, rank: Rank) -> bool {
        match &self.phase {
            Phase::Query(query) => query.waits_for_more && !query.has_answered(rank),
            Phase::OwnVotes | Phase::WriteBack { .. } => false,
        }
    }

    fn query(
        &mut self,
        piece: Piece,
        held: Runs<Vote>,
        own: Option<Held>,
        coordinator: &Coordinator,
        out: &mut Vec<Output>,
    ) {
        self.phase = Phase::Query(Query {
            held,
            own,
            answers: Vec::with_capacity(usize::from(coordinator.majority())),
            waits_for_more: false,
        });
        for to in coordinator.others() {
            self.resend(to, piece, coordinator, out);
        }
    }

    /// On a majority of votes for every sector, takes the highest of each; what may be relied on is
    /// read, all else is stored first.
    pub(super) fn decide(
        &mut self,
        piece: &mut Piece,
        coordinator: &mut Coordinator,
        out: &mut Vec<Output>,
    ) -> Progress {
        let Phase::Query(query) = &mut self.phase else {
            return Progress::Waiting;
        };
        query.waits_for_more = false;
        let Some(own) = &query.own else {
            return Progress::Waiting;
        };
        let (processes, generation) = (coordinator.processes(), piece.generation());
        let others = query.answers.iter().map(|(_, held)| held);
        let all = std::iter::once(own).chain(others);
        let votes = all.clone().map(|held| &held.votes);
        // Beyond the own values nothing can be decided: others sent only what is newer.
        let decided = match quorum::judge(processes, own.votes.count(), votes) {
            Verdict::Undecided => return Progress::Waiting,
            Verdict::Unreadable => return Progress::Unreadable,
            Verdict::Decided(decided) => decided,
        };
        let answers = query.answers.len() + 1;
        let standing = quorum::standing(processes, generation, answers, &decided);
        if standing == Standing::MayStand
            && coordinator.awaits_more(|rank| query.has_answered(rank))
        {
            query.waits_for_more = true;
            return Progress::Waiting;
        }
        let sources = all.map(|held| &held.values[..]);
        let values = extents::join(piece.range.first(), &decided, sources);
        piece.range = piece.range.part(0, decided.count());
        heal(*piece, own, &decided, &values, coordinator, out);
        if standing == Standing::Stands {
            self.gathered.extend(values);
            let everyone = answers == usize::from(processes);
            return Progress::PieceDone { everyone };
        }
        let votes_of = |rank| match rank {
            rank if rank == coordinator.own() => Some(&own.votes),
            rank => query.votes_of(rank),
        };
        let mut round = StoreRound::of_lacking(*piece, &decided, &values, votes_of, coordinator);
        piece.round += 1;
        round.begin(*piece, coordinator, out);
        self.phase = Phase::WriteBack { values, round };
        Progress::Waiting
    }

    /// Takes the values over once they are where they have to be.
    fn finish(&mut self, progress: Progress) -> Progress {
        if let (Phase::WriteBack { values, .. }, Progress::PieceDone { .. }) =
            (&mut self.phase, progress)
        {
            self.gathered.append(values);
        }
        progress
    }
}

impl Query {
    fn has_answered(&self, rank: Rank) -> bool {
        self.votes_of(rank).is_some()
    }

    fn votes_of(&self, rank: Rank) -> Option<&Runs<Vote>> {
        let answer = self.answers.iter().find(|&&(from, _)| from == rank);
        answer.map(|(_, held)| &held.votes)
    }
}

/// Stores the values of damaged own copies again, where they may be relied on; where not, the
/// write-back does that. Nobody waits for it.
fn heal(
    piece: Piece,
    own: &Held,
    decided: &Runs<Agreed>,
    values: &[Extent],
    coordinator: &mut Coordinator,
    out: &mut Vec<Output>,
) {
    if own.votes.iter().all(|(_, vote)| vote != Vote::Lost) {
        return;
    }
    let (processes, generation) = (coordinator.processes(), piece.generation());
    let healed = decided.zip(&own.votes, |agreed, vote| {
        let stands = agreed.need(processes, generation) == Need::Nothing;
        if vote == Vote::Lost && agreed.highest > Stamp::ZERO && stands {
            Owed::Value
        } else {
            Owed::Nothing
        }
    });
    if healed.iter().any(|(_, owed)| owed == Owed::Value) && coordinator.begin_heal() {
        out.push(Output::Store {
            token: StorePurpose::Heal(piece.sequence).token(),
            extents: extents::select(values, &healed, generation),
        });
    }
}
