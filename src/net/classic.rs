//! A client's connection by the classic protocol, once it has authenticated a request.
//!
//! Many requests are under way at once and are answered in any order. Their number is bounded,
//! responses that are not written yet included: at the most the connection is not read any
//! further. So everything that is kept for it is bounded, and only a client waits for it.

use std::future::{pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::yield_now;
use tokio::time::{Duration, Instant, sleep_until};

use super::arrival::Newcomer;
use super::failures::Failures;
use super::gather::Gather;
use super::listener::Shared;
use super::refusals::Refusals;
use super::stage::reached;
use super::{Disk, DiskError, NetError, Settings, Stage};
use crate::domain::{Content, SECTOR_SIZE, SectorAddress, Volume};
use crate::wire::{
    ClientCommand, ClientKey, ClientKind, ClientRequest, ClientResponse, ClientStatus, Decoded,
    decode_request,
};

const READ_BYTES_MIN: usize = 8 << 10;
const READ_BYTES_MAX: usize = 128 << 10;

/// Rounds without waiting before other tasks get their turn.
const ROUNDS_MAX: u32 = 8;

/// After the client has closed its direction, what is under way is answered for so long.
const HALF_CLOSED: Duration = Duration::from_secs(5);

static ZEROES: [u8; SECTOR_SIZE] = [0; SECTOR_SIZE];

/// The connection of one client.
pub(super) struct ClassicConnection<'a, D> {
    stream: TcpStream,
    address: SocketAddr,
    disk: &'a D,
    key: &'a ClientKey,
    refusals: &'a Refusals,
    settings: &'a Settings,
    received: BytesMut,
    read_bytes: usize,
    gather: Gather,
    failures: Failures,
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
            stream,
            address,
            disk: &shared.disk,
            key: &shared.identity.client_key,
            refusals: &shared.refusals,
            settings: &shared.settings,
            received: newcomer.received,
            read_bytes: READ_BYTES_MIN,
            gather: Gather::default(),
            failures: newcomer.failures,
            half_closed: None,
            draining: false,
            unanswered: 0,
        }
    }

    /// Serves the connection until its end; `Ok` when it ended as it should.
    pub(super) async fn run(mut self, stage: watch::Receiver<Stage>) -> Result<(), NetError> {
        let (mut to_drain, mut to_stop) = (stage.clone(), stage.clone());
        let mut to_drain = pin!(reached(&mut to_drain, Stage::Draining));
        let mut to_stop = pin!(reached(&mut to_stop, Stage::Stopped));
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
            self.gather.write_to(&self.stream)?;
            let idle = under_way.is_empty() && self.gather.is_empty();
            if idle && self.is_over() {
                return Ok(());
            }
            let busy = under_way.len() + self.gather.len();
            let room = self.settings.classic_in_flight_max.saturating_sub(busy);
            let reading = room > 0 && !self.is_over() && !self.failures.are_too_many();
            let requests = if reading {
                self.take_requests(room)
            } else {
                Vec::new()
            };
            let taken = !requests.is_empty();
            under_way.extend(
                requests
                    .into_iter()
                    .map(|request| serve(self.disk, request)),
            );
            if reading && (taken || self.read(idle)?) {
                rounds = rounds.wrapping_add(1);
                if rounds.is_multiple_of(ROUNDS_MAX) {
                    yield_now().await;
                    self.draining |= *stage.borrow() >= Stage::Draining;
                }
                continue;
            }
            tokio::select! {
                biased;
                () = &mut to_stop => return Err(NetError::Stopped),
                Some(ended) = under_way.next() => self.respond(ended)?,
                ready = self.stream.writable(), if !self.gather.is_empty() => ready?,
                ready = self.stream.readable(), if reading => ready?,
                () = self.failures.pause(), if self.failures.are_too_many() => {}
                () = until(self.half_closed) => return Ok(()),
                () = &mut to_drain, if !self.draining => self.draining = true,
            }
        }
    }

    /// Whether no more requests are taken.
    fn is_over(&self) -> bool {
        self.draining || self.half_closed.is_some()
    }

    /// Decodes up to `room` requests, and answers those at once that there is nothing to do for.
    fn take_requests(&mut self, room: usize) -> Vec<Valid> {
        let mut requests = Vec::new();
        let mut decoded = 0;
        while decoded < room
            && !self.failures.are_too_many()
            && let Some(next) = decode_request(self.key, &mut self.received)
        {
            decoded += 1;
            match self.validate(next) {
                Ok(valid) => requests.push(valid),
                Err(refused) => self.gather.push(refused.encode(self.key)),
            }
        }
        requests
    }

    /// Finds the sector of an authenticated request, or the response that refuses it.
    fn validate(&mut self, decoded: Decoded) -> Result<Valid, ClientResponse> {
        let request = match decoded {
            Decoded::Request(request) => request,
            Decoded::WrongTag { number, kind } => {
                self.failures
                    .note(self.settings, self.refusals, self.address);
                return Err(ClientResponse::bare(
                    number,
                    kind,
                    ClientStatus::AuthFailure,
                ));
            }
        };
        self.failures.forget();
        let kind = request.kind();
        let ClientRequest {
            number,
            sector,
            command,
        } = request;
        let inside = (sector < self.disk.sectors()).then_some(sector);
        let sector = inside.and_then(|index| SectorAddress::new(Volume(0), index));
        let sector = sector
            .ok_or_else(|| ClientResponse::bare(number, kind, ClientStatus::InvalidSectorIndex))?;
        Ok(Valid {
            number,
            sector,
            command,
        })
    }

    /// Reads what has arrived; says whether there was something.
    fn read(&mut self, idle: bool) -> Result<bool, NetError> {
        self.received.reserve(self.read_bytes);
        match self.stream.try_read_buf(&mut self.received) {
            Ok(0) => {
                self.half_closed = Some(Instant::now() + HALF_CLOSED);
                // Once more around, where it may be seen that nothing is left to do.
                Ok(true)
            }
            Ok(received) => {
                let next = received.saturating_mul(2);
                self.read_bytes = next.clamp(READ_BYTES_MIN, READ_BYTES_MAX);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if idle && self.received.is_empty() {
                    self.received = BytesMut::new();
                }
                Ok(false)
            }
            Err(error) => Err(error.into()),
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
                self.gather.push(response.encode(self.key));
                Ok(())
            }
            Err(DiskError::Closing) => Err(NetError::Stopped),
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

/// A request for a sector that there is.
struct Valid {
    number: u64,
    sector: SectorAddress,
    command: ClientCommand,
}

async fn serve<D: Disk>(disk: &D, request: Valid) -> Ended {
    let Valid {
        number,
        sector,
        command,
    } = request;
    let (kind, content) = match command {
        ClientCommand::Read => {
            let content = disk.read(sector).await.map(|content| match content {
                Content::Zeroes => Bytes::from_static(&ZEROES),
                Content::Data(bytes) => bytes,
                Content::Unchanged => unreachable!("only stores carry it"),
            });
            (ClientKind::Read, content)
        }
        ClientCommand::Write(data) => {
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
