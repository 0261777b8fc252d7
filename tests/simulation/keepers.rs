//! The keeper of a process, driven as the real driver drives it.

use atdd::attachment::{AttachmentId, Input, Output};
use atdd::domain::{Answer, Fence, Holder, Mode, Question};
use atdd::register;

use crate::process::{Task, Worker};
use crate::world::{Event, Message, World, rank};

impl World {
    /// Feeds an input to the keeper, and does what it wants done, unless the process crashes
    /// first.
    pub(crate) fn step_keeper(&mut self, place: usize, input: Input) -> Result<(), String> {
        self.trace(|_| format!("{}/keeper <- {input:?}", rank(place)));
        let mut outputs = Vec::new();
        if !self.keeper_may_be_told(place, &input) {
            return Ok(());
        }
        self.running(place).keeper.step(input, &mut outputs);
        for output in outputs {
            if self.is_stormy() && matters(&output) && self.dice.chance(self.scenario.aimed) {
                return self.crash(place);
            }
            self.trace(|_| format!("{}/keeper -> {output:?}", rank(place)));
            self.obey(place, output)?;
        }
        Ok(())
    }

    fn obey(&mut self, place: usize, output: Output) -> Result<(), String> {
        match output {
            Output::Request { to, request } => {
                if to == rank(place) {
                    return Err(format!("{to} sends itself a message"));
                }
                return self.request(place, to.place(), request);
            }
            Output::Reply { to, reply } => self.send(place, to.place(), &Message::Reply(reply)),
            Output::Raise { fence } => {
                self.close_classic(place, fence);
                let input = register::Input::Raise { fence };
                self.put_to_all(place, None, &input);
            }
            Output::Record { fence } => self.record(place, fence),
            Output::Stable { fence } => {
                let input = register::Input::Stable { fence };
                self.put_to_all(place, None, &input);
                self.go_on_under(place, fence);
            }
            Output::Granted { id, fence } => return self.granted(place, id, fence),
            Output::Refused { id, refusal } => self.refused(place, id, refusal),
            Output::Fenced { id, by } => self.fenced(place, id, by),
            Output::Holders { holders } => self.introduce(place, &holders),
        }
        Ok(())
    }

    /// An attach has an end, even if it waits for somebody who never answers.
    pub(crate) fn limit_attach(&mut self, place: usize, id: AttachmentId) {
        let delay = self.dice.between(1, self.scenario.patience_max);
        let task = Task::Keeper(Input::StopWaiting { id });
        self.tell_later(place, Worker::Keeper, task, delay);
    }

    /// Puts a task on a desk after some time, if it is still the same life then.
    pub(crate) fn tell_later(&mut self, place: usize, worker: Worker, task: Task, delay: u64) {
        let life = self.processes[place].life;
        let process = place;
        self.schedule(
            delay,
            Event::Tell {
                process,
                life,
                worker,
                task,
            },
        );
    }

    /// It is time for that task.
    pub(crate) fn tell(&mut self, place: usize, life: u64, worker: Worker, task: Task) {
        if self.processes[place].life == life {
            self.put(place, worker, task);
        }
    }

    /// Tells everyone who is connected what this process holds now.
    fn introduce(&mut self, place: usize, holders: &[Holder]) {
        let (version, held) = &mut self.running(place).holders;
        *version += 1;
        held.clear();
        held.extend_from_slice(holders);
        let version = *version;
        for other in (0..self.processes.len()).filter(|&other| other != place) {
            let holders = holders.to_vec();
            self.send(place, other, &Message::Holders { version, holders });
        }
    }

    /// A process hears what another one holds, now that they are connected.
    pub(crate) fn introduce_to(&mut self, place: usize, other: usize) {
        let (version, holders) = self.running(place).holders.clone();
        self.running(other).heard[place] = 0;
        self.introduced(other, place, version, holders);
    }

    /// What another process holds is told; on one connection it never goes back.
    pub(crate) fn introduced(
        &mut self,
        place: usize,
        from: usize,
        version: u64,
        holders: Vec<Holder>,
    ) {
        let heard = &mut self.running(place).heard[from];
        if version < *heard {
            return;
        }
        *heard = version;
        let rank = rank(from);
        let input = Input::PeerHolders { rank, holders };
        self.put(place, Worker::Keeper, Task::Keeper(input));
    }

    /// Whether this process may run operations of the fence's generation: an exclusive one has one
    /// coordinator.
    pub(crate) fn is_home(&self, place: usize, fence: Fence) -> bool {
        match fence.mode {
            Mode::Shared | Mode::Reading { .. } => true,
            Mode::Exclusive { tag, .. } => {
                let incarnation = self.processes[place].incarnation;
                tag.coordinator == rank(place) && tag.incarnation == incarnation
            }
        }
    }
}

/// Outputs around which a crash hurts most.
fn matters(output: &Output) -> bool {
    match output {
        Output::Request { request, .. } => matches!(request.question, Question::Open { .. }),
        Output::Reply { reply, .. } => {
            matches!(reply.answer, Answer::Opened | Answer::Refused { .. })
        }
        Output::Raise { .. }
        | Output::Record { .. }
        | Output::Stable { .. }
        | Output::Granted { .. } => true,
        Output::Refused { .. } | Output::Fenced { .. } | Output::Holders { .. } => false,
    }
}
