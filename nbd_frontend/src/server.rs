//! The server: it listens, seats clients, and sees them off.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep};
use tracing::{debug, error, info, warn};

use crate::address::Address;
use crate::budget::Budget;
use crate::connection::{Connection, ConnectionError, Link, Rules};
use crate::device::{SectorExport, Unavailable};
use crate::ending::{Close, Ending};
use crate::export::{Export, OpenExport};
use crate::handshake::{Agreement, HandshakeError, Offer, negotiate};
use crate::incoming::IncomingError;
use crate::proto::STRING_BYTES_MAX;
use crate::seats::{Admission, ConnectionId, Seat, Seats};
use crate::socket::{ListenError, Listener, Peer, Socket};

/// The largest READ or WRITE that clients are told of: every client may use it, by the
/// specification.
const PAYLOAD_BYTES_ADVERTISED: u32 = 32 << 20;
/// The largest READ or WRITE that is carried out: what the largest clients were seen to send.
const PAYLOAD_BYTES_MAX: u64 = 64 << 20;
/// How long to wait when no connection can be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How a device is served. Start from [`Options::default`].
#[derive(Clone, Debug)]
pub struct Options {
    /// The name by which clients may ask for the export, besides the empty one. At most 4096
    /// bytes.
    pub export_name: String,
    /// A line for humans, shown by `nbdinfo --list`. At most 4096 bytes.
    pub description: String,
    /// Refuse all writes.
    pub read_only: bool,
    /// Clients at a time. When there are more, the oldest that has not chosen an export is
    /// dropped; if there is none, the newcomer.
    pub connections_max: usize,
    /// Requests of one client between being read and being answered; more wait in the socket.
    pub requests_max: usize,
    /// Bytes for the payloads of all requests under way together. A request that is larger than
    /// this (64 MiB at most) waits until it is alone.
    pub memory_bytes_max: u64,
    /// At shutdown, how long requests under way may take; what is left then is answered with
    /// ESHUTDOWN.
    pub grace: Duration,
}

impl Default for Options {
    /// A writable export without a name, for at most 1024 clients of 256 requests each, with
    /// 256 MiB of memory and 5 seconds of grace.
    fn default() -> Self {
        Self {
            export_name: String::new(),
            description: String::new(),
            read_only: false,
            connections_max: 1024,
            requests_max: 256,
            memory_bytes_max: 256 << 20,
            grace: Duration::from_secs(5),
        }
    }
}

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The protocol has no place for such a text.
    #[error("the export's {0} is no text for NBD: at most 4096 bytes, and no NUL among them")]
    Text(&'static str),
    /// There is no socket to listen on.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// A server that listens, with clients waiting until it [runs](Self::run).
#[derive(Debug)]
pub struct Server<E> {
    listener: Listener,
    address: Address,
    service: Arc<Service<E>>,
    connections_max: usize,
    grace: Duration,
}

/// What all connections share.
#[derive(Debug)]
struct Service<E> {
    export: Export<E>,
    budget: Arc<Budget>,
    requests_max: usize,
}

impl<E: SectorExport> Server<E> {
    /// Begins to listen. Port 0 lets the system choose a port; a unix socket that nobody answers
    /// on is replaced. A device that is always there is served as
    /// [`AlwaysOpen`](crate::AlwaysOpen).
    pub async fn bind(
        address: &Address,
        options: Options,
        export: Arc<E>,
    ) -> Result<Self, ServerError> {
        check_text("name", &options.export_name)?;
        check_text("description", &options.description)?;
        let (listener, address) = Listener::bind(address).await?;
        let export = Export::new(
            options.export_name,
            options.description,
            options.read_only,
            export,
        );
        let budget = Arc::new(Budget::new(options.memory_bytes_max));
        let requests_max = options.requests_max.max(1);
        Ok(Self {
            listener,
            address,
            service: Arc::new(Service {
                export,
                budget,
                requests_max,
            }),
            connections_max: options.connections_max.max(1),
            grace: options.grace,
        })
    }

    /// Where clients connect to: shown as a URI, with the port that the system chose.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The export's URI.
    pub fn uri(&self) -> String {
        self.address.uri(self.service.export.name())
    }

    /// Serves clients until `shutdown` is ready and they are seen off: no new ones, no new
    /// requests, and those under way are finished or, after the grace period, answered with
    /// ESHUTDOWN. Returns a second or so after the grace period at the latest. A unix socket's file
    /// is gone by then.
    ///
    /// To drop this future closes all connections at once, and drops their requests and devices.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let mut door = Door {
            service: self.service,
            seats: Seats::new(self.connections_max),
            tasks: JoinSet::new(),
            troubled: false,
        };
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                Some(ended) = door.tasks.join_next() => door.forget(ended),
                accepted = self.listener.accept() => match accepted {
                    Ok((socket, peer)) => door.seat(socket, peer),
                    Err(error) => door.pause(&error).await,
                },
            }
        }
        drop(self.listener);
        debug!(connections = door.tasks.len(), "shutting down");
        let deadline = Instant::now() + self.grace;
        door.seats.close_all(Close::Drain { deadline });
        while let Some(ended) = door.tasks.join_next().await {
            door.forget(ended);
        }
    }
}

/// Where clients come in and go out.
struct Door<E> {
    service: Arc<Service<E>>,
    seats: Seats,
    tasks: JoinSet<ConnectionId>,
    /// Nobody was seated since the last trouble, which was said once and need not be said again.
    troubled: bool,
}

