//! Sessions: what a client and its process say to one another, in order, until one of them or the
//! connection is gone.

use atdd::attachment::AttachmentId;
use atdd::domain::{Attach, AttachRefusal, Extent, Fence};
use atdd::register::Ticket;

use crate::process::{Task, Worker};
use crate::world::{Event, World, rank};

/// A client's connection to a process, in one life of that.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: usize,
    pub(crate) process: usize,
    pub(crate) life: u64,
    /// What is said arrives after what was said before.
    to_process_due: u64,
    to_client_due: u64,
    /// What has arrived and was not read, while the process was paused.
    unread: Vec<Question>,
    /// When the process reads on.
    reads_at: u64,
}

/// What a client says.
#[derive(Clone, Debug)]
pub(crate) enum Question {
    Attach(Attach),
    /// The operation of this number.
    Operation(usize),
    Detach,
    /// That it lives.
    Heartbeat,
    /// Nothing: the process sees that the client is gone.
    Gone,
}

/// What a process says.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    Granted(Fence),
    Refused(AttachRefusal),
    /// How the operation ended that this ticket was for.
    Operation(Ticket, Ended),
    /// The attachment is over, by a newer generation.
    Fenced(Fence),
    Detached,
    /// Nothing: the client sees that the process is gone.
    Gone,
}

/// How an operation ended.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    Read(Vec<Extent>),
    Changed,
    /// It was not even begun.
    Declined,
    /// Nobody will ever know whether it happened.
    Failed,
}

impl World {
    /// A client connects to a process; `None` if that is down.
    pub(crate) fn open_session(&mut self, client: usize, place: usize) -> Option<u64> {
        let process = &self.processes[place];
        if !process.is_up() {
            return None;
        }
        let number = u64::try_from(self.sessions.len()).unwrap();
        self.sessions.push(Session {
            client,
            process: place,
            life: process.life,
            to_process_due: 0,
            to_client_due: 0,
            unread: Vec::new(),
            reads_at: 0,
        });
        Some(number)
    }

    pub(crate) fn session(&self, number: u64) -> &Session {
        &self.sessions[usize::try_from(number).unwrap()]
    }

    /// A client says something; it arrives after what it has said before.
    pub(crate) fn say(&mut self, number: u64, question: Question) {
        let delay = self.talk();
        self.say_after(number, question, delay);
    }

    /// The same, after so much time.
    pub(crate) fn say_after(&mut self, number: u64, question: Question, delay: u64) {
        let session = &mut self.sessions[usize::try_from(number).unwrap()];
        session.to_process_due = session.to_process_due.max(self.now + delay);
        let delay = session.to_process_due - self.now;
        self.schedule(
            delay,
            Event::Said {
                session: number,
                question,
            },
        );
    }

    /// It arrives.
    pub(crate) fn said(&mut self, number: u64, question: Question) {
        let session = &mut self.sessions[usize::try_from(number).unwrap()];
        let process = &self.processes[session.process];
        if process.life != session.life {
            return;
        }
        if process.paused || !session.unread.is_empty() {
            session.unread.push(question);
            return;
        }
        let place = session.process;
        self.put(place, Worker::Front, Task::Client(number, question));
    }

    /// A process that was paused reads its connections on, each in its turn.
    pub(crate) fn read_on(&mut self, place: usize) {
        let life = self.processes[place].life;
        for number in 0..self.sessions.len() {
            let session = &self.sessions[number];
            let here = session.process == place && session.life == life;
            if !here || session.unread.is_empty() {
                continue;
            }
            let delay = self.dice.between(0, READ_LATE_MAX);
            self.sessions[number].reads_at = self.now + delay;
            let session = u64::try_from(number).unwrap();
            self.schedule(delay, Event::Read { session });
        }
    }

    /// It is this one's turn.
    pub(crate) fn read(&mut self, number: u64) {
        let session = &mut self.sessions[usize::try_from(number).unwrap()];
        let process = &self.processes[session.process];
        if process.life != session.life || process.paused || self.now < session.reads_at {
            return;
        }
        let place = session.process;
        for question in std::mem::take(&mut session.unread) {
            self.put(place, Worker::Front, Task::Client(number, question));
        }
    }

    /// A process answers; what it says arrives in order.
    pub(crate) fn answer(&mut self, number: u64, answer: Answer) {
        let delay = self.talk();
        let session = &mut self.sessions[usize::try_from(number).unwrap()];
        session.to_client_due = session.to_client_due.max(self.now + delay);
        let delay = session.to_client_due - self.now;
        self.schedule(
            delay,
            Event::Answered {
                session: number,
                answer,
            },
        );
    }

    /// All clients of a process that has crashed see that, sooner or later.
    pub(crate) fn hang_up(&mut self, place: usize) {
        for number in self.sessions_with(place) {
            self.answer(number, Answer::Gone);
        }
    }

    /// Clients of a process that is paused for so long may lose their patience.
    pub(crate) fn lose_patience(&mut self, place: usize, length: u64) {
        for session in self.sessions_with(place) {
            if self.dice.chance(700) {
                let delay = self.dice.between(1, length);
                let answer = Answer::Gone;
                self.schedule(delay, Event::Answered { session, answer });
            }
        }
    }

    /// The sessions with a process that their clients believe in.
    fn sessions_with(&self, place: usize) -> Vec<u64> {
        let life = self.processes[place].life;
        let sessions = self
            .clients
            .iter()
            .filter_map(|client| client.state.session());
        let present = sessions.filter(|&number| {
            let session = self.session(number);
            session.process == place && session.life == life
        });
        present.collect()
    }

    fn talk(&mut self) -> u64 {
        self.dice.between(0, self.scenario.crowd.talk_max)
    }
}

/// An attachment that a client of this session has asked for.
pub(crate) fn attachment(session: u64) -> AttachmentId {
    AttachmentId(session)
}

/// The longest that a process leaves what a connection has for it after a pause.
const READ_LATE_MAX: u64 = 100;

/// The session's name, for people.
pub(crate) fn name(session: &Session) -> String {
    format!("client {} at {}", session.client, rank(session.process))
}
