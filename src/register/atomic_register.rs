//! The register itself: takes each input to whom it concerns.

use crate::domain::{Answer, Fence, Held, Rank, Reply, Request};

use super::fault::{self, PeerFault};
use super::gate::{Gate, Marks, Passage};
use super::operation::Wanted;
use super::operations::Operations;
use super::replica::{self, Replica};
use super::token::{LoadPurpose, StorePurpose};
use super::{Config, Input, Output, RegisterError};

/// The (N,N)-AtomicRegister of many sectors: a shard of those of one process.
///
/// It has state only for sectors with work in flight, and the process's fence. All that lasts is in
/// the store.
#[derive(Debug)]
pub struct AtomicRegister {
    gate: Gate,
    operations: Operations,
    replica: Replica,
}

impl AtomicRegister {
    /// A register with nothing under way.
    ///
    /// # Panics
    /// When the own rank is none of the processes'.
    pub fn new(config: Config) -> Self {
        Self {
            gate: Gate::new(config.fence),
            operations: Operations::new(config),
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
        self.operations.in_flight()
    }

    /// How many operations wait for their sectors.
    pub fn queued(&self) -> usize {
        self.operations.queued()
    }

    /// How many requests of other processes wait for the store, or for the fence that they are
    /// made under.
    pub fn answering(&self) -> usize {
        self.replica.waiting() + self.gate.waiting()
    }

    /// Whether some operation has a majority, and waits for the others only because it would be
    /// cheaper with them: [`Input::StopWaiting`] ends that.
    pub fn waits_for_more(&self) -> bool {
        self.operations.waits_for_more()
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
            Input::PeerConnected { rank } => self.operations.peer_connected(rank, out),
            Input::PeerDisconnected { rank } => self.operations.peer_disconnected(rank, out),
            Input::StopWaiting => self.operations.stop_waiting(out),
            Input::Raise { fence } => {
                if self.gate.yields_to(fence) {
                    self.raise(fence, false, out);
                } else if self.gate.excludes(fence) {
                    self.insist(out);
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
        match self.gate.admit(wanted.authority) {
            Ok(()) => self.operations.command(wanted, out),
            Err(by) => out.push(Output::Done {
                ticket: wanted.ticket,
                outcome: Err(RegisterError::Fenced { by }),
            }),
        }
    }

    fn request(
        &mut self,
        from: Rank,
        request: Request,
        out: &mut Vec<Output>,
    ) -> Result<(), PeerFault> {
        if !self.operations.coordinator().is_peer(from) {
            return Err(PeerFault::NotAPeer(from));
        }
        fault::check_request(from, &request)?;
        let fence = request.authority;
        match self.gate.meet(fence)? {
            Passage::Open => self.replica.ask(request, out),
            Passage::Older => out.push(replica::refusal(request.id, self.gate.accepted())),
            Passage::Shut => self.gate.park(request),
            Passage::Newer => {
                out.push(Output::Raise { fence });
                self.raise(fence, true, out);
                self.gate.park(request);
            }
        }
        Ok(())
    }

    fn reply(&mut self, from: Rank, reply: Reply, out: &mut Vec<Output>) -> Result<(), PeerFault> {
        let coordinator = self.operations.coordinator();
        if !coordinator.is_peer(from) {
            return Err(PeerFault::NotAPeer(from));
        }
        let id = reply.id.operation;
        let ours = coordinator.operation_id(id.sequence);
        if id.incarnation < ours.incarnation {
            // It was asked by this process before it was started anew.
            return Ok(());
        }
        if id != ours || id.sequence >= coordinator.next_sequence() {
            return Err(PeerFault::NeverAsked);
        }
        self.operations.heard_from(from);
        if let Answer::Refused { fence } = reply.answer {
            return self.refused_by_peer(id.sequence, fence, out);
        }
        self.operations.answered(from, reply, out)
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
            out.push(Output::Raise { fence });
            self.raise(fence, false, out);
            return Ok(());
        }
        // What is under way is of the accepted fence.
        let under_way = self.operations.is_under_way(sequence);
        if under_way && (fence.generation < accepted.generation || fence == accepted) {
            return Err(PeerFault::WrongRefusal);
        }
        Ok(())
    }

    /// Accepts another fence: whatever is of an older one ends.
    fn raise(&mut self, fence: Fence, open: bool, out: &mut Vec<Output>) {
        for request in self.gate.raise(fence, open, self.began()) {
            out.push(replica::refusal(request.id, fence));
        }
        self.replica.raise();
        self.operations.raise(fence, out);
    }

    /// Tells the keeper of the accepted fence once more: the one that it has raised failed to open.
    fn insist(&mut self, out: &mut Vec<Output>) {
        let fence = self.gate.accepted();
        out.push(Output::Raise { fence });
        self.gate.drain(self.began());
    }

    fn began(&self) -> Marks {
        Marks {
            sequence: self.operations.coordinator().next_sequence(),
            number: self.replica.next_number(),
        }
    }

    fn loaded(&mut self, purpose: LoadPurpose, held: Held, out: &mut Vec<Output>) {
        match purpose {
            LoadPurpose::Peer(number) => {
                self.replica.loaded(number, held, self.gate.accepted(), out);
            }
            LoadPurpose::Votes(sequence) => self.operations.votes_loaded(sequence, held, out),
            LoadPurpose::Values(sequence) => self.operations.values_loaded(sequence, held, out),
        }
    }

    fn stored(&mut self, purpose: StorePurpose, out: &mut Vec<Output>) {
        self.gate.completed(purpose);
        match purpose {
            StorePurpose::Peer(number) => self.replica.stored(number, self.gate.accepted(), out),
            StorePurpose::Heal(_) => self.operations.end_heal(),
            StorePurpose::Operation(sequence) => self.operations.stored(sequence, out),
        }
    }

    fn refused(&mut self, purpose: StorePurpose, out: &mut Vec<Output>) {
        self.gate.completed(purpose);
        match purpose {
            StorePurpose::Peer(number) => self.replica.refused(number, self.gate.accepted(), out),
            StorePurpose::Heal(_) => self.operations.end_heal(),
            StorePurpose::Operation(sequence) => self.operations.refused(sequence, out),
        }
    }
}

fn report(from: Rank, result: Result<(), PeerFault>, out: &mut Vec<Output>) {
    if let Err(fault) = result {
        out.push(Output::Faulty { from, fault });
    }
}
