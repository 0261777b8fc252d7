//! One session of an attachment, from its first question to its end.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::{Driver, hear};
use crate::client::ClientError;
use crate::client::network::{Network, Receiver, Sender};
use crate::domain::Rank;
use crate::wire::{SessionAnswer, SessionQuestion};

/// When nothing was answered for so long, the process is asked how it stands, and again after as
/// long: it may be the one that reaches no majority.
const STALLED_AFTER: Duration = Duration::from_secs(2);

/// How a session ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// With the attachment.
    Over(ClientError),
    /// The process ended it, and takes nothing more of it.
    Closed,
    /// The process is of no use, but may still take what was sent to it.
    Lost,
    /// The process named another, or itself, for a new session.
    Elsewhere(Rank),
}

/// A session with a process.
pub(super) struct Session<'a, N: Network> {
    pub(super) driver: &'a mut Driver<N>,
    pub(super) process: Rank,
    pub(super) phase: Phase,
    sender: N::Sender,
    receiver: N::Receiver,
    answers: Vec<SessionAnswer>,
    /// Sending failed; what the process said before it closed is still to be received.
    mute: bool,
    timer: Pin<Box<Sleep>>,
}

/// How far a session has come.
#[derive(Debug)]
pub(super) enum Phase {
    /// An attach is to be asked for.
    Pausing { until: Instant },
    /// It waits for its answer.
    Attaching { give_up_at: Option<Instant> },
    /// Requests may be sent.
    Attached { check: Check },
    /// Everything was sent, and after it that the attachment is given back.
    Detaching,
}

/// Whether the process was asked how it stands.
#[derive(Debug)]
pub(super) enum Check {
    /// Not now, and not before this moment.
    NotBefore(Instant),
    /// The answer is under way.
    Asked,
}

impl<'a, N: Network> Session<'a, N> {
    pub(super) fn new(
        driver: &'a mut Driver<N>,
        process: Rank,
        (sender, receiver): (N::Sender, N::Receiver),
    ) -> Self {
        let now = Instant::now();
        Self {
            driver,
            process,
            phase: Phase::Pausing { until: now },
            sender,
            receiver,
            answers: Vec::new(),
            mute: false,
            timer: Box::pin(sleep_until(now)),
        }
    }

    /// Asks and answers until the session ends.
    pub(super) async fn run(mut self) -> Ended {
        loop {
            let attached = matches!(self.phase, Phase::Attached { .. } | Phase::Detaching);
            if let Err(over) = self.driver.check_closing(attached) {
                return Ended::Over(over);
            }
            self.send();
            self.set_timer();
            let ended = tokio::select! {
                biased;
                received = self.receiver.receive(&mut self.answers) => match received {
                    Ok(()) => self.take_answers(),
                    Err(error) => Some(self.broken(&error)),
                },
                () = hear(
                    &mut self.driver.commands,
                    &mut self.driver.taken,
                    self.driver.closing.as_ref(),
                ) => {
                    self.driver.take_commands();
                    None
                }
                sent = self.sender.flush(), if self.sender.has_unsent() && !self.mute => {
                    self.mute = sent.is_err();
                    None
                }
                () = &mut self.timer => self.tick(),
            };
            if let Some(ended) = ended {
                return ended;
            }
        }
    }

    /// Puts out as much as the credit allows and goes in one write.
    fn send(&mut self) {
        if !matches!(self.phase, Phase::Attached { .. }) {
            return;
        }
        while !self.sender.is_full() {
            let Some(question) = self.driver.failover.next_question() else {
                break;
            };
            self.sender.send(&question);
        }
        if self.driver.closing.is_some() && self.driver.failover.is_all_sent() {
            self.sender.send(&SessionQuestion::Detach);
            self.phase = Phase::Detaching;
        }
    }

    fn take_answers(&mut self) -> Option<Ended> {
        let mut answers = std::mem::take(&mut self.answers);
        let mut progress = false;
        for answer in answers.drain(..) {
            progress |= is_progress(&answer);
            let ended = self.answer(answer);
            if ended.is_some() {
                return ended;
            }
        }
        self.answers = answers;
        if progress {
            self.driver.progress();
        }
        None
    }

