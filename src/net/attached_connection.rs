//! A classic connection whose client has attached, from the answer to its ATTACH to its end.
//!
//! **What arrived too late is not done.** The rules are those of `client_session`: a client that was
//! silent for too long may have given the connection up, and what it asks may have been asked
//! again elsewhere, under the same generation and with newer changes after it. So neither bytes nor
//! requests are taken when that may be. Unlike a session, this connection is not read while as
//! much is under way as may be: then what waits unread is looked at only if the client has not
//! closed the connection meanwhile, and a connection that cannot be read for as long as a client may
//! be silent is dropped.

mod under_way;

use std::future::{pending, poll_fn};
use std::net::SocketAddr;
use std::task::Poll;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::Instant;

use self::under_way::{Ended, UnderWay};
use super::attaching::{error_status, invalid};
use super::classic_stream::{Arrived, ClassicStream};
use super::client_session::binding::{Bound, Operation};
use super::stage::reached;
use super::transport::Quiet;
use super::{Attached, NetError, Settings, Stage, socket};
use crate::domain::{Fence, SECTOR_SIZE};
use crate::wire::{
    AttachAnswer, ClientCommand, ClientKind, ClientRequest, ClientResponse, ClientStatus, Decoded,
    RequestNumber, SectorValues, SessionAnswer, SessionTagger, decode_request, seal_pieces,
};

/// Rounds without waiting before other tasks get their turn.
const ROUNDS_MAX: u32 = 8;

const ZEROES_BYTES: usize = 64 << 10;
static ZEROES: [u8; ZEROES_BYTES] = [0; ZEROES_BYTES];
const ZERO_SECTORS: usize = ZEROES_BYTES / SECTOR_SIZE;

/// The connection of one attached client.
pub(super) struct AttachedConnection<'a, A> {
    pub(super) stream: ClassicStream,
    pub(super) address: SocketAddr,
    pub(super) settings: &'a Settings,
    pub(super) of_requests: SessionTagger,
    pub(super) of_responses: SessionTagger,
    /// What another ATTACH is told.
    pub(super) unattached: AttachAnswer,
    pub(super) hold: Hold<A>,
    pub(super) progress: Progress,
}

/// How far the attachment is.
pub(super) enum Hold<A> {
    /// Operations run.
    Attached(Bound<A>),
    /// What was asked before the DETACH of this number is waited for.
    Detaching(Bound<A>, u64),
    /// It was given back, or has ended.
    Over,
}

/// What was taken, and what of it is not answered.
pub(super) struct Progress {
    under_way: FuturesUnordered<UnderWay>,
    under_way_bytes: u64,
    /// The number of the last request.
    last: Option<u64>,
    /// When the last bytes were taken.
    heard: Instant,
    quiet: Quiet,
    /// Whether nothing could be taken, since too much was under way.
    blocked: bool,
    draining: bool,
}

impl Progress {
    /// Nothing yet.
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            under_way: FuturesUnordered::new(),
            under_way_bytes: 0,
            last: None,
            heard: Instant::now(),
            quiet: Quiet::new(settings.client_dead_after),
            blocked: false,
            draining: false,
        }
    }
}

impl<A> Hold<A> {
    /// Returns once the attachment has ended; nothing is lost when the future is dropped.
    async fn fenced(&mut self) -> Fence
    where
        A: Attached,
    {
        match self {
            Self::Attached(bound) | Self::Detaching(bound, _) => bound.fenced().await,
            Self::Over => pending().await,
        }
    }
}

