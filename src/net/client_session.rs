//! The listener's end of a client's session.
//!
//! One side hears: it reads without ever waiting for what is to be written, since the credit bounds
//! what may come, and runs everything that was asked side by side. The other side writes what is
//! answered, in the order in which it gets ready. They meet in the [`Outbox`].
//!
//! **A client that was silent for too long is not heard any more.** The silence is measured when
//! bytes are taken, and what arrived after it is not looked at. A process that slept finds bytes
//! that have waited for it: the client has given the session up long ago, and may have had its
//! requests repeated by another gateway of the same attachment, and newer ones after them. Both are
//! of one generation, so that no fence tells the late ones from the new. Sessions of peers look at
//! what has arrived first, the other way round: what a peer asks is guarded by stamps and fences
//! however late it comes, and the one that slept must not take all others for dead.

pub(super) mod binding;
mod outbox;

use std::future::pending;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use self::binding::{Binding, Bound, News, Operation};
use self::outbox::{Outbox, Place};
use super::stage::reached;
use super::transport::{Quiet, SealedReader, SealedWriter};
use super::{Attached, Host, NetError, Settings, Stage};
use crate::domain::{Attach, AttachRefusal, Fence};
use crate::wire::{RequestNumber, SessionAnswer, SessionQuestion};

/// How long the client may take to read the last answers and close, before the connection is closed
/// with what it has sent besides; that may cost it the answers.
const LINGER: Duration = Duration::from_millis(500);

/// What the listener's end of a client's session needs.
pub(super) struct ClientSession<'a, H> {
    pub(super) host: &'a H,
    pub(super) settings: &'a Settings,
    /// Where the client is, for people.
    pub(super) client: String,
    pub(super) stage: watch::Receiver<Stage>,
}

impl<H: Host> ClientSession<'_, H> {
    /// Serves a client, whose first message has proven that it holds the client key, until its
    /// session ends; `Ok` when it ended as it should.
    pub(super) async fn run<R, W>(
        self,
        first: Bytes,
        mut reader: SealedReader<R>,
        mut writer: SealedWriter<W>,
    ) -> Result<(), NetError>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let outbox = Outbox::new(self.settings.client_credit);
        let (settings, stage) = (self.settings, self.stage.clone());
        let mut to_stop = stage.clone();
        // In no fixed order: neither direction may take all turns.
        tokio::select! {
            ended = Hearing::new(self, &outbox).hear(first, &mut reader, stage) => return ended,
            ended = answer(settings, &outbox, &mut writer) => ended?,
            () = reached(&mut to_stop, Stage::Stopped) => return Err(NetError::Stopped),
        }
        // By now all that was under way for the client is dropped, its attachment too.
        tokio::select! {
            () = part(&mut reader, &mut writer) => {}
            () = reached(&mut to_stop, Stage::Stopped) => {}
        }
        Ok(())
    }
}

type UnderWay<'a> = Pin<Box<dyn Future<Output = (SessionAnswer, Place)> + Send + 'a>>;

/// The hearing side of a session.
struct Hearing<'a, H: Host> {
    host: &'a H,
    settings: &'a Settings,
    client: String,
    outbox: &'a Outbox,
    binding: Binding<'a, H::Attached>,
    under_way: FuturesUnordered<UnderWay<'a>>,
    taking: Taking,
}

/// Whether questions are taken.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Taking {
    /// All.
    Everything,
    /// No more; what is under way is still answered.
    Nothing,
    /// No more, and the session ends with what is ready, by this time at the latest.
    Ended(Instant),
}

impl<'a, H: Host> Hearing<'a, H> {
    fn new(session: ClientSession<'a, H>, outbox: &'a Outbox) -> Self {
        let ClientSession {
            host,
            settings,
            client,
            stage: _,
        } = session;
        Self {
            host,
            settings,
            client,
            outbox,
            binding: Binding::Free,
            under_way: FuturesUnordered::new(),
            taking: Taking::Everything,
        }
    }

