//! Where planted bugs come in: what is changed, invented or kept back around the workers.

use atdd::domain::{
    Answer, Extent, Fence, Held, Incarnation, Question, Reply, Request, RequestId, Runs, Vote,
};
use atdd::register::{Input, Output};

use crate::bug::Bug;
use crate::world::{World, rank};

impl World {
    /// What a register is about to be told.
    pub(crate) fn before_step(&mut self, _place: usize, _shard: u8, _input: &Input) {}

    /// What a register says in one step.
    pub(crate) fn falsify(&mut self, _place: usize, _shard: u8, _outputs: &mut Vec<Output>) {}

    /// Under which authority an attachment's operation runs.
    pub(crate) fn authority(&self, _place: usize, fence: Fence) -> Fence {
        fence
    }

    /// Whether a request is sent at all.
    pub(crate) fn may_send(&mut self, place: usize, to: usize, request: &mut Request) -> bool {
        let operation = request.id.operation;
        let name = (operation.shard, operation.incarnation, operation.sequence);
        match (self.bug, &request.question) {
            (Some(Bug::NoWriteBack), Question::Store { .. })
                if self.processes[place].reads.contains(&name) =>
            {
                self.imagine(place, to, request.id, Answer::Stored);
                false
            }
            (Some(Bug::SubMajority), _) if to == self.imagined_voter(place) => {
                let answer = empty_answer(&request.question);
                self.imagine(place, to, request.id, answer);
                true
            }
            _ => true,
        }
    }

    /// Whether a request gets to whom it concerns.
    pub(crate) fn may_be_asked(&mut self, _to: usize, _request: &Request) -> bool {
        true
    }

    /// A stamp on its way to a disk.
    pub(crate) fn restamp(&self, extent: &mut Extent) {
        if self.bug == Some(Bug::RankNotCompared) {
            extent.stamp.rank = Some(rank(0));
            extent.stamp.incarnation = Incarnation(1);
        }
    }

    /// A process hears an answer that nobody gave.
    fn imagine(&mut self, place: usize, from: usize, id: RequestId, answer: Answer) {
        self.hand_reply(from, place, Reply { id, answer });
    }

    fn imagined_voter(&self, place: usize) -> usize {
        let last = self.processes.len() - 1;
        if place == last { last - 1 } else { last }
    }
}

/// The answer of a process that has nothing and agrees to everything.
fn empty_answer(question: &Question) -> Answer {
    match question {
        Question::Stamps { range } | Question::Values { range, .. } => Answer::Held(Held {
            votes: Runs::uniform(range.count(), Vote::ZERO),
            values: Vec::new(),
        }),
        Question::Store { .. } => Answer::Stored,
        Question::Fence => Answer::Fence {
            fence: Fence::INITIAL,
            holders: Vec::new(),
        },
        Question::Open { .. } => Answer::Opened,
    }
}
