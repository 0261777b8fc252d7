//! A client's connection by the classic protocol, once it has authenticated a request.
//!
//! Many requests are under way at once and are answered in any order. Their number is bounded,
//! responses that are not written yet included: at the most the connection is not read any
//! further. So everything that is kept for it is bounded, and only a client waits for it.
//!
//! A client that sends an ATTACH is of the extension. When all before it is answered the connection
//! is handed over to have it attached, and comes back if it is not.

use std::future::{pending, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Duration, Instant, sleep_until};

use super::arrival::Newcomer;
use super::attached_connection::{AttachedConnection, Hold, Progress};
use super::attaching::{Asked, granted, invalid, refusal_status, refused, unattached};
use super::classic_stream::{Arrived, ClassicStream};
use super::client_session::binding::Bound;
use super::failures::Failures;
use super::listener::Shared;
use super::refusals::Refusals;
use super::stage::reached;
use super::{Attached, Disk, DiskError, NetError, Settings, Stage};
use crate::domain::{AttachRefusal, Content, Rank, SECTOR_SIZE, SectorAddress, Volume};
use crate::wire::{
    AttachAnswer, ClientCommand, ClientKey, ClientKind, ClientRequest, ClientResponse,
    ClientStatus, ConnectionSession, Decoded, decode_request,
};

/// Rounds without waiting before other tasks get their turn.
const ROUNDS_MAX: u32 = 8;

/// After the client has closed its direction, what is under way is answered for so long.
const HALF_CLOSED: Duration = Duration::from_secs(5);

static ZEROES: [u8; SECTOR_SIZE] = [0; SECTOR_SIZE];

/// The connection of one client.
pub(super) struct ClassicConnection<'a, D> {
    pub(super) stream: ClassicStream,
    address: SocketAddr,
    process: Rank,
    disk: &'a D,
    key: &'a ClientKey,
    refusals: &'a Refusals,
    settings: &'a Settings,
    failures: Failures,
    /// The ATTACH that waits until everything before it is answered; nothing after it is decoded.
    asked: Option<Asked>,
    /// What the last HELLO was answered and when, until an ATTACH names it.
    session: Option<(ConnectionSession, Instant)>,
    /// Whether the client has said HELLO, and so knows all statuses.
    is_extended: bool,
    /// Until when a client that sends no more may still be answered.
    half_closed: Option<Instant>,
    draining: bool,
    unanswered: u64,
}

/// A request that the disk has done with.
struct Ended {
    number: u64,
    kind: ClientKind,
    /// The sector that was read, or nothing.
    content: Result<Bytes, DiskError>,
}

impl<'a, D: Disk> ClassicConnection<'a, D> {
    pub(super) fn new<H>(
        stream: TcpStream,
        address: SocketAddr,
        shared: &'a Shared<H, D>,
        newcomer: Newcomer,
    ) -> Self {
        Self {
            stream: ClassicStream::new(stream, newcomer.received),
            address,
            process: shared.identity.rank,
            disk: &shared.disk,
            key: &shared.identity.client_key,
            refusals: &shared.refusals,
            settings: &shared.settings,
            failures: newcomer.failures,
            asked: None,
            session: None,
            is_extended: false,
            half_closed: None,
            draining: false,
            unanswered: 0,
        }
    }

