//! The operations of this process's clients: which are under way, and which wait for their sectors.

use rustc_hash::FxHashMap;

use crate::domain::{Fence, Held, Rank, Reply};

use super::coordinator::Coordinator;
use super::fault::PeerFault;
use super::operation::{Operation, Progress, Wanted};
use super::range_locks::{LockId, Locked, RangeLocks};
use super::{
    Command, Config, DISCARD_SECTORS_MAX, OPERATION_SECTORS_MAX, Outcome, Output, RegisterError,
    Ticket,
};

/// The operations of one register.
#[derive(Debug)]
pub(super) struct Operations {
    coordinator: Coordinator,
    /// The accepted fence: all of them are of it.
    fence: Fence,
    locks: RangeLocks<Wanted>,
    /// By the sequence number of the piece that each is at.
    under_way: FxHashMap<u64, Operation>,
}

impl Operations {
    /// # Panics
    /// When the own rank is none of the processes'.
    pub(super) fn new(config: Config) -> Self {
        Self {
            coordinator: Coordinator::new(config),
            fence: config.fence,
            locks: RangeLocks::new(config.queue_max),
            under_way: FxHashMap::default(),
        }
    }

    /// A client's operation, of the accepted fence.
    pub(super) fn command(&mut self, wanted: Wanted, out: &mut Vec<Output>) {
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

    /// Another fence is accepted: all that waits or is under way is of an older one, and ends.
    pub(super) fn raise(&mut self, fence: Fence, out: &mut Vec<Output>) {
        self.fence = fence;
        for sequence in self.sequences(|_| true) {
            let operation = self
                .under_way
                .remove(&sequence)
                .expect("ending an operation begins no other");
            end(
                operation.ticket,
                Err(RegisterError::Fenced { by: fence }),
                out,
            );
            out.push(self.finished(sequence));
            self.release(operation.lock, out);
        }
    }

    /// Another process's answer, unless it is a refusal, to what was asked in this start.
    pub(super) fn answered(
        &mut self,
        from: Rank,
        reply: Reply,
        out: &mut Vec<Output>,
    ) -> Result<(), PeerFault> {
        let sequence = reply.id.operation.sequence;
        let Some(operation) = self.under_way.get_mut(&sequence) else {
            return Ok(());
        };
        let round = reply.id.round;
        let progress = operation.answered(from, round, reply.answer, &mut self.coordinator, out)?;
        self.advance(sequence, progress, out);
        Ok(())
    }

    /// The own votes in the operation of this number.
    pub(super) fn votes_loaded(&mut self, sequence: u64, held: Held, out: &mut Vec<Output>) {
        if let Some(operation) = self.under_way.get_mut(&sequence) {
            let progress = operation.votes_loaded(held, &mut self.coordinator, out);
            self.advance(sequence, progress, out);
        }
    }

    /// The own values in the operation of this number.
    pub(super) fn values_loaded(&mut self, sequence: u64, held: Held, out: &mut Vec<Output>) {
        if let Some(operation) = self.under_way.get_mut(&sequence) {
            let progress = operation.values_loaded(held, &mut self.coordinator, out);
            self.advance(sequence, progress, out);
        }
    }

    /// The own copy in the operation of this number is stable.
    pub(super) fn stored(&mut self, sequence: u64, out: &mut Vec<Output>) {
        if let Some(operation) = self.under_way.get_mut(&sequence) {
            let progress = operation.stored(&self.coordinator);
            self.advance(sequence, progress, out);
        }
    }

    /// The own copy in the operation of this number will never be stable.
    pub(super) fn refused(&mut self, sequence: u64, out: &mut Vec<Output>) {
        if let Some(operation) = self.under_way.get(&sequence) {
            let progress = operation.refused();
            self.advance(sequence, progress, out);
        }
    }

    /// The healing of a damaged copy is over.
    pub(super) fn end_heal(&mut self) {
        self.coordinator.end_heal();
    }

    /// There is a connection to the process: sends whatever is still to be known of it.
    pub(super) fn peer_connected(&mut self, rank: Rank, out: &mut Vec<Output>) {
        assert!(
            self.coordinator.is_peer(rank),
            "connections lead to other processes"
        );
        self.coordinator.connected(rank);
        for sequence in self.sequences(|_| true) {
            self.under_way[&sequence].resend(rank, &self.coordinator, out);
        }
    }

    /// There is no connection to the process.
    pub(super) fn peer_disconnected(&mut self, rank: Rank, out: &mut Vec<Output>) {
        self.coordinator.disconnected(rank);
        self.reconsider(out);
    }

    /// The process has answered something.
    pub(super) fn heard_from(&mut self, rank: Rank) {
        self.coordinator.heard_from(rank);
    }

    /// Whoever keeps an operation waiting that has its majority is not worth it.
    pub(super) fn stop_waiting(&mut self, out: &mut Vec<Output>) {
        for rank in self.coordinator.others() {
            let mut operations = self.under_way.values();
            if operations.any(|operation| operation.waits_for(rank)) {
                self.coordinator.give_up_on(rank);
            }
        }
        self.reconsider(out);
    }

    /// Whether some operation has its majority, and waits for others.
    pub(super) fn waits_for_more(&self) -> bool {
        let mut operations = self.under_way.values();
        operations.any(|operation| self.waits(operation))
    }

    /// How many are under way.
    pub(super) fn in_flight(&self) -> usize {
        self.under_way.len()
    }

    /// How many wait for their sectors.
    pub(super) fn queued(&self) -> usize {
        self.locks.queued()
    }

    /// Whether the operation of this number is under way.
    pub(super) fn is_under_way(&self, sequence: u64) -> bool {
        self.under_way.contains_key(&sequence)
    }

    /// What they have in common.
    pub(super) fn coordinator(&self) -> &Coordinator {
        &self.coordinator
    }

    fn start(&mut self, lock: Option<LockId>, wanted: Wanted, out: &mut Vec<Output>) {
        let operation = Operation::start(wanted, lock, &mut self.coordinator, out);
        self.under_way.insert(operation.sequence(), operation);
    }

    /// Goes on with the operations that wait for others, where nobody is left to wait for.
    fn reconsider(&mut self, out: &mut Vec<Output>) {
        for sequence in self.sequences(|operation| self.waits(operation)) {
            if let Some(operation) = self.under_way.get_mut(&sequence) {
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
            .under_way
            .iter()
            .filter(|(_, operation)| which(operation));
        let mut sequences: Vec<u64> = chosen.map(|(&sequence, _)| sequence).collect();
        sequences.sort_unstable();
        sequences
    }

    fn finished(&self, sequence: u64) -> Output {
        let operation = self.coordinator.operation_id(sequence);
        Output::Finished { operation }
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
            .under_way
            .remove(&sequence)
            .expect("what made progress is under way");
        let finished = (everyone != Some(true)).then(|| self.finished(sequence));
        if everyone.is_some() && operation.begin_next(&mut self.coordinator, out) {
            out.extend(finished);
            self.under_way.insert(operation.sequence(), operation);
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
        let fence = self.fence;
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
