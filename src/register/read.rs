//! Reads: what is the newest value, and does a majority hold it?
//!
//! The own votes come from the store's index and go out with the question, so that a peer sends a
//! value only where its own is newer. The own values are read from the disk meanwhile.

use crate::domain::{Answer, Extent, Held, Question, Rank, Runs, Stamp, Vote};

use super::Output;
use super::coordinator::{Coordinator, Piece};
use super::extents;
use super::fault::{self, PeerFault};
use super::operation::Progress;
use super::quorum::{self, Agreed, Ranks, Verdict};
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
    WriteBack(WriteBack),
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
}

/// Store this, which too few hold.
#[derive(Debug)]
struct WriteBack {
    /// The values of the whole piece.
    values: Vec<Extent>,
    /// What each process has to store; those that lack nothing are not there.
    owed: Vec<(Rank, Vec<Extent>)>,
    /// Who holds all of it on stable storage.
    acknowledged: Ranks,
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
        fault::check_held(piece.range, None, &held).expect("the store answers what it was asked");
        piece.range = piece.range.part(0, held.votes.count());
        let nothing_to_read = held.votes.iter().all(|(_, vote)| vote <= Vote::ZERO);
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
        fault::check_held(piece.range, Some(&everything), &held)
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
        self.acknowledge(coordinator.own(), coordinator)
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
                fault::check_held(piece.range, Some(&query.held), &held)?;
                if query.has_answered(from) {
                    return Ok(Progress::Waiting);
                }
                query.answers.push((from, held));
                Ok(self.decide(piece, coordinator, out))
            }
            (Phase::WriteBack(_), Answer::Stored) => Ok(self.acknowledge(from, coordinator)),
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
        let question = match &self.phase {
            Phase::Query(query) if !query.has_answered(to) => Question::Values {
                range: piece.range,
                held: query.held.clone(),
            },
            Phase::WriteBack(write_back) if !write_back.acknowledged.contains(to) => {
                let owed = write_back.owed.iter().find(|&&(rank, _)| rank == to);
                let (_, extents) = owed.expect("who is owed nothing has acknowledged it");
                Question::Store {
                    extents: extents.clone(),
                }
            }
            _ => return,
        };
        coordinator.ask(to, piece, question, out);
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
        });
        for to in coordinator.others() {
            self.resend(to, piece, coordinator, out);
        }
    }

    /// On a majority of votes for every sector, takes the highest of each; what a majority holds
    /// is read, what too few hold is written back.
    fn decide(
        &mut self,
        piece: &mut Piece,
        coordinator: &mut Coordinator,
        out: &mut Vec<Output>,
    ) -> Progress {
        let Phase::Query(query) = &self.phase else {
            return Progress::Waiting;
        };
        let Some(own) = &query.own else {
            return Progress::Waiting;
        };
        let answers = query.answers.iter().map(|(_, held)| held);
        let all = std::iter::once(own).chain(answers);
        let votes = all.clone().map(|held| &held.votes);
        // Beyond the own values nothing can be decided: others sent only what is newer.
        let decided = match quorum::judge(coordinator.processes(), own.votes.count(), votes) {
            Verdict::Undecided => return Progress::Waiting,
            Verdict::Unreadable => return Progress::Unreadable,
            Verdict::Decided(decided) => decided,
        };
        let everyone = query.answers.len() + 1 == usize::from(coordinator.processes());
        let sources = all.map(|held| &held.values[..]);
        let values = extents::join(piece.range.first(), &decided, sources);
        piece.range = piece.range.part(0, decided.count());
        heal(*piece, own, &decided, &values, coordinator, out);
        let majority = coordinator.majority();
        if decided.iter().all(|(_, agreed)| agreed.holders >= majority) {
            self.gathered.extend(values);
            return Progress::PieceDone { everyone };
        }
        let write_back = WriteBack::new(query, own, &decided, values, coordinator);
        piece.round += 1;
        self.write_back(write_back, *piece, coordinator, out);
        Progress::Waiting
    }

    fn write_back(
        &mut self,
        mut write_back: WriteBack,
        piece: Piece,
        coordinator: &Coordinator,
        out: &mut Vec<Output>,
    ) {
        let own = coordinator.own();
        let of_own = write_back.owed.iter().position(|&(rank, _)| rank == own);
        let extents_of_own = of_own.map(|at| write_back.owed.swap_remove(at).1);
        self.phase = Phase::WriteBack(write_back);
        for to in coordinator.others() {
            self.resend(to, piece, coordinator, out);
        }
        out.extend(extents_of_own.map(|extents| Output::Store {
            token: StorePurpose::Operation(piece.sequence).token(),
            extents,
        }));
    }

    fn acknowledge(&mut self, from: Rank, coordinator: &Coordinator) -> Progress {
        let Phase::WriteBack(write_back) = &mut self.phase else {
            return Progress::Waiting;
        };
        let acknowledged = &mut write_back.acknowledged;
        if acknowledged.insert(from) && acknowledged.count() == coordinator.majority() {
            let everyone = acknowledged.count() == coordinator.processes();
            self.gathered.append(&mut write_back.values);
            Progress::PieceDone { everyone }
        } else {
            Progress::Waiting
        }
    }
}

impl Query {
    fn has_answered(&self, rank: Rank) -> bool {
        self.answers.iter().any(|&(answered, _)| answered == rank)
    }
}

impl WriteBack {
    fn new(
        query: &Query,
        own: &Held,
        decided: &Runs<Agreed>,
        values: Vec<Extent>,
        coordinator: &Coordinator,
    ) -> Self {
        let mut owed = Vec::new();
        let mut acknowledged = Ranks::default();
        for rank in Rank::all(coordinator.processes()) {
            let votes = if rank == coordinator.own() {
                Some(&own.votes)
            } else {
                let answer = query
                    .answers
                    .iter()
                    .find(|&&(answered, _)| answered == rank);
                answer.map(|(_, held)| &held.votes)
            };
            let lacks = quorum::owed(coordinator.processes(), decided, votes);
            if lacks.as_uniform() == Some(false) {
                acknowledged.insert(rank);
            } else {
                owed.push((rank, extents::select(&values, &lacks)));
            }
        }
        Self {
            values,
            owed,
            acknowledged,
        }
    }
}

/// Stores the values of damaged own copies again, where a majority holds them; where not, the
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
    let majority = coordinator.majority();
    let healed = decided.zip(&own.votes, |agreed, vote| {
        vote == Vote::Lost && agreed.highest > Stamp::ZERO && agreed.holders >= majority
    });
    if healed.iter().any(|(_, healed)| healed) && coordinator.begin_heal() {
        out.push(Output::Store {
            token: StorePurpose::Heal(piece.sequence).token(),
            extents: extents::select(values, &healed),
        });
    }
}