    /// Serves the connection until its end, or until the client wants to attach and nothing is
    /// under way any more; `Ok` with nothing when it ended as it should.
    pub(super) async fn run(
        &mut self,
        stage: &watch::Receiver<Stage>,
    ) -> Result<Option<Asked>, NetError> {
        let (mut to_drain, mut to_stop) = (stage.clone(), stage.clone());
        let mut to_drain = pin!(reached(&mut to_drain, Stage::Draining));
        let mut to_stop = pin!(reached(&mut to_stop, Stage::Stopped));
        let disk = self.disk;
        let mut under_way = FuturesUnordered::new();
        let mut rounds: u32 = 0;
        loop {
            // All that is complete by now goes out in one write.
            let complete = poll_fn(|context| {
                let mut complete = Vec::new();
                while let Poll::Ready(Some(ended)) = under_way.poll_next_unpin(context) {
                    complete.push(ended);
                }
                Poll::Ready(complete)
            });
            for ended in complete.await {
                self.respond(ended)?;
            }
            self.stream.write()?;
            let idle = under_way.is_empty() && self.stream.gather.is_empty();
            if idle && (self.is_over() || self.asked.is_some()) {
                return Ok(self.asked.take().filter(|_| !self.is_over()));
            }
            let busy = under_way.len() + self.stream.gather.len();
            let room = self.settings.classic_in_flight_max.saturating_sub(busy);
            let reading = room > 0 && self.may_read();
            let requests = if reading {
                self.take_requests(room)
            } else {
                Vec::new()
            };
            let taken = !requests.is_empty() || (idle && self.asked.is_some());
            under_way.extend(requests.into_iter().map(|request| serve(disk, request)));
            if reading && (taken || self.read(idle)?) {
                rounds = rounds.wrapping_add(1);
                if rounds.is_multiple_of(ROUNDS_MAX) {
                    yield_now().await;
                    self.draining |= *stage.borrow() >= Stage::Draining;
                }
                continue;
            }
            let socket = &self.stream.socket;
            tokio::select! {
                biased;
                () = &mut to_stop => return Err(NetError::Stopped),
                Some(ended) = under_way.next() => self.respond(ended)?,
                ready = socket.writable(), if !self.stream.gather.is_empty() => ready?,
                ready = socket.readable(), if reading => ready?,
                () = self.failures.pause(), if self.failures.are_too_many() => {}
                () = until(self.half_closed) => return Ok(None),
                () = &mut to_drain, if !self.draining => self.draining = true,
            }
        }
    }

