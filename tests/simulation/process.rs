//! One process: a real register, driven as the real driver drives it.

use std::collections::{BTreeSet, VecDeque};

use atdd::domain::{Answer, Incarnation, Question};
use atdd::register::{AtomicRegister, Config, Input, Outcome, Output, RegisterError, Ticket};

use crate::bug::Bug;
use crate::clients::Client;
use crate::disk::Disk;
use crate::scenario::Scenario;
use crate::world::{Message, World, rank};

/// A process: what a crash takes, and what it leaves.
pub(crate) struct Process {
    pub(crate) disk: Disk,
    pub(crate) incarnation: Incarnation,
    /// Counts crashes and starts.
    pub(crate) life: u64,
    pub(crate) clients: Vec<Client>,
    /// Nothing while the process is down.
    pub(crate) register: Option<AtomicRegister>,
    /// The own reads, by the sequence numbers of their pieces, for planted bugs.
    pub(crate) reads: BTreeSet<(Incarnation, u64)>,
    /// What a planted bug starts over after a crash.
    pub(crate) unanswered_writes: Vec<usize>,
}

impl Process {
    pub(crate) fn new(place: usize, scenario: &Scenario, bug: Option<Bug>) -> Self {
        let clients = (0..scenario.clients_per_process)
            .map(|_| Client::new(scenario.operations_per_client))
            .collect();
        let mut process = Self {
            disk: Disk::default(),
            incarnation: Incarnation(1),
            life: 0,
            clients,
            register: None,
            reads: BTreeSet::new(),
            unanswered_writes: Vec::new(),
        };
        process.disk.damage_reads_as_empty = bug == Some(Bug::DamageVotesAsEmpty);
        process.disk.answers_unsynced = bug == Some(Bug::UnstableAnswers);
        process.boot(place, scenario);
        process
    }

    /// A new register, of which nothing remains but the disk.
    pub(crate) fn boot(&mut self, place: usize, scenario: &Scenario) {
        self.life += 1;
        self.register = Some(AtomicRegister::new(Config {
            own: rank(place),
            processes: scenario.processes,
            incarnation: self.incarnation,
            shard: 0,
            queue_max: scenario.queue_max,
        }));
    }

    pub(crate) fn is_up(&self) -> bool {
        self.register.is_some()
    }
}

impl World {
    /// Feeds an input to a process that is up, and does what it wants done, unless it crashes
    /// first.
    pub(crate) fn step(&mut self, place: usize, input: Input) -> Result<(), String> {
        let life = self.processes[place].life;
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            if self.processes[place].life != life {
                return Ok(());
            }
            if !matches!(input, Input::Command { .. }) {
                self.trace(|_| format!("{} <- {input:?}", rank(place)));
            }
            let mut outputs = Vec::new();
            let register = self.processes[place].register.as_mut();
            let register = register.ok_or("a process that is down takes no input")?;
            register.step(input, &mut outputs);
            if register.queued() > self.scenario.queue_max {
                return Err(format!("{} operations are queued", register.queued()));
            }
            for output in outputs {
                if self.is_stormy() && matters(&output) && self.dice.chance(self.scenario.aimed) {
                    return self.crash(place);
                }
                self.trace(|_| format!("{} -> {output:?}", rank(place)));
                self.perform(place, output, &mut inputs)?;
            }
        }
        Ok(())
    }

    fn perform(
        &mut self,
        place: usize,
        output: Output,
        inputs: &mut VecDeque<Input>,
    ) -> Result<(), String> {
        match output {
            Output::Request { to, request } => {
                if to == rank(place) {
                    return Err(format!("{to} sends itself a message"));
                }
                self.request(place, to.place(), request, inputs)
            }
            Output::Reply { to, reply } => {
                self.send(place, to.place(), &Message::Reply(reply));
                Ok(())
            }
            Output::Load {
                token,
                range,
                newer_than,
            } => {
                self.load(place, token, range, newer_than.as_ref(), inputs);
                Ok(())
            }
            Output::Store { token, extents } => self.store(place, token, extents, inputs),
            Output::Decline { to, .. } => Err(format!("{to} is declined an answer")),
            Output::Done { ticket, outcome } => self.done(place, ticket, outcome),
            Output::Finished { .. } => Ok(()),
            // Registers that are lied to have reason to complain.
            Output::Faulty { .. } if self.bug.is_some() => Ok(()),
            Output::Faulty { from, fault } => Err(format!("{from} is accused: {fault}")),
        }
    }

    fn done(
        &mut self,
        place: usize,
        ticket: Ticket,
        outcome: Result<Outcome, RegisterError>,
    ) -> Result<(), String> {
        let number = usize::try_from(ticket.0).unwrap();
        if self.bug == Some(Bug::RestartedWrite) && self.history.is_cut_off(number) {
            return Ok(());
        }
        match outcome {
            Ok(Outcome::Read(extents)) => {
                self.history.read(number, &extents)?;
            }
            Ok(Outcome::Written) => self.history.written(number)?,
            Err(RegisterError::QueueFull) => self.history.refused(number)?,
            Err(RegisterError::Unreadable { .. }) if self.scenario.rot_of_majorities => {
                self.history.cut_off(number)?;
            }
            Err(error) => return Err(format!("operation {number} fails: {error}")),
        }
        self.answered(place, number);
        Ok(())
    }
}

/// Outputs around which a crash hurts most.
fn matters(output: &Output) -> bool {
    match output {
        Output::Request { request, .. } => matches!(request.question, Question::Store { .. }),
        Output::Reply { reply, .. } => reply.answer == Answer::Stored,
        Output::Store { .. } | Output::Done { .. } => true,
        Output::Load { .. }
        | Output::Decline { .. }
        | Output::Finished { .. }
        | Output::Faulty { .. } => false,
    }
}
