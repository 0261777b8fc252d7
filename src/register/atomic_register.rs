//! The register itself: takes each input to whom it concerns.

use rustc_hash::FxHashMap;

use crate::domain::{Answer, Fence, Held, Rank, Reply, Request};

use super::coordinator::Coordinator;
use super::fault::{self, PeerFault};
use super::gate::{Gate, Marks, Passage};
use super::operation::{Operation, Progress, Wanted};
use super::range_locks::{LockId, Locked, RangeLocks};
use super::replica::{self, Replica};
use super::token::{LoadPurpose, StorePurpose};
use super::{
    Command, Config, DISCARD_SECTORS_MAX, Input, OPERATION_SECTORS_MAX, Outcome, Output,
    RegisterError, Ticket,
};

/// The (N,N)-AtomicRegister of many sectors: a shard of those of one process.
///
/// It has state only for sectors with work in flight, and the process's fence. All that lasts is in
/// the store.
#[derive(Debug)]
pub struct AtomicRegister {
    coordinator: Coordinator,
    gate: Gate,
    locks: RangeLocks<Wanted>,
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
            gate: Gate::new(config.fence),
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
        let first = out.len();
        self.take(input, out);
        self.gate.account(first, out);
    }

    /// How many operations are under way.
    pub fn in_flight(&self) -> usize {
        self.operations.len()
    }

    /// How many operations wait for their sectors.
    pub fn queued(&self) -> usize {
        self.locks.queued()
    }

    /// How many requests of other processes wait for the store, or for the fence that they are
    /// made under.
    pub fn answering(&self) -> usize {
        self.replica.waiting() + self.gate.waiting()
    }

    /// Whether some operation has a majority, and waits for the others only because it would be
    /// cheaper with them: [`Input::StopWaiting`] ends that.
    pub fn waits_for_more(&self) -> bool {
        let mut operations = self.operations.values();
        operations.any(|operation| self.waits(operation))
    }

    fn take(&mut self, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Command {
                ticket,
                authority,
                command,
            } => {
                let wanted = Wanted {
                    ticket,
                    authority,
                    command,
                };
                self.command(wanted, out);
            }
            Input::Request { from, request } => {
                let result = self.request(from, request, out);
                report(from, result, out);
            }
            Input::Reply { from, reply } => {
                let result = self.reply(from, reply, out);
                report(from, result, out);
            }
            Input::Loaded { token, held } => self.loaded(LoadPurpose::of(token), held, out),
            Input::Stored { token } => self.stored(StorePurpose::of(token), out),
            Input::Refused { token } => self.refused(StorePurpose::of(token), out),
            Input::PeerConnected { rank } => self.peer_connected(rank, out),
            Input::PeerDisconnected { rank } => {
                self.coordinator.disconnected(rank);
                self.reconsider(out);
            }
            Input::StopWaiting => self.stop_waiting(out),
            Input::Raise { fence } => {
                if self.gate.yields_to(fence) {
                    self.raise(fence, false, out);
                }
            }
            Input::Stable { fence } => {
                for request in self.gate.stabilize(fence) {
                    self.replica.ask(request, out);
                }
            }
        }
    }

    fn command(&mut self, wanted: Wanted, out: &mut Vec<Output>) {
        if let Err(by) = self.gate.admit(wanted.authority) {
            return end(wanted.ticket, Err(RegisterError::Fenced { by }), out);
        }
        if let Err(error) = check(&wanted.command) {
            return end(wanted.ticket, Err(error), out);
        }
        if let Command::Settle { .. } = wanted.command {
            return self.start(None, wanted, out);
        }
        let ticket = wanted.ticket;
        match self.locks.lock(wanted.command.range(), wanted) {
            Locked::Granted(lock, wanted) => self.start(Some(lock), wanted, out),
            Locked::Queued => {}
            Locked::Full => end(ticket, Err(RegisterError::QueueFull), out),
        }
    }

    fn start(&mut self, lock: Option<LockId>, wanted: Wanted, out: &mut Vec<Output>) {
        let operation = Operation::start(wanted, lock, &mut self.coordinator, out);
        self.operations.insert(operation.sequence(), operation);
    }

    fn request(
        &mut self,
        from: Rank,
        request: Request,
        out: &mut Vec<Output>,
    ) -> Result<(), PeerFault> {
        if !self.coordinator.is_peer(from) {
            return Err(PeerFault::NotAPeer(from));
        }
        fault::check_request(from, &request)?;
        let fence = request.authority;
        match self.gate.meet(fence)? {
            Passage::Open => self.replica.ask(request, out),
            Passage::Older => out.push(replica::refusal(request.id, self.gate.accepted())),
            Passage::Shut { news } => {
                if news {
                    out.push(Output::Raise { fence, open: true });
                }
                self.gate.park(request);
            }
            Passage::Newer => {
                out.push(Output::Raise { fence, open: true });
                self.raise(fence, true, out);
                self.gate.park(request);
            }
        }
        Ok(())
    }

    fn reply(&mut self, from: Rank, reply: Reply, out: &mut Vec<Output>) -> Result<(), PeerFault> {
        if !self.coordinator.is_peer(from) {
            return Err(PeerFault::NotAPeer(from));
        }
        self.coordinator.heard_from(from);
        let id = reply.id.operation;
        let ours = self.coordinator.operation_id(id.sequence);
        if id.incarnation < ours.incarnation {
            // It was asked by this process before it was started anew.
            return Ok(());
        }
        if id != ours || id.sequence >= self.coordinator.next_sequence() {
            return Err(PeerFault::NeverAsked);
        }
        if let Answer::Refused { fence } = reply.answer {
            return self.refused_by_peer(id.sequence, fence, out);
        }
        let Some(operation) = self.operations.get_mut(&id.sequence) else {
            return Ok(());
        };
        let round = reply.id.round;
        let progress = operation.answered(from, round, reply.answer, &mut self.coordinator, out)?;
        self.advance(id.sequence, progress, out);
        Ok(())
    }

    /// A newer fence ends whatever is under way (rule 10). Another one of the same number is of an
    /// open that failed: for this process, who said that has not answered.
    fn refused_by_peer(
        &mut self,
        sequence: u64,
        fence: Fence,
        out: &mut Vec<Output>,
    ) -> Result<(), PeerFault> {
        let accepted = self.gate.accepted();
        if fence.generation > accepted.generation {
            out.push(Output::Raise { fence, open: false });
            self.raise(fence, false, out);
            return Ok(());
        }
        // What is under way is of the accepted fence.
        let under_way = self.operations.contains_key(&sequence);
        if under_way && (fence.generation < accepted.generation || fence == accepted) {
            return Err(PeerFault::WrongRefusal);
        }
        Ok(())
    }

    /// Accepts another fence: all that waits or is under way is of an older one, and ends.
    fn raise(&mut self, fence: Fence, open: bool, out: &mut Vec<Output>) {
        let began = Marks {
            sequence: self.coordinator.next_sequence(),
            number: self.replica.raise(),
        };
        for request in self.gate.raise(fence, open, began) {
            out.push(replica::refusal(request.id, fence));
        }
        for sequence in self.sequences(|_| true) {
            let operation = self
                .operations
                .remove(&sequence)
                .expect("ending an operation begins no other");
            let error = RegisterError::Fenced { by: fence };
            end(operation.ticket, Err(error), out);
            let operation_id = self.coordinator.operation_id(sequence);
            out.push(Output::Finished {
                operation: operation_id,
            });
            self.release(operation.lock, out);
        }
    }

    fn loaded(&mut self, purpose: LoadPurpose, held: Held, out: &mut Vec<Output>) {
        let (sequence, progress) = match purpose {
            LoadPurpose::Peer(number) => {
                let fence = self.gate.accepted();
                return self.replica.loaded(number, held, fence, out);
            }
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
        self.gate.completed(purpose);
        match purpose {
            StorePurpose::Peer(number) => self.replica.stored(number, self.gate.accepted(), out),
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
        self.gate.completed(purpose);
        match purpose {
            StorePurpose::Peer(number) => self.replica.refused(number, self.gate.accepted(), out),
            StorePurpose::Heal(_) => self.coordinator.end_heal(),
            StorePurpose::Operation(_) => {}
        }
    }

    /// Sends whatever unfinished operations still want to know of the process, in their order.
    fn peer_connected(&mut self, rank: Rank, out: &mut Vec<Output>) {
        assert!(
            self.coordinator.is_peer(rank),
            "connections lead to other processes"
        );
        self.coordinator.connected(rank);
        for sequence in self.sequences(|_| true) {
            self.operations[&sequence].resend(rank, &self.coordinator, out);
        }
    }

    /// Whoever keeps an operation waiting is not worth it.
    fn stop_waiting(&mut self, out: &mut Vec<Output>) {
        for rank in self.coordinator.others() {
            let mut operations = self.operations.values();
            if operations.any(|operation| operation.waits_for(rank)) {
                self.coordinator.give_up_on(rank);
            }
        }
        self.reconsider(out);
    }

    /// Goes on with the operations that wait, where nobody is left that they wait for.
    fn reconsider(&mut self, out: &mut Vec<Output>) {
        for sequence in self.sequences(|operation| self.waits(operation)) {
            if let Some(operation) = self.operations.get_mut(&sequence) {
                let progress = operation.reconsider(&mut self.coordinator, out);
                self.advance(sequence, progress, out);
            }
        }
    }

    fn waits(&self, operation: &Operation) -> bool {
        let mut others = self.coordinator.others();
        others.any(|rank| operation.waits_for(rank))
    }

    /// The sequence numbers of some of the operations, in their order.
    fn sequences(&self, which: impl Fn(&Operation) -> bool) -> Vec<u64> {
        let chosen = self
            .operations
            .iter()
            .filter(|(_, operation)| which(operation));
        let mut sequences: Vec<u64> = chosen.map(|(&sequence, _)| sequence).collect();
        sequences.sort_unstable();
        sequences
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
        end(ticket, outcome, out);
        out.extend(finished);
        self.release(lock, out);
    }

    /// Gives an operation's sectors to those that waited for them. A fence may have been accepted
    /// while they did (rule 2): then they end, and give the sectors on in turn.
    fn release(&mut self, lock: Option<LockId>, out: &mut Vec<Output>) {
        let mut granted = Vec::new();
        if let Some(lock) = lock {
            self.locks.release(lock, &mut granted);
        }
        let fence = self.gate.accepted();
        while !granted.is_empty() {
            for (lock, wanted) in std::mem::take(&mut granted) {
                if wanted.authority == fence {
                    self.start(Some(lock), wanted, out);
                } else {
                    end(wanted.ticket, Err(RegisterError::Fenced { by: fence }), out);
                    self.locks.release(lock, &mut granted);
                }
            }
        }
    }
}

fn end(ticket: Ticket, outcome: Result<Outcome, RegisterError>, out: &mut Vec<Output>) {
    out.push(Output::Done { ticket, outcome });
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
