//! The register itself: takes each input to whom it concerns.

use rustc_hash::FxHashMap;

use crate::domain::{Held, Rank, Reply};

use super::coordinator::Coordinator;
use super::fault::PeerFault;
use super::operation::{Operation, Progress};
use super::range_locks::{LockId, Locked, RangeLocks};
use super::replica::Replica;
use super::token::{LoadPurpose, StorePurpose};
use super::{
    Command, Config, DISCARD_SECTORS_MAX, Input, OPERATION_SECTORS_MAX, Output, RegisterError,
    Ticket,
};

/// The (N,N)-AtomicRegister of many sectors: a shard of those of one process.
///
/// It has state only for sectors with work in flight. All that lasts is in the store.
#[derive(Debug)]
pub struct AtomicRegister {
    coordinator: Coordinator,
    locks: RangeLocks<(Ticket, Command)>,
    /// By the sequence number of the piece that each is at.
    operations: FxHashMap<u64, Operation>,
    replica: Replica,
}

impl AtomicRegister {
    /// A register with nothing under way.
    ///
    /// # Panics
    /// When the own rank is none of the processes'.
    pub fn new(config: Config) -> Self {
        Self {
            coordinator: Coordinator::new(config),
            locks: RangeLocks::new(config.queue_max),
            operations: FxHashMap::default(),
            replica: Replica::default(),
        }
    }

