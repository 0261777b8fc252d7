//! The task of an attachment: it keeps a session with some process, and goes on through another
//! when that is lost.
//!
//! It ends when the attachment does: given back, fenced, or never granted. What to send and what to
//! give up is `failover`'s to decide; here is time, and the order of processes.

mod answers;
mod session;

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use self::session::{Ended, Session};
use super::ClientError;
use super::failover::Failover;
use super::network::{Network, with_causes};
use super::ring::Ring;
use super::ticket::{Command, Commands, Standing, Ticket};
use super::waiting::Waiting;
use crate::net::NetError;

/// How long an attachment that is given back waits for answers, when none come.
const DETACH_LIMIT: Duration = Duration::from_secs(3);

/// How long it waits at most, when some come: whoever wants to end, or to have the disk next, waits
/// for it.
const DETACH_LIMIT_MAX: Duration = Duration::from_secs(30);

/// When a process has surely dropped a session that this client has closed, or only thinks it has:
/// three seconds after it heard the last of it (`net::Settings::client_dead_after`). The rest is for
/// what is still under way; the closed socket gives up after less (`TCP_USER_TIMEOUT`).
const FORGOTTEN_AFTER: Duration = Duration::from_secs(6);

/// Commands that are taken in at once.
const COMMANDS_MAX: usize = 64;

/// What an attachment's task knows.
#[derive(Debug)]
pub(super) struct Driver<N> {
    network: N,
    failover: Failover<Ticket>,
    ring: Ring,
    commands: Commands,
    /// Commands that are being taken in; empty between.
    taken: Vec<Command>,
    standing: watch::Sender<Standing>,
    closing: Option<Closing>,
    waiting: Waiting,
}

/// The attachment is being given back.
#[derive(Debug)]
struct Closing {
    /// When that is given up, unless something is answered before.
    deadline: Instant,
    /// When that is given up whatever is answered.
    last_deadline: Instant,
    /// Who waits for it.
    heard: Vec<oneshot::Sender<()>>,
    /// No handle is left, and no command will come.
    deaf: bool,
}

impl<N: Network> Driver<N> {
    pub(super) fn new(
        network: N,
        failover: Failover<Ticket>,
        commands: Commands,
        standing: watch::Sender<Standing>,
    ) -> Self {
        let ring = Ring::new(network.processes(), rand::random());
        Self {
            network,
            failover,
            ring,
            commands,
            taken: Vec::with_capacity(COMMANDS_MAX),
            standing,
            closing: None,
            waiting: Waiting::default(),
        }
    }

    /// Runs until the attachment is over.
    pub(super) async fn run(mut self) {
        let error = loop {
            if let Err(over) = self.one_session().await {
                break over;
            }
        };
        self.end(&error).await;
    }

    /// Tries one process, and stays with it for as long as it works. `Err` when the attachment is
    /// over.
    async fn one_session(&mut self) -> Result<(), ClientError> {
        self.waiting.begin();
        let process = self.ring.current();
        let connecting = self.network.clone().connect(process);
        let pause = match self.meanwhile(connecting).await? {
            Ok(halves) => {
                let ended = Session::new(self, process, halves).run().await;
                for ticket in self.failover.lost() {
                    ticket.answer(Err(ClientError::UnknownOutcome));
                }
                if self.failover.ends_with_its_session() {
                    return Err(self.end_joined(ended).await);
                }
                match ended {
                    Ended::Over(error) => return Err(error),
                    Ended::Elsewhere(there) => self.ring.go_to(there),
                    Ended::Closed | Ended::Lost => self.ring.failed(),
                }
            }
            Err(error @ NetError::Session(_)) => {
                tracing::debug!(%process, %error, "a process does not let this client in");
                self.waiting.because(format!("process {process}: {error}"));
                let all = self.ring.rejected(error.to_string());
                all.map_err(|why| ClientError::Rejected { process, why })?
            }
            Err(error) => {
                let why = with_causes(&error);
                tracing::debug!(%process, why, "no session");
                self.waiting.because(format!("process {process}: {why}"));
                self.ring.failed()
            }
        };
        if let Some(longest) = pause {
            self.meanwhile(sleep(longest.mul_f64(rand::random_range(0.5..1.0))))
                .await?;
        }
        Ok(())
    }