    async fn hear(
        mut self,
        first: Bytes,
        reader: &mut SealedReader<impl AsyncRead + Unpin>,
        mut stage: watch::Receiver<Stage>,
    ) -> Result<(), NetError> {
        let limit = self.settings.client_dead_after;
        let mut quiet = Quiet::new(limit);
        let mut heard = Instant::now();
        let mut messages = vec![first];
        loop {
            self.take_messages(&mut messages)?;
            self.finish();
            let running = self.taking == Taking::Everything;
            tokio::select! {
                received = reader.read(&mut messages) => {
                    received?;
                    let now = Instant::now();
                    if now - heard > limit {
                        return Err(NetError::Silent { silence: limit });
                    }
                    heard = now;
                    quiet.interrupt();
                }
                () = quiet.elapsed() => return Err(NetError::Silent { silence: limit }),
                Some((answer, place)) = self.under_way.next() => self.outbox.answer(answer, place),
                news = self.binding.news() => self.take_news(news),
                () = reached(&mut stage, Stage::Draining), if running => self.drain(),
                () = end_of(self.taking) => {
                    return Err(NetError::Deadline { what: "taking the last answers", limit });
                }
            }
        }
    }

    fn take_messages(&mut self, messages: &mut Vec<Bytes>) -> Result<(), NetError> {
        for message in messages.drain(..) {
            let question = SessionQuestion::decode(message)?;
            if self.taking == Taking::Everything {
                self.take(question)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, question: SessionQuestion) -> Result<(), NetError> {
        let (host, outbox) = (self.host, self.outbox);
        let (cost, number) = (question.cost(), question.number());
        let place = || outbox.admit(cost, number);
        match question {
            SessionQuestion::Heartbeat => Ok(()),
            SessionQuestion::Status => {
                let answer = async { SessionAnswer::Status(host.status().await) };
                self.run(place()?, answer);
                Ok(())
            }
            SessionQuestion::Attachments => {
                let answer = async { SessionAnswer::Attachments(host.attachments().await) };
                self.run(place()?, answer);
                Ok(())
            }
            SessionQuestion::Release { owner } => {
                let answer = async move { SessionAnswer::Released(host.release(owner).await) };
                self.run(place()?, answer);
                Ok(())
            }
            SessionQuestion::Attach(attach) => self.attach(attach, place()?),
            // There is one at most, and it must get through when all of the credit is used.
            SessionQuestion::Detach => self.detach(),
            SessionQuestion::Read {
                number,
                first,
                count,
            } => self.operate(number, Operation::Read { first, count }, place()?),
            SessionQuestion::Write {
                number,
                first,
                data,
            } => self.operate(number, Operation::Write { first, data }, place()?),
            SessionQuestion::Discard {
                number,
                first,
                count,
            } => self.operate(number, Operation::Discard { first, count }, place()?),
            SessionQuestion::Flush { number } => {
                // Whatever was answered as done is on stable storage.
                self.bound()?;
                outbox.answer(SessionAnswer::Done { number }, place()?);
                Ok(())
            }
        }
    }

    /// Begins what is answered when it gets ready.
    fn run(&mut self, place: Place, answer: impl Future<Output = SessionAnswer> + Send + 'a) {
        let answered = async move { (answer.await, place) };
        self.under_way.push(Box::pin(answered));
    }

    fn operate(
        &mut self,
        number: RequestNumber,
        operation: Operation,
        place: Place,
    ) -> Result<(), NetError> {
        match self.bound()?.operate(number, operation) {
            Ok(answer) => self.run(place, answer),
            Err(error) => {
                let answer = SessionAnswer::Failed { number, error };
                self.outbox.answer(answer, place);
            }
        }
        Ok(())
    }

    fn bound(&self) -> Result<&Bound<H::Attached>, NetError> {
        match &self.binding {
            Binding::Attached(bound) => Ok(bound),
            _ => Err(unattached()),
        }
    }

    fn attach(&mut self, attach: Attach, place: Place) -> Result<(), NetError> {
        if !matches!(self.binding, Binding::Free) {
            let fault = "it attached in a session that was attached already";
            return Err(NetError::Fault(fault.into()));
        }
        self.binding = Binding::attaching(self.host, attach, self.client.clone(), place);
        Ok(())
    }

    fn detach(&mut self) -> Result<(), NetError> {
        match std::mem::replace(&mut self.binding, Binding::Over) {
            Binding::Attached(bound) => {
                self.binding = Binding::Detaching(bound);
                Ok(())
            }
            _ => Err(unattached()),
        }
    }

    fn take_news(&mut self, news: News<H::Attached>) {
        match news {
            News::Attach(outcome) => self.attached(outcome),
            News::Fenced(by) => self.fenced(by),
        }
    }

    fn attached(&mut self, outcome: Result<H::Attached, AttachRefusal>) {
        let binding = std::mem::replace(&mut self.binding, Binding::Free);
        let Binding::Attaching { kind, place, .. } = binding else {
            unreachable!("an outcome is that of an attach");
        };
        let answer = match outcome {
            Ok(attached) => {
                let answer = SessionAnswer::Attached {
                    fence: attached.fence(),
                    sectors: attached.sectors(),
                    credit: self.outbox.credit(),
                };
                self.binding = Binding::Attached(Bound::new(attached, kind));
                answer
            }
            Err(refusal) => SessionAnswer::AttachRefused(refusal),
        };
        self.outbox.answer(answer, place);
    }

    fn fenced(&mut self, by: Fence) {
        self.outbox.tell(SessionAnswer::Fenced { by });
        self.end();
    }

    /// The process goes away.
    fn drain(&mut self) {
        self.taking = Taking::Nothing;
        if matches!(self.binding, Binding::Attaching { .. }) {
            self.attached(Err(AttachRefusal::ShuttingDown));
        }
    }

    /// Does what waits until nothing is under way any more.
    fn finish(&mut self) {
        if !self.under_way.is_empty() {
            return;
        }
        match std::mem::replace(&mut self.binding, Binding::Over) {
            Binding::Detaching(bound) => {
                // First given back, then said so.
                drop(bound);
                self.outbox.tell(SessionAnswer::Detached);
            }
            binding => self.binding = binding,
        }
        if self.taking == Taking::Nothing {
            self.end();
        }
    }

    /// Nothing more is done for the client; what is ready is sent to it, and then the session ends.
    /// Operations that are dropped go on to their end in the process.
    fn end(&mut self) {
        self.under_way.clear();
        self.binding = Binding::Over;
        self.taking = Taking::Ended(Instant::now() + self.settings.client_dead_after);
        self.outbox.end();
    }
}

async fn end_of(taking: Taking) {
    match taking {
        Taking::Everything | Taking::Nothing => pending().await,
        Taking::Ended(at) => sleep_until(at).await,
    }
}

fn unattached() -> NetError {
    NetError::Fault("it asked for sectors in a session that is not attached".into())
}

/// Writes what is answered, and heartbeats when nothing is; returns after the last.
async fn answer(
    settings: &Settings,
    outbox: &Outbox,
    writer: &mut SealedWriter<impl AsyncWrite + Unpin>,
) -> Result<(), NetError> {
    let mut quiet = Quiet::new(settings.client_heartbeat_after);
    loop {
        while !writer.is_full()
            && let Some(answer) = outbox.next()
        {
            answer.encode(&mut writer.encoder);
        }
        if !writer.encoder.is_empty() {
            writer.flush().await?;
            quiet.interrupt();
            continue;
        }
        if outbox.is_over() {
            return Ok(());
        }
        tokio::select! {
            () = outbox.wake.notified() => {}
            () = quiet.elapsed() => {
                writer.rest();
                SessionAnswer::Heartbeat.encode(&mut writer.encoder);
            }
        }
    }
}

/// Says that nothing follows, and reads until the client has closed too: a connection that is
/// closed with something unread is reset, and what is on its way to the client may be lost.
async fn part(
    reader: &mut SealedReader<impl AsyncRead + Unpin>,
    writer: &mut SealedWriter<impl AsyncWrite + Unpin>,
) {
    let parting = async {
        writer.shutdown().await?;
        let mut unread = Vec::new();
        loop {
            reader.read(&mut unread).await?;
            unread.clear();
        }
    };
    let parted: Result<Result<(), NetError>, _> = timeout(LINGER, parting).await;
    if parted.is_err() {
        tracing::trace!("a client keeps a session open that has ended");
    }
}
