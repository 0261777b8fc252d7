//! The register step by step: what it asks for after each input.

mod fences;
mod peers;
mod reads;
mod settling;
mod writes;

use bytes::Bytes;

use super::*;
use crate::domain::{
    Answer, Content, Extent, Fence, Generation, Held, Incarnation, Mode, OperationId, OwnerId,
    Question, Rank, Reply, Request, RequestId, Runs, SECTOR_SIZE, SectorAddress, SectorRange,
    Stamp, Tag, Volume, Vote,
};

const OWN: u8 = 1;
const INCARNATION: Incarnation = Incarnation(3);

/// A register of process 1, and what it has put out since the last look.
struct Bench {
    register: AtomicRegister,
    out: Vec<Output>,
    tickets: u64,
    /// The authority of its commands, which all of its requests must have.
    fence: Fence,
}

impl Bench {
    fn new(processes: u8) -> Self {
        Self::under(Fence::INITIAL, processes)
    }

    /// One whose process has this fence on record.
    fn under(fence: Fence, processes: u8) -> Self {
        let config = Config {
            own: rank(OWN),
            processes,
            incarnation: INCARNATION,
            fence,
            shard: 5,
            queue_max: 2,
        };
        Self {
            register: AtomicRegister::new(config),
            out: Vec::new(),
            tickets: 0,
            fence,
        }
    }

    fn step(&mut self, input: Input) {
        self.register.step(input, &mut self.out);
    }

    /// Begins an operation; the first has ticket 0.
    fn command(&mut self, command: Command) {
        let ticket = Ticket(self.tickets);
        self.tickets += 1;
        let authority = self.fence;
        self.step(Input::Command {
            ticket,
            authority,
            command,
        });
    }

    fn read(&mut self, range: SectorRange) {
        self.command(Command::Read { range });
    }

    fn write(&mut self, range: SectorRange, fill: u8) {
        let data = bytes(range.count(), fill);
        self.command(Command::Write { range, data });
    }

    fn discard(&mut self, range: SectorRange) {
        self.command(Command::Discard { range });
    }

    /// Answers the oldest load that was asked for.
    fn load(&mut self, votes: &[Vote], values: Vec<Extent>) {
        let is_load = |output: &Output| matches!(output, Output::Load { .. });
        let at = self.out.iter().position(is_load).expect("a load");
        let Output::Load { token, .. } = self.out.remove(at) else {
            unreachable!();
        };
        let held = held(votes, values);
        self.step(Input::Loaded { token, held });
    }

    /// Completes the oldest store that was asked for; what it stored.
    fn store(&mut self) -> Vec<Extent> {
        let is_store = |output: &Output| matches!(output, Output::Store { .. });
        let at = self.out.iter().position(is_store).expect("a store");
        let Output::Store { token, extents } = self.out.remove(at) else {
            unreachable!();
        };
        self.step(Input::Stored { token });
        extents
    }

    fn reply(&mut self, from: u8, id: RequestId, answer: Answer) {
        let from = rank(from);
        let reply = Reply { id, answer };
        self.step(Input::Reply { from, reply });
    }

    fn reply_held(&mut self, from: u8, id: RequestId, votes: &[Vote], values: Vec<Extent>) {
        self.reply(from, id, Answer::Held(held(votes, values)));
    }

    /// Begins to accept a fence, and accepts it, with nothing under way.
    fn attach(&mut self, fence: Fence) {
        self.step(Input::Raise { fence });
        let generation = fence.generation;
        assert_eq!(self.rest(), [Output::Drained { generation }]);
        self.step(Input::Stable { fence });
        self.fence = fence;
    }

    /// Links to these processes are up.
    fn connect(&mut self, ranks: &[u8]) {
        for &number in ranks {
            self.step(Input::PeerConnected { rank: rank(number) });
        }
    }

