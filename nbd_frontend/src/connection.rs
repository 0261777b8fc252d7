//! One client in the transmission phase.
//!
//! Everything of a connection happens in one task: it reads requests, runs their futures side by
//! side, and writes replies in the order in which they get ready. Each pass reads once, starts all
//! requests that came, looks after those under way, and writes all replies in one go; so at depth
//! the number of system calls is a fraction of the number of requests, and at depth one a request
//! changes no thread that the device does not change itself.
//!
//! Guarantees: a request that was read as a whole is carried out to its end, whether the client is
//! still there or not (only the end of the grace period cuts it short, at shutdown and when the
//! device is lost); at most [`Rules::requests_max`] are between being read and being answered.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};
use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tracing::{debug, warn};

use crate::budget::{Budget, Reservation};
use crate::byte_device::Run;
use crate::command::{Command, Terms};
use crate::device::DeviceError;
use crate::ending::{End, Ending};
use crate::export;
use crate::incoming::{Arrival, Incoming, IncomingError};
use crate::outgoing::{Heading, Outgoing};
use crate::proto::{ErrorCode, Refusal};
use crate::seats::Seat;
use crate::socket::Peer;

/// How often a connection looks whether it is idle or stalled.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// A client that owes us a payload, or does not take its replies, moves at least this much between
/// two looks, or it loses its connection when others wait for the memory that it keeps.
const BYTES_BETWEEN_LOOKS_MIN: u64 = 64 << 10;
/// How long a client may take for the last replies after the grace period, and to close its side.
const FAREWELL: Duration = Duration::from_secs(1);

