//! The registers of a process, driven as the real driver drives them.

use std::collections::VecDeque;

use atdd::attachment;
use atdd::domain::{Answer, Content, Extent, Fence, Mode, Question};
use atdd::register::{Command, Input, Outcome, Output, RegisterError, Ticket};

use crate::history::Kind;
use crate::process::{Running, Task, Worker};
use crate::world::{Event, Message, World, rank};

impl World {
    /// Gives an operation to the register that has its sectors, for the first time or again.
    pub(crate) fn command(&mut self, place: usize, number: usize, authority: Fence) -> Ticket {
        let may_run = self.bug.is_some() || self.is_home(place, authority);
        assert!(may_run, "{authority:?} does not run at {}", rank(place));
        let ticket = self.history.attempt(number, authority);
        let record = self.history.record(number);
        let (kind, range) = (record.kind, record.range);
        self.trace(|_| format!("{}: {kind:?} {number} of {range:?}", rank(place)));
        let command = match kind {
            Kind::Read => Command::Read { range },
            Kind::Discard => Command::Discard { range },
            Kind::Write => Command::Write {
                range,
                data: self.history.data(number),
            },
        };
        self.give(place, ticket, authority, command);
        ticket
    }

    /// Puts a command on the desk of the register that has its sectors.
    pub(crate) fn give(
        &mut self,
        place: usize,
        ticket: Ticket,
        authority: Fence,
        command: Command,
    ) {
        let shard = self.shard_of(command.range().first());
        let input = Input::Command {
            ticket,
            authority,
            command,
        };
        self.put(place, Worker::Register(shard), Task::Register(input));
    }