    /// Why the attachment of one of several gateways is over, once nothing that it has sent can be
    /// begun any more: whoever hears of the end sends it over another gateway, and newer changes
    /// after it.
    async fn end_joined(&mut self, ended: Ended) -> ClientError {
        let over = match ended {
            Ended::Over(error) => return error,
            Ended::Closed | Ended::Elsewhere(_) => return ClientError::UnknownOutcome,
            Ended::Lost => self.meanwhile(sleep(FORGOTTEN_AFTER)).await,
        };
        over.err().unwrap_or(ClientError::UnknownOutcome)
    }

    /// Waits for something while there is no session; commands are taken in, and wait too.
    async fn meanwhile<F: Future>(&mut self, future: F) -> Result<F::Output, ClientError> {
        let mut future = pin!(future);
        loop {
            self.check_closing(false)?;
            let due = self.due();
            tokio::select! {
                biased;
                output = &mut future => return Ok(output),
                () = hear(&mut self.commands, &mut self.taken, self.closing.as_ref()) => {
                    self.take_commands();
                }
                () = until(due) => self.waiting.say(|| "no process is connected".to_owned()),
            }
        }
    }

    /// When this task has to look again even if nothing happens.
    fn due(&self) -> Option<Instant> {
        let closing = self.closing.as_ref().map(|closing| closing.deadline);
        closing.into_iter().chain(self.waiting.due()).min()
    }

    /// Takes in what [`hear`] heard.
    fn take_commands(&mut self) {
        if self.taken.is_empty() {
            self.close().deaf = true;
        }
        let mut taken = std::mem::take(&mut self.taken);
        for command in taken.drain(..) {
            match command {
                Command::Ask(_, ticket) if self.closing.is_some() => {
                    ticket.answer(Err(ClientError::Detached));
                }
                Command::Ask(work, ticket) => {
                    self.failover.ask(work, ticket);
                    self.waiting.begin();
                }
                Command::Detach(heard) => self.close().heard.push(heard),
            }
        }
        self.taken = taken;
    }

    fn close(&mut self) -> &mut Closing {
        let now = Instant::now();
        self.closing.get_or_insert_with(|| Closing {
            deadline: now + DETACH_LIMIT,
            last_deadline: now + DETACH_LIMIT_MAX,
            heard: Vec::new(),
            deaf: false,
        })
    }

    /// Something was answered that the users of the disk have asked for, or an attach was granted.
    fn progress(&mut self) {
        self.waiting.progress(self.failover.is_busy());
        if let Some(closing) = &mut self.closing {
            let deadline = Instant::now() + DETACH_LIMIT;
            closing.deadline = deadline.min(closing.last_deadline);
        }
    }

    /// `Err` when giving back is done or has taken too long. Without a session that is attached
    /// there is nothing to give back, unless something is still to be done under it.
    fn check_closing(&self, attached: bool) -> Result<(), ClientError> {
        let Some(closing) = &self.closing else {
            return Ok(());
        };
        if closing.deadline <= Instant::now() || !attached && !self.failover.is_busy() {
            return Err(ClientError::Detached);
        }
        Ok(())
    }

    /// Answers everything that is pending, and everybody who waits.
    async fn end(mut self, error: &ClientError) {
        match error {
            ClientError::Detached => tracing::debug!("the disk is detached"),
            _ if self.failover.fence().is_none() => tracing::debug!(%error, "not attached"),
            _ => tracing::warn!(%error, "the attachment is over"),
        }
        self.standing
            .send_modify(|standing| standing.over = Some(error.clone()));
        for (ticket, unknown) in self.failover.end() {
            ticket.answer(Err(match error {
                ClientError::Detached if unknown => ClientError::UnknownOutcome,
                _ => error.clone(),
            }));
        }
        let mut heard = self.closing.map_or_else(Vec::new, |closing| closing.heard);
        self.commands.close();
        while let Some(command) = self.commands.recv().await {
            match command {
                Command::Ask(_, ticket) => ticket.answer(Err(error.clone())),
                Command::Detach(waits) => heard.push(waits),
            }
        }
        for waits in heard {
            if waits.send(()).is_err() {
                tracing::trace!("nobody waits for the end");
            }
        }
    }
}

/// Waits for commands; none in `taken` means that there will be no more.
async fn hear(commands: &mut Commands, taken: &mut Vec<Command>, closing: Option<&Closing>) {
    if closing.is_some_and(|closing| closing.deaf) {
        return std::future::pending().await;
    }
    commands.recv_many(taken, COMMANDS_MAX).await;
}

/// Waits for this moment; for ever if there is none.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
