//! What processes say to one another, on its way.

use std::collections::VecDeque;

use atdd::domain::{Answer, Held, Question, Reply, Request, RequestId, Runs, Vote};
use atdd::register::Input;

use crate::bug::Bug;
use crate::world::{Event, Message, World, rank};

impl World {
    /// Sends another process a request.
    pub(crate) fn request(
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

    /// Sends a message, if there is a connection; it may come late, twice or never.
    pub(crate) fn send(&mut self, from: usize, to: usize, message: &Message) {
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

    /// A message arrives.
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

    fn imagined_voter(&self, place: usize) -> usize {
        let last = self.processes.len() - 1;
        if place == last { last - 1 } else { last }
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