    /// Feeds an input to a register, and does what it wants done, unless the process crashes
    /// first.
    pub(crate) fn step_register(
        &mut self,
        place: usize,
        shard: u8,
        input: Input,
    ) -> Result<(), String> {
        let life = self.processes[place].life;
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            if self.processes[place].life != life {
                return Ok(());
            }
            self.trace(|_| format!("{}/{shard} <- {input:?}", rank(place)));
            let mut outputs = Vec::new();
            if !self.may_be_told(place, shard, &input, &mut outputs) {
                break;
            }
            let running = self.running(place);
            if let Input::Command { ticket, .. } = &input {
                running.under_way.insert(*ticket);
            }
            let register = &mut running.registers[usize::from(shard)];
            register.step(input, &mut outputs);
            let queued = register.queued();
            if queued > self.scenario.queue_max {
                return Err(format!("{queued} operations are queued"));
            }
            self.falsify(place, shard, &mut outputs);
            for output in outputs {
                if self.is_stormy() && matters(&output) && self.dice.chance(self.scenario.aimed) {
                    return self.crash(place);
                }
                self.trace(|_| format!("{}/{shard} -> {output:?}", rank(place)));
                self.perform(place, shard, output, &mut inputs)?;
            }
            self.keep_time(place, shard);
        }
        Ok(())
    }

    /// A register with work in flight is told from time to time to wait no longer.
    pub(crate) fn keep_time(&mut self, place: usize, shard: u8) {
        let running = self.running(place);
        let register = &running.registers[usize::from(shard)];
        if register.in_flight() == 0 || !running.timed.insert(shard) {
            return;
        }
        let delay = self.dice.between(1, self.scenario.patience_max);
        let life = self.processes[place].life;
        let process = place;
        self.schedule(
            delay,
            Event::Tick {
                process,
                life,
                shard,
            },
        );
    }

    /// It is time to wait no longer.
    pub(crate) fn tick(&mut self, place: usize, life: u64, shard: u8) {
        if self.processes[place].life == life {
            self.running(place).timed.remove(&shard);
            let task = Task::Register(Input::StopWaiting);
            self.put(place, Worker::Register(shard), task);
            self.keep_time(place, shard);
        }
    }

    /// What is running there, which is up.
    pub(crate) fn running(&mut self, place: usize) -> &mut Running {
        let running = self.processes[place].running.as_mut();
        running.expect("only those who are up do anything")
    }

    fn perform(
        &mut self,
        place: usize,
        shard: u8,
        output: Output,
        inputs: &mut VecDeque<Input>,
    ) -> Result<(), String> {
        match output {
            Output::Request { to, request } => {
                if to == rank(place) {
                    return Err(format!("{to} sends itself a message"));
                }
                return self.request(place, to.place(), request);
            }
            Output::Reply { to, reply } => self.send(place, to.place(), &Message::Reply(reply)),
            Output::Load {
                token,
                range,
                newer_than,
            } => {
                let held = self.load(place, shard, token, range, newer_than.as_ref());
                inputs.extend(held.map(|held| Input::Loaded { token, held }));
            }
            Output::Store { token, extents } => return self.store(place, shard, token, extents),
            Output::Done { ticket, outcome } => return self.done(place, ticket, outcome),
            Output::Raise { fence, .. } => {
                let input = attachment::Input::Raise { fence };
                self.put(place, Worker::Keeper, Task::Keeper(input));
            }
            Output::Drained { generation } => {
                let input = attachment::Input::Drained { shard, generation };
                self.put(place, Worker::Keeper, Task::Keeper(input));
            }
            Output::Decline { to, .. } if self.bug.is_none() => {
                return Err(format!("{to} is declined an answer"));
            }
            Output::Faulty { from, fault } if self.bug.is_none() => {
                return Err(format!("{from} is accused: {fault}"));
            }
            // Registers that are lied to have reason to complain.
            Output::Finished { .. } | Output::Decline { .. } | Output::Faulty { .. } => {}
        }
        Ok(())
    }

    fn done(
        &mut self,
        place: usize,
        ticket: Ticket,
        outcome: Result<Outcome, RegisterError>,
    ) -> Result<(), String> {
        self.running(place).under_way.remove(&ticket);
        if ticket >= AHEAD {
            return match outcome {
                Ok(Outcome::Settled)
                | Err(RegisterError::Fenced { .. } | RegisterError::QueueFull) => Ok(()),
                other => Err(format!("settling ahead ends with {other:?}")),
            };
        }
        let number = self.history.number(ticket);
        let fits = match (&outcome, self.history.record(number).kind) {
            (Ok(Outcome::Read(_)), kind) => kind == Kind::Read,
            (Ok(Outcome::Written), kind) => kind != Kind::Read,
            (Ok(Outcome::Settled) | Err(RegisterError::TooLong { .. }), _) => false,
            (Err(RegisterError::Unreadable { .. }), _) => self.scenario.rot_of_majorities,
            (Err(RegisterError::Fenced { .. } | RegisterError::QueueFull), _) => true,
        };
        if !fits {
            return Err(format!("operation {number} ends with {outcome:?}"));
        }
        if outcome.is_ok() {
            let (attempt, begun) = self.history.attempted(ticket);
            self.tally
                .count(match (attempt.fence.mode, attempt.fence.generation.0) {
                    (Mode::Exclusive { .. }, _) => "op exclusive",
                    (Mode::Reading { .. }, _) => "op reading",
                    (Mode::Shared, 0) => "op generation 0",
                    (Mode::Shared, _) => "op shared",
                });
            self.ledger.done(begun, attempt.fence.generation);
        }
        if self.adopts(place, ticket, &outcome) {
            return Ok(());
        }
        self.reported(place, ticket, outcome)
    }

    /// Learns the stamps of discards from what their coordinator stores.
    pub(crate) fn note_stored(
        &mut self,
        place: usize,
        extents: &mut [Extent],
    ) -> Result<(), String> {
        let process = &self.processes[place];
        let incarnation = process.incarnation;
        for extent in extents {
            let own = extent.stamp.rank == Some(rank(place));
            let tombstone = extent.content == Content::Zeroes;
            if own && extent.stamp.incarnation == incarnation && tombstone && self.bug.is_none() {
                let running = process.running.as_ref().ok_or("who is down stores not")?;
                let under_way = running.under_way.iter().copied();
                self.history.tombstone(&under_way, extent)?;
            }
            self.restamp(extent);
        }
        Ok(())
    }
}

/// Tickets from this one on are for settling ahead of need.
pub(crate) const AHEAD: Ticket = Ticket(1 << 60);

/// Outputs around which a crash hurts most.
fn matters(output: &Output) -> bool {
    match output {
        Output::Request { request, .. } => matches!(request.question, Question::Store { .. }),
        Output::Reply { reply, .. } => {
            matches!(reply.answer, Answer::Stored | Answer::Refused { .. })
        }
        Output::Store { .. }
        | Output::Done { .. }
        | Output::Raise { .. }
        | Output::Drained { .. } => true,
        Output::Load { .. }
        | Output::Decline { .. }
        | Output::Finished { .. }
        | Output::Faulty { .. } => false,
    }
}
