//! What the answers of a process mean to the attachment.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::time::Instant;

use super::session::{Check, Ended, Phase, Session};
use crate::client::ClientError;
use crate::client::failover::{AfterRefusal, Unfitting};
use crate::client::network::{Network, with_causes};
use crate::client::ticket::Granted;
use crate::client::work::Work;
use crate::domain::{AttachRefusal, Fence, OperationError, ProcessState, StatusReport};
use crate::net::NetError;
use crate::wire::{Credit, RequestNumber, SessionAnswer};

/// Between these is the pause after which an attach is tried again that met another.
const CONTENDED_PAUSE_MS: std::ops::Range<u64> = 10..100;

impl<N: Network> Session<'_, N> {
    /// Takes an answer in; returns how the session ended, if it did.
    pub(super) fn answer(&mut self, answer: SessionAnswer) -> Option<Ended> {
        let taken = match answer {
            SessionAnswer::Heartbeat => Ok(None),
            SessionAnswer::Attached {
                fence,
                sectors,
                credit,
            } => self.granted(fence, sectors, credit),
            SessionAnswer::AttachRefused(refusal) => self.refused(refusal),
            SessionAnswer::Values { number, values } => {
                let ticket = self.driver.failover.values(number, &values);
                ticket.map(|ticket| {
                    ticket.answer(Ok(values));
                    None
                })
            }
            SessionAnswer::Done { number } => {
                let ticket = self.driver.failover.done(number);
                ticket.map(|ticket| {
                    ticket.answer(Ok(Vec::new()));
                    None
                })
            }
            // What the process gave up because it goes away is not answered: it is dealt with as
            // all that is under way when a process dies.
            SessionAnswer::Failed {
                error: OperationError::ShuttingDown,
                ..
            } => Ok(Some(self.lost("it is shutting down"))),
            SessionAnswer::Fenced { by }
            | SessionAnswer::Failed {
                error: OperationError::Fenced { by },
                ..
            } => Ok(Some(self.fenced(by))),
            SessionAnswer::Failed { number, error } => self.failed(number, &error),
            SessionAnswer::Detached => match self.phase {
                Phase::Detaching => Ok(Some(Ended::Over(ClientError::Detached))),
                _ => Err(Unfitting),
            },
            SessionAnswer::Status(json) => Ok(self.stands(&json)),
            SessionAnswer::Attachments(_) | SessionAnswer::Released(_) => Err(Unfitting),
        };
        taken.unwrap_or_else(|Unfitting| Some(self.lost("its answer fits nothing that was asked")))
    }

    fn granted(
        &mut self,
        fence: Fence,
        sectors: u64,
        credit: Credit,
    ) -> Result<Option<Ended>, Unfitting> {
        let Phase::Attaching { .. } = self.phase else {
            return Err(Unfitting);
        };
        let again = self.driver.failover.fence().is_some();
        for ticket in self.driver.failover.granted(fence, credit)? {
            ticket.answer(Err(ClientError::UnknownOutcome));
        }
        let (process, generation) = (self.process, fence.generation.0);
        let granted = Granted {
            fence,
            sectors,
            process,
        };
        if again {
            tracing::info!(%process, generation, "the disk goes on through this process");
        } else {
            tracing::debug!(%process, generation, "attached");
        }
        self.driver.ring.succeeded();
        self.driver
            .standing
            .send_modify(|standing| standing.granted = Some(granted));
        let check = Check::NotBefore(Instant::now());
        self.phase = Phase::Attached { check };
        Ok(None)
    }

    fn refused(&mut self, refusal: AttachRefusal) -> Result<Option<Ended>, Unfitting> {
        let Phase::Attaching { .. } = self.phase else {
            return Err(Unfitting);
        };
        let process = self.process;
        tracing::debug!(%process, %refusal, "not attached");
        let because = format!("process {process}: {refusal}");
        self.driver.waiting.because(because);
        Ok(match self.driver.failover.refused(refusal) {
            AfterRefusal::Again => {
                let pause = Duration::from_millis(rand::random_range(CONTENDED_PAUSE_MS));
                let until = Instant::now() + pause;
                self.phase = Phase::Pausing { until };
                None
            }
            AfterRefusal::Another => Some(Ended::Lost),
            AfterRefusal::At(process) => Some(Ended::Elsewhere(process)),
            AfterRefusal::Over(error) => Some(Ended::Over(error)),
        })
    }

    fn failed(
        &mut self,
        number: RequestNumber,
        error: &OperationError,
    ) -> Result<Option<Ended>, Unfitting> {
        let (work, ticket) = self.driver.failover.failed(number)?;
        let error = match *error {
            OperationError::Unreadable => ClientError::Unreadable,
            OperationError::PastEnd { sectors } => past_end(&work, sectors),
            OperationError::ReadOnly => ClientError::ReadOnly,
            OperationError::TimedOut => ClientError::TimedOut(ticket.asked.elapsed()),
            OperationError::Fenced { by } => self.driver.failover.fenced_by(by),
            OperationError::ShuttingDown => ClientError::UnknownOutcome,
        };
        ticket.answer(Err(error));
        Ok(None)
    }

    fn fenced(&self, by: Fence) -> Ended {
        let by_generation = by.generation;
        if self.driver.failover.is_fenced_for_good(by) {
            return Ended::Over(self.driver.failover.fenced_by(by));
        }
        tracing::debug!(generation = by_generation.0, "following a newer generation");
        Ended::Elsewhere(self.process)
    }

    /// The process says how it stands, having answered nothing else for a while.
    fn stands(&mut self, json: &[u8]) -> Option<Ended> {
        let report = serde_json::from_slice::<StatusReport>(json);
        let state = report.map_or(ProcessState::Unknown, |report| report.state);
        if let ProcessState::WaitingForMajority { .. } = state {
            return Some(self.lost("it reaches no majority"));
        }
        self.checked();
        None
    }

    /// The connection is over.
    pub(super) fn broken(&mut self, error: &NetError) -> Ended {
        let lost = self.lost(&with_causes(error));
        match error {
            NetError::Closed => Ended::Closed,
            NetError::Broken(error) if error.kind() == ErrorKind::ConnectionReset => Ended::Closed,
            _ => lost,
        }
    }

    /// The process is of no use.
    pub(super) fn lost(&mut self, why: &str) -> Ended {
        let process = self.process;
        if let Phase::Attached { .. } = self.phase {
            tracing::warn!(%process, why, "lost the process that served the disk");
        } else {
            tracing::debug!(%process, why, "lost a process");
        }
        self.driver
            .waiting
            .because(format!("process {process}: {why}"));
        Ended::Lost
    }
}

fn past_end(work: &Work, sectors: u64) -> ClientError {
    let (first, count) = work.sectors();
    ClientError::PastEnd {
        first,
        last: first + count.saturating_sub(1),
        sectors,
    }
}