impl<A: Attached> AttachedConnection<'_, A> {
    /// Serves the connection until its end; `Ok` when it ended as it should.
    pub(super) async fn run(mut self, mut stage: watch::Receiver<Stage>) -> Result<(), NetError> {
        let mut to_stop = stage.clone();
        let ended = tokio::select! {
            ended = self.serve(&mut stage) => ended,
            () = reached(&mut to_stop, Stage::Stopped) => return Err(NetError::Stopped),
        };
        // Operations that are dropped go on to their end in the process.
        self.progress.under_way.clear();
        self.hold = Hold::Over;
        if matches!(ended, Ok(()) | Err(NetError::Fault(_))) {
            tokio::select! {
                () = self.stream.part(self.settings.client_dead_after) => {}
                () = reached(&mut to_stop, Stage::Stopped) => {}
            }
        }
        ended
    }

    async fn serve(&mut self, stage: &mut watch::Receiver<Stage>) -> Result<(), NetError> {
        let mut rounds: u32 = 0;
        loop {
            if self.take_ended().await.is_some() {
                self.end_all();
                return Ok(());
            }
            self.finish();
            self.stream.write()?;
            let idle = self.progress.under_way.is_empty() && self.stream.gather.is_empty();
            if idle && self.progress.draining {
                return Ok(());
            }
            let reading = self.may_read()?;
            if reading && (self.take()? || self.read(idle)?) {
                rounds = rounds.wrapping_add(1);
                if rounds.is_multiple_of(ROUNDS_MAX) {
                    yield_now().await;
                    self.progress.draining |= *stage.borrow() >= Stage::Draining;
                }
                continue;
            }
            let progress = &mut self.progress;
            let socket = &self.stream.socket;
            tokio::select! {
                biased;
                Some(ended) = progress.under_way.next() => self.respond(ended),
                _ = self.hold.fenced() => {
                    self.end_all();
                    return Ok(());
                }
                ready = socket.writable(), if !self.stream.gather.is_empty() => ready?,
                ready = socket.readable(), if reading => ready?,
                () = progress.quiet.elapsed() => return Err(self.silence()),
                () = reached(stage, Stage::Draining), if !progress.draining => {
                    progress.draining = true;
                }
            }
        }
    }

    /// Responds to all that is complete by now, which then goes out in one write; says whether the
    /// attachment has ended.
    async fn take_ended(&mut self) -> Option<Fence> {
        let (complete, fenced) = {
            let under_way = &mut self.progress.under_way;
            let mut fenced = std::pin::pin!(self.hold.fenced());
            poll_fn(|context| {
                let mut complete = Vec::new();
                while let Poll::Ready(Some(ended)) = under_way.poll_next_unpin(context) {
                    complete.push(ended);
                }
                let fenced = match fenced.as_mut().poll(context) {
                    Poll::Ready(by) => Some(by),
                    Poll::Pending => None,
                };
                Poll::Ready((complete, fenced))
            })
            .await
        };
        for ended in complete {
            self.respond(ended);
        }
        fenced
    }

    /// The attachment was ended: what is not complete has an unknown outcome.
    fn end_all(&mut self) {
        let under_way = std::mem::take(&mut self.progress.under_way);
        for ended in &under_way {
            self.answer(ended.number, ended.kind, ClientStatus::Fenced);
        }
        if let Hold::Detaching(_, number) = self.hold {
            self.answer(number, ClientKind::Detach, ClientStatus::Fenced);
        }
    }

    /// Gives the attachment back when nothing is under way any more, if that was asked for.
    fn finish(&mut self) {
        if !self.progress.under_way.is_empty() {
            return;
        }
        if let Hold::Detaching(_, number) = self.hold {
            // First given back, then said so.
            self.hold = Hold::Over;
            self.answer(number, ClientKind::Detach, ClientStatus::Ok);
        }
    }

    fn has_room(&self) -> bool {
        let credit = self.settings.client_credit;
        let Self {
            stream, progress, ..
        } = self;
        let requests = progress.under_way.len() + stream.gather.len();
        let bytes = progress.under_way_bytes + stream.gather.content_bytes();
        u32::try_from(requests).is_ok_and(|it| it < credit.requests) && bytes < credit.bytes
    }

    /// Whether something is to be taken now. After a while in which nothing could be, only if the
    /// client still waits for it.
    fn may_read(&mut self) -> Result<bool, NetError> {
        let may = self.progress.draining || self.has_room();
        let was_blocked = std::mem::replace(&mut self.progress.blocked, !may);
        if may && was_blocked && socket::nothing_follows(&self.stream.socket)? {
            return Err(NetError::Closed);
        }
        Ok(may)
    }

    /// Takes the requests that have arrived and that there is room for; whether there were any.
    fn take(&mut self) -> Result<bool, NetError> {
        if self.progress.draining {
            self.stream.received.clear();
            return Ok(false);
        }
        self.check_silence()?;
        let mut taken = false;
        while self.has_room() {
            let Some(next) = decode_request(&self.of_requests, &mut self.stream.received) else {
                break;
            };
            taken = true;
            self.take_one(next)?;
        }
        Ok(taken)
    }

    fn take_one(&mut self, decoded: Decoded) -> Result<(), NetError> {
        match decoded {
            Decoded::Request(request) => {
                self.check_number(request.number)?;
                self.begin(request);
                Ok(())
            }
            Decoded::Malformed { number, kind } => {
                self.check_number(number)?;
                self.answer(number, kind, ClientStatus::Invalid);
                Ok(())
            }
            // Nobody chooses for us what a number is used for: these are not answered.
            Decoded::WrongTag { .. } => {
                let fault = "a request on its attached connection has a wrong tag";
                Err(NetError::Fault(fault.into()))
            }
            Decoded::Unmeasured { .. } => {
                let fault = "it wrote no sectors, or more at once than may be";
                Err(NetError::Fault(fault.into()))
            }
        }
    }

    fn check_number(&mut self, number: u64) -> Result<(), NetError> {
        if self.progress.last.is_some_and(|last| number <= last) {
            let fault = "the number of a request is not above that of the one before";
            return Err(NetError::Fault(fault.into()));
        }
        self.progress.last = Some(number);
        Ok(())
    }

    fn begin(&mut self, request: ClientRequest) {
        let kind = request.kind();
        let ClientRequest {
            number,
            sector: first,
            command,
        } = request;
        let operation = match command {
            ClientCommand::Attach { .. } | ClientCommand::Hello => {
                return self.answer(number, kind, ClientStatus::Invalid);
            }
            ClientCommand::Heartbeat => return self.answer(number, kind, ClientStatus::Ok),
            ClientCommand::Detach => return self.detach(number),
            ClientCommand::Read => Operation::Read { first, count: 1 },
            ClientCommand::ReadRange { count } => Operation::Read { first, count },
            ClientCommand::Write(data) | ClientCommand::WriteRange(data) => {
                Operation::Write { first, data }
            }
            ClientCommand::Discard { count } => Operation::Discard { first, count },
        };
        let cost = operation.cost();
        let Hold::Attached(bound) = &self.hold else {
            return self.answer(number, kind, ClientStatus::NotAttached);
        };
        match bound.operate(RequestNumber(number), operation) {
            Ok(work) => {
                self.progress.under_way_bytes += cost;
                let under_way = UnderWay::new(number, kind, cost, work);
                self.progress.under_way.push(under_way);
            }
            Err(error) => self.answer(number, kind, error_status(&error)),
        }
    }

    fn detach(&mut self, number: u64) {
        match std::mem::replace(&mut self.hold, Hold::Over) {
            Hold::Attached(bound) => self.hold = Hold::Detaching(bound, number),
            hold => {
                self.hold = hold;
                self.answer(number, ClientKind::Detach, ClientStatus::NotAttached);
            }
        }
    }

    /// Reads what has arrived; says whether there was something.
    fn read(&mut self, idle: bool) -> Result<bool, NetError> {
        match self.stream.read()? {
            Arrived::Bytes => {
                self.check_silence()?;
                self.progress.heard = Instant::now();
                self.progress.quiet.interrupt();
                Ok(true)
            }
            Arrived::Nothing => {
                if idle {
                    self.stream.rest();
                }
                Ok(false)
            }
            // The attachment ends with it: whoever attaches hears what it is answered.
            Arrived::End => Err(NetError::Closed),
        }
    }

    /// Nothing is taken of a client that was silent for too long.
    fn check_silence(&self) -> Result<(), NetError> {
        if self.progress.heard.elapsed() > self.settings.client_dead_after {
            return Err(self.silence());
        }
        Ok(())
    }

    fn silence(&self) -> NetError {
        tracing::debug!("nothing was taken of {} for too long", self.address);
        NetError::Silent {
            silence: self.settings.client_dead_after,
        }
    }

    fn respond(&mut self, ended: Ended) {
        let Ended {
            number,
            kind,
            cost,
            answer,
        } = ended;
        self.progress.under_way_bytes -= cost;
        match answer {
            SessionAnswer::Values { values, .. } => {
                let pieces = pieces(values);
                let (head, tag) = seal_pieces(number, kind, &pieces, &self.of_responses);
                self.stream.gather.push_pieces(head, pieces, tag);
            }
            SessionAnswer::Done { .. } => self.answer(number, kind, ClientStatus::Ok),
            SessionAnswer::Failed { error, .. } => self.answer(number, kind, error_status(&error)),
            other => unreachable!("no operation is answered so: {other:?}"),
        }
    }

    /// Answers without content, but for an ATTACH.
    fn answer(&mut self, number: u64, kind: ClientKind, status: ClientStatus) {
        let response = match (kind, status) {
            (ClientKind::Attach, ClientStatus::Invalid) => invalid(number, &self.unattached),
            _ => ClientResponse::bare(number, kind, status),
        };
        self.stream.gather.push(response.encode(&self.of_responses));
    }
}

/// The bytes that were read; zeroes are not copied.
fn pieces(values: Vec<SectorValues>) -> Vec<Bytes> {
    let mut pieces = Vec::with_capacity(values.len());
    for value in values {
        match value {
            SectorValues::Data(data) => pieces.push(data),
            SectorValues::Zeroes(count) => {
                let mut left = usize::try_from(count).expect("far below 4 GiB");
                while left > 0 {
                    let sectors = left.min(ZERO_SECTORS);
                    pieces.push(Bytes::from_static(&ZEROES[..sectors * SECTOR_SIZE]));
                    left -= sectors;
                }
            }
        }
    }
    pieces
}
