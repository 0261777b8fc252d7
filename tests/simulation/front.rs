//! What a process does for its clients: it passes their attaches to the keeper and their
//! operations to the registers, under the fence that they were granted.

use atdd::attachment::{AttachmentId, Input};
use atdd::domain::{Attach, AttachRefusal, Fence, Generation};
use atdd::register::{Command, Outcome, RegisterError, Ticket};

use crate::bug::Bug;
use crate::classic::CLASSIC;
use crate::clients::NOBODY;
use crate::inspection::INSPECTION;
use crate::process::{Task, Worker};
use crate::registers::AHEAD;
use crate::sessions::{Answer, Ended, Question, attachment, name};
use crate::world::{World, rank, sector};

/// A client's session as the process sees it.
#[derive(Debug)]
pub(crate) struct Served {
    attach: Attach,
    /// Once it is attached.
    pub(crate) fence: Option<Fence>,
    /// When something of it was taken last.
    pub(crate) heard: u64,
}

/// Who waits for an operation of a register.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Asker {
    Session(u64),
    /// A client of the process's own.
    Classic(usize),
    /// The end of the simulation.
    Inspector,
}

impl World {
    /// A process takes what a client has said.
    pub(crate) fn serve(&mut self, place: usize, number: u64, question: &Question) {
        self.trace(|world| format!("{} <- {}: {question:?}", rank(place), world.whose(number)));
        if !self.hears(place, number) {
            return;
        }
        let id = attachment(number);
        match *question {
            Question::Attach(attach) => {
                let served = Served {
                    attach,
                    fence: None,
                    heard: self.now,
                };
                self.running(place).served.insert(number, served);
                if self.usurps(place, number, &attach) {
                    return;
                }
                let client = name(self.session(number));
                self.ask_keeper(place, id, attach, client);
            }
            Question::Operation(operation) => {
                let served = self.running(place).served.get(&number);
                if let Some(fence) = served.and_then(|served| served.fence)
                    && !self.must_wait(place, operation, number, fence)
                {
                    let ticket = self.command(place, operation, fence);
                    self.askers.insert(ticket, Asker::Session(number));
                }
            }
            Question::Detach => {
                if self.end_attachment(place, number) {
                    self.answer(number, Answer::Detached);
                }
            }
            Question::Heartbeat => {}
            Question::Gone => {
                self.end_attachment(place, number);
            }
        }
    }

    /// Begins an attach.
    pub(crate) fn ask_keeper(
        &mut self,
        place: usize,
        id: AttachmentId,
        attach: Attach,
        client: String,
    ) {
        let now = self.now;
        let input = Input::Attach {
            id,
            attach,
            client,
            now,
        };
        self.put(place, Worker::Keeper, Task::Keeper(input));
        self.limit_attach(place, id);
    }

    /// An attach is granted.
    pub(crate) fn granted(
        &mut self,
        place: usize,
        id: AttachmentId,
        fence: Fence,
    ) -> Result<(), String> {
        let now = self.history.tick();
        let mut known = fence;
        self.forge(0, &mut known);
        if id >= INSPECTION {
            self.ledger.granted(now, NOBODY, known, None);
            self.inspection.ended(id, Ok(fence));
            return Ok(());
        }
        if id >= CLASSIC {
            self.ledger.granted(now, NOBODY, known, None);
            return self.granted_classic(place, id, fence);
        }
        // Whoever has gone meanwhile was granted it all the same.
        let Some(served) = self.running(place).served.get_mut(&id.0) else {
            self.ledger.granted(now, NOBODY, known, None);
            return Ok(());
        };
        if served.fence.replace(fence).is_some() {
            return Err(format!("{id:?} is granted twice"));
        }
        let attach = served.attach;
        let (owner, continues) = (attach.owner, attach.continues);
        self.ledger.granted(now, owner, known, continues);
        self.answer(id.0, Answer::Granted(fence));
        if self.dice.chance(self.scenario.crowd.settled_ahead) {
            self.settle_ahead(place, fence);
        }
        Ok(())
    }

    /// An attach is refused.
    pub(crate) fn refused(&mut self, place: usize, id: AttachmentId, refusal: AttachRefusal) {
        if id >= INSPECTION {
            self.inspection.ended(id, Err(refusal));
        } else if id >= CLASSIC {
            self.refused_classic(place, id);
        } else if self.running(place).served.remove(&id.0).is_some() {
            self.answer(id.0, Answer::Refused(refusal));
        }
    }

    /// An attachment is over.
    pub(crate) fn fenced(&mut self, place: usize, id: AttachmentId, by: Fence) {
        if self.bug == Some(Bug::FencedCoordinatorAdopts) {
            self.adopt(place, id, by);
        } else if id >= CLASSIC {
            self.refused_classic(place, id);
        } else if self.running(place).served.remove(&id.0).is_some() {
            self.answer(id.0, Answer::Fenced(by));
        }
    }

    /// An operation has ended; whoever still waits for it hears of it.
    pub(crate) fn reported(
        &mut self,
        place: usize,
        ticket: Ticket,
        outcome: Result<Outcome, RegisterError>,
    ) -> Result<(), String> {
        let Some(asker) = self.askers.remove(&ticket) else {
            return Ok(());
        };
        let fenced_by = match outcome {
            Err(RegisterError::Fenced { by }) => Some(by),
            _ => None,
        };
        let ended = match outcome {
            Ok(Outcome::Read(extents)) => Ended::Read(extents),
            Ok(_) => Ended::Changed,
            Err(RegisterError::QueueFull) => Ended::Declined,
            Err(_) => Ended::Failed,
        };
        match asker {
            Asker::Session(session) => {
                if !self.running(place).served.contains_key(&session) {
                    return Ok(());
                }
                let answer = fenced_by.map_or(Answer::Operation(ticket, ended), Answer::Fenced);
                self.answer(session, answer);
                Ok(())
            }
            Asker::Classic(client) => self.answered_classic(client, ticket, ended),
            Asker::Inspector => self.end_operation(ticket, ended),
        }
    }

    /// An operation ends as its client sees it.
    pub(crate) fn end_operation(&mut self, ticket: Ticket, ended: Ended) -> Result<(), String> {
        let number = self.history.number(ticket);
        match ended {
            Ended::Read(extents) => self.history.read(ticket, &extents),
            Ended::Changed => self.history.written(ticket),
            Ended::Declined => self.history.refused(number),
            Ended::Failed => self.history.cut_off(number),
        }
    }

    /// The client detaches, or is gone; whether it was there.
    pub(crate) fn end_attachment(&mut self, place: usize, number: u64) -> bool {
        let there = self.running(place).served.remove(&number).is_some();
        if there {
            let id = attachment(number);
            self.put(place, Worker::Keeper, Task::Keeper(Input::Detach { id }));
        }
        there
    }

    /// Settles some sectors before anybody reads them.
    fn settle_ahead(&mut self, place: usize, fence: Fence) {
        if fence.generation == Generation(0) {
            return;
        }
        let first = self.dice.below(self.scenario.sectors);
        let (_, end) = self.scenario.shard(first);
        let count = self.dice.between(1, end - first);
        let range = crate::world::range(sector(first), count);
        let ticket = Ticket(AHEAD.0 + self.history.tick());
        let command = Command::Settle { range };
        self.give(place, ticket, fence, command);
    }

    fn whose(&self, number: u64) -> String {
        name(self.session(number))
    }
}
