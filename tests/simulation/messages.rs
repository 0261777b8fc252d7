//! What processes say to one another, on its way.

use atdd::attachment;
use atdd::domain::{ATTACH_SHARD, Answer, Question, Reply, Request};
use atdd::register;

use crate::bug::Bug;
use crate::process::{Task, Worker};
use crate::world::{Event, Message, World, rank};

impl World {
    /// Sends another process a request.
    pub(crate) fn request(
        &mut self,
        place: usize,
        to: usize,
        mut request: Request,
    ) -> Result<(), String> {
        let operation = request.id.operation;
        let name = (operation.shard, operation.incarnation, operation.sequence);
        match &mut request.question {
            Question::Values { .. } => {
                self.processes[place].lies.reads.insert(name);
            }
            Question::Store { extents } => self.note_stored(place, extents)?,
            Question::Stamps { .. } | Question::Fence | Question::Open { .. } => {}
        }
        if self.may_send(place, to, &request) {
            self.send(place, to, &Message::Request(request));
        }
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
        // What is said of holders is in order on its connection; what comes later replaces it.
        let in_order = matches!(message, Message::Holders { .. });
        let copies = 1 + u64::from(self.dice.chance(self.scenario.duplicated));
        for _ in 0..copies {
            let late = !in_order && self.dice.chance(self.scenario.late);
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
    ) {
        let current = |connection| self.network.is_current(from, to, connection);
        if !self.processes[to].is_up() || !connection.is_none_or(current) {
            return;
        }
        match message {
            Message::Request(request) => self.hand_request(from, to, request),
            Message::Reply(reply) => {
                let another = (0..self.processes.len()).find(|&place| place != from && place != to);
                if self.bug == Some(Bug::ReplyCountedTwice)
                    && let Some(another) = another
                {
                    self.hand_reply(another, to, reply.clone());
                }
                self.hand_reply(from, to, reply);
            }
            Message::Holders { version, holders } => self.introduced(to, from, version, holders),
        }
    }

    /// A request is put before whom it concerns.
    pub(crate) fn hand_request(&mut self, from: usize, to: usize, mut request: Request) {
        self.forge(to, &mut request.authority);
        let from = rank(from);
        match request.question.range() {
            None => {
                let input = attachment::Input::Request { from, request };
                self.put(to, Worker::Keeper, Task::Keeper(input));
            }
            Some(range) => {
                let shard = self.shard_of(range.first());
                let input = register::Input::Request { from, request };
                self.put(to, Worker::Register(shard), Task::Register(input));
            }
        }
    }

    /// A reply is put before whoever asked.
    pub(crate) fn hand_reply(&mut self, from: usize, to: usize, mut reply: Reply) {
        if let Answer::Fence { fence, .. } | Answer::Refused { fence } = &mut reply.answer {
            self.forge(to, fence);
        }
        let from = rank(from);
        match reply.id.operation.shard {
            ATTACH_SHARD => {
                let input = attachment::Input::Reply { from, reply };
                self.put(to, Worker::Keeper, Task::Keeper(input));
            }
            shard => {
                let input = register::Input::Reply { from, reply };
                self.put(to, Worker::Register(shard), Task::Register(input));
            }
        }
    }
}
