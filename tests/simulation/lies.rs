//! Where planted bugs come in: what is changed, invented or kept back around the registers.

use std::collections::{BTreeMap, BTreeSet};

use atdd::domain::{
    Answer, Content, Extent, Fence, Generation, Held, Incarnation, OperationId, Question, Reply,
    Request, RequestId, Runs, Vote,
};
use atdd::register::{Input, Output, StoreToken};

use crate::bug::Bug;
use crate::usurpers::Adopted;
use crate::world::{Event, Message, World, rank};

/// What the planted bugs of one process have to remember.
#[derive(Default)]
pub(crate) struct Lies {
    /// The own reads, by the sequence numbers of their pieces.
    pub(crate) reads: BTreeSet<(u8, Incarnation, u64)>,
    /// Writes that were cut off by a crash.
    pub(crate) unanswered_writes: Vec<usize>,
    /// Stores whose end a register has not been told.
    pub(crate) stores: BTreeSet<(u8, StoreToken)>,
    /// Requests that wait for their moment, and who sent them.
    pub(crate) held_back: Vec<(usize, Request)>,
    /// Operations of a fence that is no more.
    pub(crate) adopted: Vec<Adopted>,
}

impl Lies {
    /// What a crash takes.
    pub(crate) fn crash(&mut self) {
        self.stores.clear();
        self.adopted.clear();
    }
}

impl World {
    /// Whether a register is told this, and what it is told before.
    pub(crate) fn may_be_told(
        &mut self,
        place: usize,
        shard: u8,
        input: &Input,
        outputs: &mut Vec<Output>,
    ) -> bool {
        if let Input::Stored { token } = input {
            return self.processes[place].lies.stores.remove(&(shard, *token));
        }
        match (self.bug, input) {
            (Some(Bug::FenceNotOrderedAfterStores), _) => {
                if self.raises(place, input) {
                    self.disown_stores(place, shard, outputs);
                }
                true
            }
            (Some(bug), Input::Request { request, .. }) => {
                let Question::Store { extents } = &request.question else {
                    return true;
                };
                let coordinator = request.id.operation.coordinator.place();
                let of_read = self.is_of_read(coordinator, request.id.operation);
                let passes = match bug {
                    Bug::OnlyQueriesRefused => true,
                    Bug::WriteBacksNotRefused => of_read,
                    _ => false,
                };
                if passes && request.authority.generation < self.accepted(place) {
                    self.processes[place].disk.slip_in(extents);
                    let (id, answer) = (request.id, Answer::Stored);
                    let message = Message::Reply(Reply { id, answer });
                    self.send(place, coordinator, &message);
                    return false;
                }
                true
            }
            _ => true,
        }
    }

    /// What a register says in one step.
    pub(crate) fn falsify(&mut self, place: usize, shard: u8, outputs: &mut Vec<Output>) {
        let votes = |output: &Output| matches!(output, Output::Reply { reply, .. } if matches!(reply.answer, Answer::Held(_)));
        if self.bug == Some(Bug::WriteBacksNotRefused) && outputs.iter().any(votes) {
            self.release(place);
        }
        let skips_others = match self.bug {
            Some(Bug::LeftoversNotSettled) => true,
            Some(Bug::LeftoversSettledByMajorityOnly) => false,
            _ => return,
        };
        let mut holders: BTreeMap<OperationId, usize> = BTreeMap::new();
        let of_own = outputs
            .iter()
            .any(|output| matches!(output, Output::Store { extents, .. } if is_settling(extents)));
        for output in outputs.iter() {
            if let Output::Request { request, .. } = output
                && let Question::Store { extents } = &request.question
            {
                let holders = holders.entry(request.id.operation).or_insert(of_own.into());
                *holders += usize::from(is_settling(extents));
            }
        }
        let majority = self.processes.len() / 2 + 1;
        let mut kept = Vec::new();
        for output in std::mem::take(outputs) {
            let settling = match &output {
                Output::Request { request, .. } => match &request.question {
                    Question::Store { extents } => is_settling(extents),
                    _ => false,
                },
                Output::Store { extents, .. } => is_settling(extents),
                _ => false,
            };
            let agreed = match &output {
                Output::Request { request, .. } => holders.get(&request.id.operation),
                _ => holders.values().next(),
            };
            let agreed = agreed.copied().unwrap_or(usize::from(of_own)) >= majority;
            match output {
                Output::Request { to, request } if settling && (agreed || skips_others) => {
                    self.imagine(place, to.place(), request.id, Answer::Stored);
                }
                Output::Store { token, .. } if settling && (agreed || skips_others) => {
                    self.processes[place].lies.stores.insert((shard, token));
                    self.tell_stored(place, shard, token);
                }
                other => kept.push(other),
            }
        }
        *outputs = kept;
    }