    /// Takes all requests, which store; by whom they are for.
    fn stores(&mut self) -> Vec<(u8, Vec<Extent>)> {
        let requests = self.requests().into_iter();
        requests
            .map(|(to, _, question)| match question {
                Question::Store { extents } => (to, extents),
                other => panic!("not a store: {other:?}"),
            })
            .collect()
    }

    /// Takes all requests, by whom they are for.
    fn requests(&mut self) -> Vec<(u8, RequestId, Question)> {
        let mut requests = Vec::new();
        self.out.retain(|output| {
            let Output::Request { to, request } = output else {
                return true;
            };
            assert_eq!(request.authority, self.fence);
            requests.push((to.number(), request.id, request.question.clone()));
            false
        });
        requests
    }

    /// Takes all else.
    fn rest(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }
}

fn rank(number: u8) -> Rank {
    Rank::new(number).unwrap()
}

fn range(first: u64, count: u32) -> SectorRange {
    SectorRange::new(SectorAddress::new(Volume(0), first).unwrap(), count).unwrap()
}

fn stamp(timestamp: u64, by: u8) -> Stamp {
    Stamp {
        timestamp,
        rank: Some(rank(by)),
        incarnation: INCARNATION,
        ..Stamp::ZERO
    }
}

/// A fence of which this process is the coordinator.
fn exclusive(generation: u64, owner: u8) -> Fence {
    Fence {
        generation: Generation(generation),
        mode: Mode::Exclusive {
            owner: OwnerId([owner; 16]),
            tag: Tag {
                coordinator: rank(OWN),
                incarnation: INCARNATION,
                sequence: 4,
            },
        },
    }
}

fn shared(generation: u64) -> Fence {
    Fence {
        generation: Generation(generation),
        mode: Mode::Shared,
    }
}

/// A stamp of a generation, settled under a later one.
fn settled(settled: u64, generation: u64, timestamp: u64, by: u8) -> Stamp {
    Stamp {
        settled: Generation(settled),
        generation: Generation(generation),
        ..stamp(timestamp, by)
    }
}

/// The stamp of what was never written, settled under this generation.
fn unwritten(settled: u64) -> Stamp {
    Stamp::ZERO.settled_under(Generation(settled))
}

fn unchanged(range: SectorRange, generation: u64) -> Extent {
    Extent::new(range, unwritten(generation), Content::Unchanged)
}

fn vote(timestamp: u64, by: u8) -> Vote {
    Vote::Stamp(stamp(timestamp, by))
}

fn bytes(sectors: u32, fill: u8) -> Bytes {
    Bytes::from(vec![fill; SECTOR_SIZE * usize::try_from(sectors).unwrap()])
}

fn value(range: SectorRange, stamp: Stamp, fill: u8) -> Extent {
    Extent::new(range, stamp, Content::Data(bytes(range.count(), fill)))
}

fn zeroes(range: SectorRange, stamp: Stamp) -> Extent {
    Extent::new(range, stamp, Content::Zeroes)
}

fn held(votes: &[Vote], values: Vec<Extent>) -> Held {
    Held {
        votes: votes.iter().copied().collect(),
        values,
    }
}

/// The name of a request of the register on the bench.
fn id(sequence: u64, round: u8) -> RequestId {
    RequestId {
        operation: operation(sequence),
        round,
    }
}

fn operation(sequence: u64) -> OperationId {
    OperationId {
        coordinator: rank(OWN),
        incarnation: INCARNATION,
        shard: 5,
        sequence,
    }
}

fn done(ticket: u64, outcome: Outcome) -> Output {
    Output::Done {
        ticket: Ticket(ticket),
        outcome: Ok(outcome),
    }
}

fn failed(ticket: u64, error: RegisterError) -> Output {
    Output::Done {
        ticket: Ticket(ticket),
        outcome: Err(error),
    }
}

fn finished(sequence: u64) -> Output {
    Output::Finished {
        operation: operation(sequence),
    }
}