    /// Does what is due by now.
    fn tick(&mut self) -> Option<Ended> {
        let now = Instant::now();
        if self.receiver.dead_at() <= now {
            return Some(self.lost("nothing was heard of it for too long"));
        }
        let (process, phase) = (self.process, &self.phase);
        self.driver.waiting.say(|| phase.waits_for(process));
        match self.phase {
            Phase::Pausing { until } if until <= now => {
                let attach = self.driver.failover.attach();
                self.sender.send(&SessionQuestion::Attach(attach));
                let patience = self.driver.ring.patience();
                self.phase = Phase::Attaching {
                    give_up_at: patience.map(|patience| now + patience),
                };
            }
            Phase::Attaching {
                give_up_at: Some(end),
            } if end <= now => {
                return Some(self.lost("it did not get the disk attached in time"));
            }
            Phase::Attached { .. } if self.check_at().is_some_and(|due| due <= now) => {
                self.sender.send(&SessionQuestion::Status);
                let check = Check::Asked;
                self.phase = Phase::Attached { check };
            }
            _ => {}
        }
        if !self.mute && !self.sender.has_unsent() && self.sender.heartbeat_at() <= now {
            self.sender.send(&SessionQuestion::Heartbeat);
        }
        None
    }

    /// The timer is touched only when something is due earlier than it fires, or when it has fired:
    /// mostly it fires for something that was put off meanwhile, which costs less.
    fn set_timer(&mut self) {
        let heartbeat =
            (!self.mute && !self.sender.has_unsent()).then(|| self.sender.heartbeat_at());
        let phase = match self.phase {
            Phase::Pausing { until } => Some(until),
            Phase::Attaching { give_up_at } => give_up_at,
            Phase::Attached { .. } => self.check_at(),
            Phase::Detaching => None,
        };
        let others = [heartbeat, phase, self.driver.due()];
        let due = others.into_iter().flatten().min();
        let due = self.receiver.dead_at().min(due.unwrap_or_else(far));
        if due < self.timer.deadline() || self.timer.is_elapsed() {
            self.timer.as_mut().reset(due);
        }
    }

    /// When to ask the process how it stands. Where there is no other, it does not matter.
    fn check_at(&self) -> Option<Instant> {
        let Phase::Attached {
            check: Check::NotBefore(earliest),
        } = self.phase
        else {
            return None;
        };
        self.driver.ring.patience()?;
        let stalled = self.driver.waiting.since()? + STALLED_AFTER;
        Some(stalled.max(earliest))
    }

    /// Its answer says nothing of a majority; when to ask again.
    pub(super) fn checked(&mut self) {
        if let Phase::Attached { check } = &mut self.phase {
            *check = Check::NotBefore(Instant::now() + STALLED_AFTER);
        }
    }
}

impl Phase {
    /// What is waited for, as far as this side knows: why nothing comes may have many reasons.
    fn waits_for(&self, process: Rank) -> String {
        match self {
            Self::Pausing { .. } | Self::Attaching { .. } => {
                format!("process {process} has not granted the disk yet")
            }
            Self::Attached { .. } | Self::Detaching => format!(
                "process {process} is asked and has not answered: too few others may be within \
                 its reach, or disks be slow or full"
            ),
        }
    }
}

/// Whether it brings the disk's users further. A process that is stuck may go on saying that it
/// lives and how it stands, and refusing to attach, for ever.
fn is_progress(answer: &SessionAnswer) -> bool {
    match answer {
        SessionAnswer::Attached { .. }
        | SessionAnswer::Values { .. }
        | SessionAnswer::Done { .. }
        | SessionAnswer::Failed { .. } => true,
        SessionAnswer::Heartbeat
        | SessionAnswer::AttachRefused(_)
        | SessionAnswer::Fenced { .. }
        | SessionAnswer::Detached
        | SessionAnswer::Status(_)
        | SessionAnswer::Attachments(_)
        | SessionAnswer::Released(_) => false,
    }
}

/// Later than anything that is due.
fn far() -> Instant {
    const DAY: Duration = Duration::from_secs(86_400);
    Instant::now() + DAY
}