    /// Whether a request is sent at all.
    pub(crate) fn may_send(&mut self, place: usize, to: usize, request: &Request) -> bool {
        let count = self.processes.len();
        match (self.bug, &request.question) {
            (Some(Bug::NoWriteBack), Question::Store { .. })
                if self.is_of_read(place, request.id.operation) =>
            {
                self.imagine(place, to, request.id, Answer::Stored);
                false
            }
            (Some(Bug::SubMajority), _) if to == self.imagined_voter(place) => {
                let answer = empty_answer(&request.question);
                self.imagine(place, to, request.id, answer);
                true
            }
            (Some(Bug::OpenAtMinority), Question::Open { .. })
                if (to + count - place) % count <= count / 2 =>
            {
                self.imagine(place, to, request.id, Answer::Opened);
                false
            }
            (Some(Bug::WritingBeforeOpen), Question::Open { .. }) => {
                self.imagine(place, to, request.id, Answer::Opened);
                true
            }
            _ => true,
        }
    }

    /// Whether a message is kept until it hurts most: when its receiver has just voted under a newer
    /// generation. Messages may take as long as they like.
    pub(crate) fn is_held_back(&self, from: usize, request: &Request) -> bool {
        self.bug == Some(Bug::WriteBacksNotRefused)
            && matches!(request.question, Question::Store { .. })
            && self.is_of_read(from, request.id.operation)
    }

    /// Keeps a message; if its moment does not come, it arrives all the same.
    pub(crate) fn hold_back(&mut self, from: usize, to: usize, request: Request) {
        let held_back = &mut self.processes[to].lies.held_back;
        held_back.push((from, request.clone()));
        let event = Event::Deliver {
            from,
            to,
            message: Message::Request(request),
            connection: None,
        };
        self.schedule(LATEST, event);
    }

    /// A process has voted: what was held back and is older arrives.
    pub(crate) fn release(&mut self, place: usize) {
        let accepted = self.accepted(place);
        let held_back = std::mem::take(&mut self.processes[place].lies.held_back);
        let is_older = |(_, request): &(usize, Request)| request.authority.generation < accepted;
        let (older, others) = held_back.into_iter().partition(is_older);
        self.processes[place].lies.held_back = others;
        let older: Vec<(usize, Request)> = older;
        for (from, request) in older {
            self.hand_request(from, place, request);
        }
    }

    /// A stamp on its way to a disk.
    pub(crate) fn restamp(&self, extent: &mut Extent) {
        if self.bug == Some(Bug::RankNotCompared) {
            extent.stamp.rank = Some(rank(0));
            extent.stamp.incarnation = Incarnation(1);
        }
    }

    /// The generation that the process has accepted.
    pub(crate) fn accepted(&mut self, place: usize) -> Generation {
        self.running(place).keeper.accepted().generation
    }

    /// Whether this makes a register accept another fence.
    fn raises(&mut self, place: usize, input: &Input) -> bool {
        let fence: Fence = match input {
            Input::Raise { fence } => return fence.generation > Generation(0),
            Input::Request { request, .. } => request.authority,
            Input::Reply { reply, .. } => match reply.answer {
                Answer::Refused { fence } => fence,
                _ => return false,
            },
            _ => return false,
        };
        fence.generation > self.accepted(place)
    }

    /// A register believes that its disk has refused all that it has not acknowledged.
    fn disown_stores(&mut self, place: usize, shard: u8, outputs: &mut Vec<Output>) {
        let lies = &mut self.processes[place].lies;
        let (of_shard, others) = std::mem::take(&mut lies.stores)
            .into_iter()
            .partition(|&(of, _)| of == shard);
        lies.stores = others;
        let of_shard: BTreeSet<(u8, StoreToken)> = of_shard;
        for (_, token) in of_shard {
            let register = &mut self.running(place).registers[usize::from(shard)];
            register.step(Input::Refused { token }, outputs);
        }
    }

    fn is_of_read(&self, place: usize, operation: OperationId) -> bool {
        let name = (operation.shard, operation.incarnation, operation.sequence);
        self.processes[place].lies.reads.contains(&name)
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

/// The longest that a message is held back.
const LATEST: u64 = 300;

fn is_settling(extents: &[Extent]) -> bool {
    let mut contents = extents.iter().map(|extent| &extent.content);
    contents.any(|content| *content == Content::Unchanged)
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