/// Why a connection ended before the client wanted it to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error("no more requests can be read")]
    Incoming(#[from] IncomingError),
    #[error("a reply cannot be written")]
    Outgoing(#[source] io::Error),
    #[error("the client keeps memory that others wait for, and neither sends nor receives")]
    Stalled,
}

pin_project! {
    /// A request under way.
    struct InFlight<F> {
        heading: Heading,
        reservation: Option<Reservation>,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for InFlight<F> {
    type Output = (Heading, F::Output, Option<Reservation>);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let heading = *this.heading;
        this.future
            .poll(cx)
            .map(|output| (heading, output, this.reservation.take()))
    }
}

/// The bounds and rules of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) terms: Terms,
    /// Requests between being read and being answered.
    pub(crate) requests_max: usize,
    pub(crate) budget: Arc<Budget>,
}

/// A client's socket, after the handshake.
pub(crate) struct Link<S> {
    pub(crate) peer: Peer,
    pub(crate) stream: S,
    /// What was read from it already.
    pub(crate) ahead: BytesMut,
}

/// A client in the transmission phase, over a socket `S`; `F` is a request under way.
pub(crate) struct Connection<S, F> {
    peer: Peer,
    stream: S,
    rules: Rules,
    incoming: Incoming,
    in_flight: FuturesUnordered<InFlight<F>>,
    outgoing: Outgoing,
    /// False once no more requests are taken.
    accepting: bool,
    /// The place among the clients, until the client has gone.
    seat: Option<Seat>,
    look: Look,
    device_failed: bool,
}

/// The timer of the next look at what the connection does; it stands still on an idle connection.
struct Look {
    timer: Pin<Box<Sleep>>,
    running: bool,
    moved_bytes: u64,
}

impl<S, F> Connection<S, F>
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Result<Vec<Run>, DeviceError>>,
{
    pub(crate) fn new(link: Link<S>, rules: Rules, seat: Seat) -> Self {
        Self {
            peer: link.peer,
            stream: link.stream,
            incoming: Incoming::new(Arc::clone(&rules.budget), link.ahead),
            in_flight: FuturesUnordered::new(),
            outgoing: Outgoing::new(rules.terms.structured_replies),
            rules,
            accepting: true,
            seat: Some(seat),
            look: Look {
                timer: Box::pin(sleep_until(Instant::now())),
                running: false,
                moved_bytes: 0,
            },
            device_failed: false,
        }
    }

    /// Serves the client until it leaves or its `ending` begins; `start` begins a request, and hears
    /// of a goodbye.
    pub(crate) async fn run(
        mut self,
        mut ending: Ending<'_>,
        mut start: impl FnMut(Command, Bytes) -> F,
    ) -> Result<(), ConnectionError> {
        let result = tokio::select! {
            biased;
            end = ending.begins() => return self.drain(end, ending, start).await,
            result = poll_fn(|cx| self.poll(cx, &mut start)) => result,
        };
        if result.is_ok() {
            self.stream
                .shutdown()
                .await
                .map_err(ConnectionError::Outgoing)
        } else {
            self.settle(ending).await;
            result
        }
    }

    /// Finishes what is under way until it is due, refuses the rest, and says goodbye.
    async fn drain(
        mut self,
        end: End,
        mut ending: Ending<'_>,
        mut start: impl FnMut(Command, Bytes) -> F,
    ) -> Result<(), ConnectionError> {
        self.accepting = false;
        if end == End::Lost {
            warn!(peer = %self.peer, "the device is lost to a client; closing its connection");
            // Its requests fail now, which says nothing new.
            self.device_failed = true;
        }
        let result = tokio::select! {
            biased;
            result = poll_fn(|cx| self.poll(cx, &mut start)) => Some(result),
            () = ending.is_due() => None,
        };
        match result {
            Some(Ok(())) => {}
            Some(Err(error)) => {
                self.settle(ending).await;
                return Err(error);
            }
            // What the device leaves open is not answered: an error would be final, but a client
            // whose connection ends may have another one to the same disk.
            None if end == End::Lost => self.in_flight.clear(),
            None => {
                let refusal = Refusal::new(ErrorCode::ShuttingDown, "the server is shutting down");
                for request in Pin::new(&self.in_flight).iter_pin_ref() {
                    self.outgoing.fail(request.heading.cookie, &refusal, None);
                }
                self.in_flight.clear();
            }
        }
        let Self {
            mut stream,
            mut outgoing,
            ..
        } = self;
        // Requests that came too late are read and dropped until the client closes its side: to
        // close with unread bytes would reset the connection, and the last replies with it.
        let farewell = timeout(FAREWELL, async {
            poll_fn(|cx| outgoing.poll_write(&mut stream, cx)).await?;
            stream.shutdown().await?;
            tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
        });
        match farewell.await {
            Ok(Err(error)) => Err(ConnectionError::Outgoing(error)),
            Ok(Ok(_)) | Err(_) => Ok(()),
        }
    }

    /// Lets the requests of a client that has gone come to their end: another client may already
    /// write to the same sectors, and must find them written or not, but not half under way.
    async fn settle(self, mut ending: Ending<'_>) {
        let Self {
            stream,
            outgoing,
            seat,
            mut in_flight,
            ..
        } = self;
        drop((stream, outgoing, seat));
        tokio::select! {
            () = async { while in_flight.next().await.is_some() {} } => {}
            () = ending.is_due() => {}
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        start: &mut impl FnMut(Command, Bytes) -> F,
    ) -> Poll<Result<(), ConnectionError>> {
        let moved_bytes = self.moved_bytes();
        loop {
            self.poll_requests(cx, start)?;
            let was_full = self.is_full();
            self.poll_in_flight(cx);
            if let Poll::Ready(result) = self.outgoing.poll_write(&mut self.stream, cx) {
                result.map_err(ConnectionError::Outgoing)?;
            }
            if !self.accepting && self.in_flight.is_empty() && self.outgoing.replies() == 0 {
                return Poll::Ready(Ok(()));
            }
            // Reading comes last: only now is it known what the next request waits for.
            let filled = self.poll_fill(cx)?;
            let is_free_again = was_full && !self.is_full();
            if !filled && !is_free_again {
                break;
            }
        }
        if self.moved_bytes() > moved_bytes || self.keeps_memory() {
            self.start_looking();
        }
        self.poll_look(cx)
    }

    /// Reads once, if something is there; whether it was.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Result<bool, ConnectionError> {
        if !self.accepting {
            return Ok(false);
        }
        match self.incoming.poll_fill(&mut self.stream, cx) {
            Poll::Ready(Ok(())) => Ok(true),
            Poll::Ready(Err(error)) => Err(IncomingError::Socket(error).into()),
            Poll::Pending => Ok(false),
        }
    }

    /// Starts all requests that were read, as far as the bounds allow.
    fn poll_requests(
        &mut self,
        cx: &mut Context<'_>,
        start: &mut impl FnMut(Command, Bytes) -> F,
    ) -> Result<(), ConnectionError> {
        while self.accepting && !self.is_full() {
            let Poll::Ready(arrival) = self.incoming.poll_next(&self.rules.terms, cx) else {
                break;
            };
            match arrival? {
                Arrival::Request {
                    cookie,
                    command,
                    payload,
                    reservation,
                } => {
                    self.in_flight.push(InFlight {
                        heading: Heading::new(cookie, &command),
                        reservation: Some(reservation),
                        future: start(command, payload),
                    });
                }
                Arrival::Refused { cookie, refusal } => {
                    debug!(peer = %self.peer, text = %refusal.text, "refused a request");
                    self.outgoing.fail(cookie, &refusal, None);
                }
                Arrival::Goodbye => {
                    // It has no answer, and there is nothing to wait for.
                    drop(start(Command::Disconnect, Bytes::new()));
                    self.leave();
                }
                Arrival::End => self.leave(),
            }
        }
        Ok(())
    }

    /// The client sends no more.
    fn leave(&mut self) {
        self.accepting = false;
        self.seat = None;
    }

    /// Queues the replies to all requests that got done.
    fn poll_in_flight(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some((heading, result, reservation))) =
            self.in_flight.poll_next_unpin(cx)
        {
            match result {
                Ok(runs) => self.outgoing.succeed(heading, &runs, reservation),
                Err(error) => {
                    self.report(&error);
                    let refusal = export::refusal(&error);
                    self.outgoing.fail(heading.cookie, &refusal, reservation);
                }
            }
        }
    }

    /// Says once a connection that the device fails; every later failure would say the same.
    fn report(&mut self, error: &DeviceError) {
        let text = &export::refusal(error).text;
        if self.device_failed || matches!(error, DeviceError::ShuttingDown) {
            debug!(peer = %self.peer, %text, "the device failed a request");
        } else {
            warn!(peer = %self.peer, %text, "the device failed a request; clients see an I/O error");
        }
        self.device_failed = true;
    }

    /// Whether no more requests may be taken until some are answered.
    fn is_full(&self) -> bool {
        self.in_flight.len() + self.outgoing.replies() >= self.rules.requests_max
    }

    /// Whether memory is kept until the client sends or receives something.
    fn keeps_memory(&self) -> bool {
        self.incoming.awaits_payload() || self.outgoing.replies() > 0
    }

    fn moved_bytes(&self) -> u64 {
        self.incoming.read_bytes() + self.outgoing.written_bytes()
    }

    fn start_looking(&mut self) {
        if !self.look.running {
            self.look.running = true;
            self.look.moved_bytes = self.moved_bytes();
            self.look
                .timer
                .as_mut()
                .reset(Instant::now() + LOOK_INTERVAL);
        }
    }

    /// Gives back the memory of a connection that does nothing, and ends one that keeps memory
    /// from others by doing nothing.
    fn poll_look(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        while self.look.running && self.look.timer.poll_unpin(cx).is_ready() {
            let moved_bytes = self.moved_bytes() - self.look.moved_bytes;
            let is_stalled = self.keeps_memory() && moved_bytes < BYTES_BETWEEN_LOOKS_MIN;
            if is_stalled && self.rules.budget.is_contended() {
                return Poll::Ready(Err(ConnectionError::Stalled));
            }
            self.look.running = false;
            if moved_bytes > 0 || self.keeps_memory() {
                self.start_looking();
            } else {
                self.incoming.shrink();
                self.outgoing.shrink();
            }
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests;
