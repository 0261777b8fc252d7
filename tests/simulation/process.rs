//! One process: a real register, driven as the real driver drives it.

use std::collections::{BTreeSet, VecDeque};

use atdd::domain::{
    Answer, Extent, Held, Incarnation, Question, Reply, Request, RequestId, Runs, SectorRange, Vote,
};
use atdd::register::{
    AtomicRegister, Config, Input, LoadToken, Outcome, Output, RegisterError, StoreToken, Ticket,
};

use crate::bug::Bug;
use crate::clients::Client;
use crate::disk::Disk;
use crate::scenario::Scenario;
use crate::world::{Event, Message, World, rank};

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
    reads: BTreeSet<(Incarnation, u64)>,
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
            self.trace(|_| format!("{} <- {input:?}", rank(place)));
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
            Output::Done { ticket, outcome } => self.done(place, ticket, outcome),
            Output::Finished { .. } => Ok(()),
            // Registers that are lied to have reason to complain.
            Output::Faulty { .. } if self.bug.is_some() => Ok(()),
            Output::Faulty { from, fault } => Err(format!("{from} is accused: {fault}")),
        }
    }

    fn request(
        &mut self,
        place: usize,
        to: usize,
        mut request: Request,
        inputs: &mut VecDeque<Input>,
    ) -> Result<(), String> {
        let process = &mut self.processes[place];
        let id = request.id;
        let name = (id.operation.incarnation, id.operation.sequence);
        match &mut request.question {
            Question::Values { .. } => {
                process.reads.insert(name);
            }
            Question::Stamps { .. } => {}
            Question::Store { extents } => {
                if self.bug == Some(Bug::NoWriteBack) && process.reads.contains(&name) {
                    inputs.push_back(imagined(to, id, Answer::Stored));
                    return Ok(());
                }
                self.note_stored(place, extents)?;
            }
        }
        if self.bug == Some(Bug::SubMajority) && to == self.imagined_voter(place) {
            inputs.push_back(imagined(to, id, empty_answer(&request.question)));
        }
        self.send(place, to, &Message::Request(request));
        Ok(())
    }

    fn store(
        &mut self,
        place: usize,
        token: StoreToken,
        mut extents: Vec<Extent>,
        inputs: &mut VecDeque<Input>,
    ) -> Result<(), String> {
        self.note_stored(place, &mut extents)?;
        let life = self.processes[place].life;
        self.processes[place].disk.accept(token.0, extents);
        let delay = self.dice.between(1, self.scenario.sync_max);
        let process = place;
        self.schedule(
            delay,
            Event::Sync {
                process,
                life,
                token,
            },
        );
        if self.bug == Some(Bug::AcknowledgeBeforeStore) {
            inputs.push_back(Input::Stored { token });
        }
        Ok(())
    }

    /// Learns the stamps of discards from what their coordinator stores.
    fn note_stored(&mut self, place: usize, extents: &mut [Extent]) -> Result<(), String> {
        let incarnation = self.processes[place].incarnation;
        for extent in extents {
            let own = extent.stamp.rank == Some(rank(place));
            let tombstone = extent.content == atdd::domain::Content::Zeroes;
            if own && extent.stamp.incarnation == incarnation && tombstone && self.bug.is_none() {
                self.history.tombstone(place, extent)?;
            }
            if self.bug == Some(Bug::RankNotCompared) {
                extent.stamp.rank = Some(rank(0));
                extent.stamp.incarnation = Incarnation(1);
            }
        }
        Ok(())
    }

    /// A store becomes stable: a crash no longer undoes it, though nobody has been told.
    pub(crate) fn sync(&mut self, place: usize, life: u64, token: StoreToken) {
        let process = &mut self.processes[place];
        if process.life != life || !process.is_up() {
            return;
        }
        let extents = process.disk.sync(token.0);
        self.trace(|_| format!("{} holds {extents:?}", rank(place)));
        // A damaged copy of a newer value than this is neither replaced nor acknowledged.
        if self.bug != Some(Bug::AcknowledgeBeforeStore)
            && self.processes[place].disk.holds(&extents)
        {
            let process = place;
            let delay = self.dice.between(0, self.scenario.sync_max);
            self.schedule(
                delay,
                Event::Stored {
                    process,
                    life,
                    token,
                },
            );
        }
    }

    pub(crate) fn stored(
        &mut self,
        place: usize,
        life: u64,
        token: StoreToken,
    ) -> Result<(), String> {
        if self.processes[place].life != life {
            return Ok(());
        }
        self.step(place, Input::Stored { token })
    }

    /// Reads stable state now, and says so now or later.
    fn load(
        &mut self,
        place: usize,
        token: LoadToken,
        range: SectorRange,
        newer_than: Option<&Runs<Vote>>,
        inputs: &mut VecDeque<Input>,
    ) {
        let short = self.dice.chance(self.scenario.short_votes);
        let sectors = if short {
            u32::try_from(self.dice.between(1, range.count().into())).unwrap()
        } else {
            range.count()
        };
        let process = &self.processes[place];
        let life = process.life;
        let held = process.disk.load(range, sectors, newer_than);
        if self.dice.chance(self.scenario.loads_at_once) {
            inputs.push_back(Input::Loaded { token, held });
            return;
        }
        let process = place;
        let delay = self.dice.between(1, self.scenario.sync_max);
        self.schedule(
            delay,
            Event::Loaded {
                process,
                life,
                token,
                held,
            },
        );
    }

    pub(crate) fn loaded(
        &mut self,
        place: usize,
        life: u64,
        token: LoadToken,
        held: Held,
    ) -> Result<(), String> {
        if self.processes[place].life != life {
            return Ok(());
        }
        self.step(place, Input::Loaded { token, held })
    }

    fn send(&mut self, from: usize, to: usize, message: &Message) {
        let Some((connection, arrives)) = self.network.route(from, to) else {
            return;
        };
        if !arrives {
            return;
        }
        let copies = 1 + u64::from(self.dice.chance(self.scenario.duplicated));
        for _ in 0..copies {
            let late = self.dice.chance(self.scenario.late);
            let slow = if self.dice.chance(self.scenario.slow) {
                20
            } else {
                1
            };
            let delay = slow * self.dice.between(1, self.scenario.delay_max);
            let message = message.clone();
            let connection = (!late).then_some(connection);
            self.schedule(
                delay,
                Event::Deliver {
                    from,
                    to,
                    message,
                    connection,
                },
            );
        }
    }

    pub(crate) fn deliver(
        &mut self,
        from: usize,
        to: usize,
        message: Message,
        connection: Option<u64>,
    ) -> Result<(), String> {
        let current = |connection| self.network.is_current(from, to, connection);
        if !self.processes[to].is_up() || !connection.is_none_or(current) {
            return Ok(());
        }
        match message {
            Message::Request(request) => {
                let from = rank(from);
                self.step(to, Input::Request { from, request })
            }
            Message::Reply(reply) => {
                let another = (0..self.processes.len()).find(|&place| place != from && place != to);
                if self.bug == Some(Bug::ReplyCountedTwice)
                    && let Some(another) = another
                {
                    let life = self.processes[to].life;
                    let reply = reply.clone();
                    let from = rank(another);
                    self.step(to, Input::Reply { from, reply })?;
                    if self.processes[to].life != life {
                        return Ok(());
                    }
                }
                let from = rank(from);
                self.step(to, Input::Reply { from, reply })
            }
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

    fn imagined_voter(&self, place: usize) -> usize {
        let last = self.processes.len() - 1;
        if place == last { last - 1 } else { last }
    }
}

/// Outputs around which a crash hurts most.
fn matters(output: &Output) -> bool {
    match output {
        Output::Request { request, .. } => matches!(request.question, Question::Store { .. }),
        Output::Reply { reply, .. } => reply.answer == Answer::Stored,
        Output::Store { .. } | Output::Done { .. } => true,
        Output::Load { .. } | Output::Finished { .. } | Output::Faulty { .. } => false,
    }
}

fn imagined(from: usize, id: RequestId, answer: Answer) -> Input {
    Input::Reply {
        from: rank(from),
        reply: Reply { id, answer },
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
    }
}