    /// Takes one input, and appends to `out` what is to be done about it, in this order.
    ///
    /// # Panics
    /// When the own store breaks its contract, when the caller does, or when timestamps run out;
    /// for nothing else that another process says.
    pub fn step(&mut self, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Command {
                ticket, command, ..
            } => self.command(ticket, command, out),
            Input::Request { from, request } => {
                let result = if self.coordinator.is_peer(from) {
                    self.replica.request(from, request, out)
                } else {
                    Err(PeerFault::NotAPeer(from))
                };
                report(from, result, out);
            }
            Input::Reply { from, reply } => {
                let result = self.reply(from, reply, out);
                report(from, result, out);
            }
            Input::Loaded { token, held } => self.loaded(LoadPurpose::of(token), held, out),
            Input::Stored { token } => self.stored(StorePurpose::of(token), out),
            Input::Refused { token } => self.refused(StorePurpose::of(token), out),
            Input::PeerConnected { rank } => self.resend(rank, out),
            Input::PeerDisconnected { .. }
            | Input::StopWaiting
            | Input::Raise { .. }
            | Input::Stable { .. } => todo!("register"),
        }
    }

    /// How many operations have their sectors to themselves.
    pub fn in_flight(&self) -> usize {
        self.operations.len()
    }

    /// How many operations wait for their sectors.
    pub fn queued(&self) -> usize {
        self.locks.queued()
    }

    /// How many requests of other processes wait for the store.
    pub fn answering(&self) -> usize {
        self.replica.waiting()
    }

    fn command(&mut self, ticket: Ticket, command: Command, out: &mut Vec<Output>) {
        if let Err(error) = check(&command) {
            let outcome = Err(error);
            out.push(Output::Done { ticket, outcome });
            return;
        }
        match self.locks.lock(command.range(), (ticket, command)) {
            Locked::Granted(lock, (ticket, command)) => self.start(lock, ticket, command, out),
            Locked::Queued => {}
            Locked::Full => out.push(Output::Done {
                ticket,
                outcome: Err(RegisterError::QueueFull),
            }),
        }
    }

    fn start(&mut self, lock: LockId, ticket: Ticket, command: Command, out: &mut Vec<Output>) {
        let operation = Operation::start(ticket, lock, command, &mut self.coordinator, out);
        self.operations.insert(operation.sequence(), operation);
    }

    fn reply(&mut self, from: Rank, reply: Reply, out: &mut Vec<Output>) -> Result<(), PeerFault> {
        if !self.coordinator.is_peer(from) {
            return Err(PeerFault::NotAPeer(from));
        }
        let id = reply.id.operation;
        let ours = self.coordinator.operation_id(id.sequence);
        if id.incarnation < ours.incarnation {
            // It was asked by this process before it was started anew.
            return Ok(());
        }
        if id != ours || !self.coordinator.has_begun(id.sequence) {
            return Err(PeerFault::NeverAsked);
        }
        let Some(operation) = self.operations.get_mut(&id.sequence) else {
            return Ok(());
        };
        let round = reply.id.round;
        let progress = operation.answered(from, round, reply.answer, &mut self.coordinator, out)?;
        self.advance(id.sequence, progress, out);
        Ok(())
    }

    fn loaded(&mut self, purpose: LoadPurpose, held: Held, out: &mut Vec<Output>) {
        let (sequence, progress) = match purpose {
            LoadPurpose::Peer(number) => return self.replica.loaded(number, held, out),
            LoadPurpose::Votes(sequence) => {
                let Some(operation) = self.operations.get_mut(&sequence) else {
                    return;
                };
                let progress = operation.votes_loaded(held, &mut self.coordinator, out);
                (sequence, progress)
            }
            LoadPurpose::Values(sequence) => {
                let Some(operation) = self.operations.get_mut(&sequence) else {
                    return;
                };
                let progress = operation.values_loaded(held, &mut self.coordinator, out);
                (sequence, progress)
            }
        };
        self.advance(sequence, progress, out);
    }

    fn stored(&mut self, purpose: StorePurpose, out: &mut Vec<Output>) {
        match purpose {
            StorePurpose::Peer(number) => self.replica.stored(number, out),
            StorePurpose::Heal(_) => self.coordinator.end_heal(),
            StorePurpose::Operation(sequence) => {
                if let Some(operation) = self.operations.get_mut(&sequence) {
                    let progress = operation.stored(&self.coordinator);
                    self.advance(sequence, progress, out);
                }
            }
        }
    }

    /// An own operation goes on without the own copy.
    fn refused(&mut self, purpose: StorePurpose, out: &mut Vec<Output>) {
        match purpose {
            StorePurpose::Peer(number) => self.replica.refused(number, out),
            StorePurpose::Heal(_) => self.coordinator.end_heal(),
            StorePurpose::Operation(_) => {}
        }
    }

    /// Whatever unfinished operations still want to know of the process, in their order.
    fn resend(&mut self, rank: Rank, out: &mut Vec<Output>) {
        assert!(
            self.coordinator.is_peer(rank),
            "connections lead to other processes"
        );
        let mut sequences: Vec<u64> = self.operations.keys().copied().collect();
        sequences.sort_unstable();
        for sequence in sequences {
            self.operations[&sequence].resend(rank, &self.coordinator, out);
        }
    }

    /// Goes on with an operation after an input: to its next piece, or to its end and to those
    /// that waited for it.
    fn advance(&mut self, sequence: u64, progress: Progress, out: &mut Vec<Output>) {
        let everyone = match progress {
            Progress::Waiting => return,
            Progress::PieceDone { everyone } => Some(everyone),
            Progress::Unreadable => None,
        };
        let mut operation = self
            .operations
            .remove(&sequence)
            .expect("what made progress is under way");
        let finished = (everyone != Some(true)).then(|| Output::Finished {
            operation: self.coordinator.operation_id(sequence),
        });
        if everyone.is_some() && operation.begin_next(&mut self.coordinator, out) {
            out.extend(finished);
            self.operations.insert(operation.sequence(), operation);
            return;
        }
        let (ticket, lock, range) = (operation.ticket, operation.lock, operation.whole);
        let outcome = match everyone {
            Some(_) => Ok(operation.into_outcome()),
            None => Err(RegisterError::Unreadable { range }),
        };
        out.push(Output::Done { ticket, outcome });
        out.extend(finished);
        let mut granted = Vec::new();
        self.locks.release(lock, &mut granted);
        for (lock, (ticket, command)) in granted {
            self.start(lock, ticket, command, out);
        }
    }
}

fn report(from: Rank, result: Result<(), PeerFault>, out: &mut Vec<Output>) {
    if let Err(fault) = result {
        out.push(Output::Faulty { from, fault });
    }
}

/// # Panics
/// When the data is not as long as the sectors: whoever makes commands sees to that.
fn check(command: &Command) -> Result<(), RegisterError> {
    let most = match command {
        Command::Read { .. } | Command::Write { .. } => OPERATION_SECTORS_MAX,
        Command::Discard { .. } | Command::Settle { .. } => DISCARD_SECTORS_MAX,
    };
    let range = command.range();
    let sectors = range.count();
    if sectors > most {
        return Err(RegisterError::TooLong { sectors, most });
    }
    if let Command::Write { data, .. } = command {
        assert!(
            u64::try_from(data.len()) == Ok(range.bytes()),
            "a write brings exactly the bytes of its sectors"
        );
    }
    Ok(())
}
