//! Writes and discards: which stamps are there, then a higher one.

use crate::domain::{Answer, Content, Extent, Held, Question, Rank, Runs, Stamp, Vote};

use super::Output;
use super::coordinator::{Coordinator, Piece};
use super::extents::bytes_of;
use super::fault::{self, PeerFault};
use super::operation::Progress;
use super::quorum::{self, Agreed, Ranks, Verdict};
use super::token::{LoadPurpose, StorePurpose};

/// A write, or a discard, which is a write of zeroes.
#[derive(Debug)]
pub(super) struct Write {
    /// What is still to be written, from the piece's first sector on.
    content: Content,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Which stamps do you hold? By who has answered.
    Query { answers: Vec<(Rank, Runs<Vote>)> },
    /// Store this. By who holds it on stable storage.
    Store {
        extents: Vec<Extent>,
        acknowledged: Ranks,
    },
}

impl Write {
    /// Begins with the first piece.
    pub(super) fn start(
        content: Content,
        piece: Piece,
        coordinator: &Coordinator,
        out: &mut Vec<Output>,
    ) -> Self {
        let mut write = Self {
            content,
            phase: Phase::query(coordinator),
        };
        write.begin_piece(piece, coordinator, out);
        write
    }

    /// Begins with a piece, right behind the one before.
    pub(super) fn begin_piece(
        &mut self,
        piece: Piece,
        coordinator: &Coordinator,
        out: &mut Vec<Output>,
    ) {
        self.phase = Phase::query(coordinator);
        for to in coordinator.others() {
            self.resend(to, piece, coordinator, out);
        }
        out.push(Output::Load {
            token: LoadPurpose::Votes(piece.sequence).token(),
            range: piece.range,
            newer_than: None,
        });
    }

    /// The own votes.
    pub(super) fn votes_loaded(
        &mut self,
        piece: &mut Piece,
        held: Held,
        coordinator: &mut Coordinator,
        out: &mut Vec<Output>,
    ) -> Progress {
        let Phase::Query { answers } = &mut self.phase else {
            return Progress::Waiting;
        };
        fault::check_held(piece.range, None, &held).expect("the store answers what it was asked");
        answers.push((coordinator.own(), held.votes));
        self.decide(piece, coordinator, out)
    }

    /// The own copy is stable.
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
            (Phase::Query { answers }, Answer::Held(held)) => {
                fault::check_held(piece.range, None, &held)?;
                if answers.iter().any(|&(rank, _)| rank == from) {
                    return Ok(Progress::Waiting);
                }
                answers.push((from, held.votes));
                Ok(self.decide(piece, coordinator, out))
            }
            (Phase::Store { .. }, Answer::Stored) => Ok(self.acknowledge(from, coordinator)),
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
            Phase::Query { answers } if !answers.iter().any(|&(rank, _)| rank == to) => {
                Question::Stamps { range: piece.range }
            }
            Phase::Store {
                extents,
                acknowledged,
            } if !acknowledged.contains(to) => Question::Store {
                extents: extents.clone(),
            },
            _ => return,
        };
        coordinator.ask(to, piece, question, out);
    }

    /// On a majority of votes for every sector, chooses the stamp and sends the values to all.
    fn decide(
        &mut self,
        piece: &mut Piece,
        coordinator: &mut Coordinator,
        out: &mut Vec<Output>,
    ) -> Progress {
        let Phase::Query { answers } = &self.phase else {
            return Progress::Waiting;
        };
        let votes = answers.iter().map(|(_, votes)| votes);
        let decided = match quorum::judge(coordinator.processes(), piece.range.count(), votes) {
            Verdict::Undecided => return Progress::Waiting,
            Verdict::Unreadable => return Progress::Unreadable,
            Verdict::Decided(decided) => decided,
        };
        let everyone = answers.len() == usize::from(coordinator.processes());
        piece.range = piece.range.part(0, decided.count());
        let extents = self.stamped(*piece, &decided, coordinator);
        if extents.is_empty() {
            return Progress::PieceDone { everyone };
        }
        piece.round += 1;
        self.phase = Phase::Store {
            extents: extents.clone(),
            acknowledged: Ranks::default(),
        };
        for to in coordinator.others() {
            self.resend(to, *piece, coordinator, out);
        }
        out.push(Output::Store {
            token: StorePurpose::Operation(piece.sequence).token(),
            extents,
        });
        Progress::Waiting
    }

    /// The new values of the piece, all under one stamp that is higher than any that a majority
    /// knows of. A discard leaves out what was never written.
    fn stamped(
        &mut self,
        piece: Piece,
        decided: &Runs<Agreed>,
        coordinator: &mut Coordinator,
    ) -> Vec<Extent> {
        let highest = decided.iter().map(|(_, agreed)| agreed.highest.timestamp);
        let highest = highest.max().expect("a piece has sectors");
        match &mut self.content {
            Content::Data(rest) => {
                let data = Content::Data(rest.split_to(bytes_of(decided.count())));
                let stamp = coordinator.next_stamp(highest);
                vec![Extent::new(piece.range, stamp, data)]
            }
            Content::Zeroes => {
                let written = decided.map(|agreed| !agreed.highest.is_zero());
                if written.as_uniform() == Some(false) {
                    return Vec::new();
                }
                let stamp = coordinator.next_stamp(highest);
                tombstones(piece, &written, stamp)
            }
            Content::Unchanged => unreachable!("no client writes it"),
        }
    }

    fn acknowledge(&mut self, from: Rank, coordinator: &Coordinator) -> Progress {
        let Phase::Store { acknowledged, .. } = &mut self.phase else {
            return Progress::Waiting;
        };
        if acknowledged.insert(from) && acknowledged.count() == coordinator.majority() {
            let everyone = acknowledged.count() == coordinator.processes();
            Progress::PieceDone { everyone }
        } else {
            Progress::Waiting
        }
    }
}

impl Phase {
    fn query(coordinator: &Coordinator) -> Self {
        Self::Query {
            answers: Vec::with_capacity(usize::from(coordinator.majority())),
        }
    }
}

fn tombstones(piece: Piece, written: &Runs<bool>, stamp: Stamp) -> Vec<Extent> {
    let spans = written.spans().filter(|&(_, _, written)| written);
    spans
        .map(|(offset, count, _)| {
            Extent::new(piece.range.part(offset, count), stamp, Content::Zeroes)
        })
        .collect()
}