impl<E: SectorExport> Door<E> {
    /// Gives a new client a seat and a task, or turns it away.
    fn seat(&mut self, socket: Socket, peer: Peer) {
        let Some(admission) = self.seats.admit() else {
            if !std::mem::replace(&mut self.troubled, true) {
                warn!(%peer, "turning clients away: all seats are taken by clients with an export");
            }
            return;
        };
        self.troubled = false;
        let service = Arc::clone(&self.service);
        match socket {
            Socket::Tcp(stream) => self.tasks.spawn(serve(stream, peer, admission, service)),
            Socket::Unix(stream) => self.tasks.spawn(serve(stream, peer, admission, service)),
        };
    }

    fn forget(&mut self, ended: Result<ConnectionId, JoinError>) {
        match ended {
            Ok(id) => self.seats.ended(id),
            // Only where panics unwind; its entry stays, which costs a few bytes.
            Err(error) => error!(%error, "a connection's task panicked"),
        }
    }

    /// Makes room and waits a little after a connection could not be accepted, for want of file
    /// descriptors mostly.
    async fn pause(&mut self, error: &io::Error) {
        if error.kind() == io::ErrorKind::ConnectionAborted {
            return;
        }
        let made_room = self.seats.make_room();
        if !std::mem::replace(&mut self.troubled, true) {
            warn!(%error, made_room, "cannot accept connections; trying again");
        }
        sleep(ACCEPT_PAUSE).await;
    }
}

fn check_text(what: &'static str, text: &str) -> Result<(), ServerError> {
    if text.len() > STRING_BYTES_MAX || text.contains('\0') {
        return Err(ServerError::Text(what));
    }
    Ok(())
}

/// One client from the first byte to the last.
async fn serve<S, E>(
    mut stream: S,
    peer: Peer,
    admission: Admission,
    service: Arc<Service<E>>,
) -> ConnectionId
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    E: SectorExport,
{
    let Admission {
        id,
        seat,
        mut close,
    } = admission;
    let offer = service.offer();
    let negotiated = tokio::select! {
        biased;
        _ = &mut close => {
            debug!(%peer, "closed a connection in its handshake");
            return id;
        }
        negotiated = negotiate(&mut stream, &offer, |_| service.open(&peer, &seat)) => negotiated,
    };
    let agreement = match negotiated {
        Ok(Some(agreement)) => agreement,
        Ok(None) => return id,
        Err(error) => {
            report_handshake(&peer, &error);
            return id;
        }
    };
    drop(offer);
    let rules = service.rules(&agreement);
    let Agreement { export, ahead, .. } = agreement;
    debug!(%peer, terms = ?rules.terms, "a client has an export");
    let link = Link {
        peer: peer.clone(),
        stream,
        ahead,
    };
    let connection = Connection::new(link, rules, seat);
    let ending = Ending::new(close, export.lost());
    match connection
        .run(ending, |command, payload| export.execute(command, payload))
        .await
    {
        Ok(()) => debug!(%peer, "a client left"),
        Err(error) => report(&peer, &error),
    }
    id
}

impl<E: SectorExport> Service<E> {
    fn offer(&self) -> Offer {
        Offer {
            exports: vec![self.export.info()],
            payload_bytes_max: PAYLOAD_BYTES_ADVERTISED,
        }
    }

    /// Opens the export for a client, which keeps its seat for as long as that takes.
    async fn open(&self, peer: &Peer, seat: &Seat) -> Result<OpenExport<E::Device>, Unavailable> {
        seat.negotiated();
        let opened = self.export.open().await;
        if let Err(reason) = &opened {
            warn!(%peer, %reason, "a client cannot have the export");
            seat.negotiates();
        }
        opened
    }

    fn rules(&self, agreement: &Agreement<OpenExport<E::Device>>) -> Rules {
        Rules {
            terms: agreement
                .export
                .terms(agreement.structured_replies, PAYLOAD_BYTES_MAX),
            requests_max: self.requests_max,
            budget: Arc::clone(&self.budget),
        }
    }
}

fn report_handshake(peer: &Peer, error: &HandshakeError) {
    match error {
        HandshakeError::Socket(source) => debug!(%peer, %source, "a client left in its handshake"),
        HandshakeError::LeftTooEarly => debug!(%peer, %error, "a client left in its handshake"),
        // Its reason was said when it became known.
        HandshakeError::Unavailable(_) => debug!(%peer, %error, "closed a connection"),
        _ => info!(%peer, %error, "closed a connection in its handshake"),
    }
}

fn report(peer: &Peer, error: &ConnectionError) {
    match error {
        ConnectionError::Incoming(IncomingError::Magic(source)) => {
            warn!(%peer, %source, "closed a connection that is out of step");
        }
        ConnectionError::Stalled => warn!(%peer, %error, "closed a connection"),
        ConnectionError::Incoming(source) => debug!(%peer, %source, "a client has gone"),
        ConnectionError::Outgoing(source) => debug!(%peer, %source, "a client has gone"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AlwaysOpen;
    use crate::memory::MemoryDevice;

    fn spawnable<F: Future + Send>(future: F) -> F {
        future
    }

    #[tokio::test]
    async fn a_server_may_run_in_a_task_of_its_own() {
        let address = "127.0.0.1:0".parse().unwrap();
        let export = Arc::new(AlwaysOpen::new(Arc::new(MemoryDevice::new(1))));
        let server = Server::bind(&address, Options::default(), export)
            .await
            .unwrap();
        spawnable(server.run(async {})).await;
    }
}