    /// The connection of a client that has attached; that is told so.
    pub(super) fn attached<A: Attached>(
        mut self,
        asked: &Asked,
        attached: A,
    ) -> AttachedConnection<'a, A> {
        let unattached = self.unattached();
        let response = granted(asked.number, &attached, &unattached);
        self.stream.gather.push(response.encode(self.key));
        AttachedConnection {
            stream: self.stream,
            address: self.address,
            settings: self.settings,
            of_requests: asked.session.of_requests(self.key),
            of_responses: asked.session.of_responses(self.key),
            unattached,
            hold: Hold::Attached(Bound::new(attached, asked.attach.kind)),
            progress: Progress::new(self.settings),
        }
    }

    /// Tells the client that it is not attached, and why.
    pub(super) fn refuse(&mut self, asked: &Asked, refusal: &AttachRefusal) {
        let response = refused(asked.number, refusal, &self.unattached());
        self.stream.gather.push(response.encode(self.key));
    }

    fn unattached(&self) -> AttachAnswer {
        unattached(self.settings, self.process, self.disk.sectors())
    }

    /// Whether no more requests are taken.
    fn is_over(&self) -> bool {
        self.draining || self.half_closed.is_some()
    }

    /// Whether anything is read now. Behind an ATTACH only to see the end of the connection.
    fn may_read(&self) -> bool {
        let ahead = self.asked.is_some() && self.stream.is_far_ahead();
        !self.is_over() && !self.failures.are_too_many() && !ahead
    }

    /// Decodes up to `room` requests, and answers those at once that there is nothing to do for.
    fn take_requests(&mut self, room: usize) -> Vec<Valid> {
        let mut requests = Vec::new();
        let mut decoded = 0;
        while decoded < room
            && self.asked.is_none()
            && !self.failures.are_too_many()
            && let Some(next) = decode_request(self.key, &mut self.stream.received)
        {
            decoded += 1;
            match self.judge(next) {
                Judged::Serve(valid) => requests.push(valid),
                Judged::Answer(response) => self.stream.gather.push(response.encode(self.key)),
                Judged::Attach(asked) => self.asked = Some(asked),
                Judged::Nothing => {}
            }
        }
        requests
    }

    /// What is to be done about a request.
    fn judge(&mut self, decoded: Decoded) -> Judged {
        match decoded {
            Decoded::Request(request) => {
                self.failures.forget();
                self.validate(request)
            }
            Decoded::WrongTag { number, kind } => {
                self.failures
                    .note(self.settings, self.refusals, self.address);
                bare(number, kind, ClientStatus::AuthFailure)
            }
            Decoded::Malformed { number, kind } => {
                self.failures.forget();
                match kind {
                    ClientKind::Attach => Judged::Answer(invalid(number, &self.unattached())),
                    _ => bare(number, kind, ClientStatus::NotAttached),
                }
            }
            Decoded::Unmeasured { .. } => Judged::Nothing,
        }
    }

    /// Finds the sector of an authenticated request.
    fn validate(&mut self, request: ClientRequest) -> Judged {
        let kind = request.kind();
        let ClientRequest {
            number,
            sector,
            command,
        } = request;
        let write = match command {
            ClientCommand::Read => None,
            ClientCommand::Write(data) => Some(data),
            ClientCommand::Hello => return Judged::Answer(self.greet(number)),
            ClientCommand::Attach { attach, session } => {
                let asked = Asked {
                    number,
                    attach,
                    session,
                };
                return self.judge_attach(asked);
            }
            ClientCommand::Heartbeat => return bare(number, kind, ClientStatus::Ok),
            ClientCommand::ReadRange { .. }
            | ClientCommand::WriteRange(_)
            | ClientCommand::Discard { .. }
            | ClientCommand::Detach => return bare(number, kind, ClientStatus::NotAttached),
        };
        let inside = (sector < self.disk.sectors()).then_some(sector);
        let Some(sector) = inside.and_then(|index| SectorAddress::new(Volume(0), index)) else {
            return bare(number, kind, ClientStatus::InvalidSectorIndex);
        };
        Judged::Serve(Valid {
            number,
            sector,
            write,
        })
    }

    /// Draws what the next ATTACH is to name.
    fn greet(&mut self, number: u64) -> ClientResponse {
        self.is_extended = true;
        let session = ConnectionSession(rand::random());
        self.session = Some((session, Instant::now()));
        ClientResponse::hello(number, session)
    }

    /// An ATTACH that names no session of this connection was recorded elsewhere; one that comes late
    /// was held back.
    fn judge_attach(&mut self, asked: Asked) -> Judged {
        match self.session.take() {
            Some((session, drawn))
                if session == asked.session
                    && drawn.elapsed() < self.settings.client_dead_after =>
            {
                Judged::Attach(asked)
            }
            _ => Judged::Answer(invalid(asked.number, &self.unattached())),
        }
    }

    /// Reads what has arrived; says whether there was something.
    fn read(&mut self, idle: bool) -> Result<bool, NetError> {
        match self.stream.read()? {
            Arrived::End => {
                self.half_closed = Some(Instant::now() + HALF_CLOSED);
                // Once more around, where it may be seen that nothing is left to do.
                Ok(true)
            }
            Arrived::Bytes => Ok(true),
            Arrived::Nothing => {
                if idle {
                    self.stream.rest();
                }
                Ok(false)
            }
        }
    }

    fn respond(&mut self, ended: Ended) -> Result<(), NetError> {
        let Ended {
            number,
            kind,
            content,
        } = ended;
        match content {
            Ok(content) => {
                let response = ClientResponse {
                    number,
                    kind,
                    status: ClientStatus::Ok,
                    content,
                };
                self.stream.gather.push(response.encode(self.key));
                Ok(())
            }
            Err(DiskError::Closing) => Err(NetError::Stopped),
            Err(DiskError::Held(refusal)) if self.is_extended => {
                let status = refusal_status(&refusal);
                let response = ClientResponse::bare(number, kind, status);
                self.stream.gather.push(response.encode(self.key));
                Ok(())
            }
            Err(DiskError::Held(refusal)) => Err(NetError::Held(refusal)),
            Err(DiskError::Unanswered(why)) => {
                self.unanswered += 1;
                if self.unanswered.is_power_of_two() {
                    tracing::warn!(
                        "{} requests of the classic client {} stay without an answer: {why}",
                        self.unanswered,
                        self.address
                    );
                }
                Ok(())
            }
        }
    }
}

/// What becomes of what was decoded.
enum Judged {
    Serve(Valid),
    Answer(ClientResponse),
    Attach(Asked),
    Nothing,
}

/// A request for a sector that there is.
struct Valid {
    number: u64,
    sector: SectorAddress,
    /// What is to be written, unless it is to be read.
    write: Option<Bytes>,
}

fn bare(number: u64, kind: ClientKind, status: ClientStatus) -> Judged {
    Judged::Answer(ClientResponse::bare(number, kind, status))
}

async fn serve<D: Disk>(disk: &D, request: Valid) -> Ended {
    let Valid {
        number,
        sector,
        write,
    } = request;
    let (kind, content) = match write {
        None => {
            let content = disk.read(sector).await.map(|content| match content {
                Content::Zeroes => Bytes::from_static(&ZEROES),
                Content::Data(bytes) => bytes,
                Content::Unchanged => unreachable!("only stores carry it"),
            });
            (ClientKind::Read, content)
        }
        Some(data) => {
            let written = disk.write(sector, data).await;
            (ClientKind::Write, written.map(|()| Bytes::new()))
        }
    };
    Ended {
        number,
        kind,
        content,
    }
}

async fn until(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}
