//! The listening address, for clients and peers alike.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpSocket, lookup_host};
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::sleep;

use super::refusals::Refusals;
use super::stage::reached;
use super::{Connections, Disk, Host, Identity, NetError, PeerSessions, Settings, Stage, arrival};
use crate::wire::{Acceptor, Introduction, Process, SessionKey};

/// Connections that the system keeps until they are accepted: those that come during recovery.
const BACKLOG: u32 = 1024;

/// How long no connection is accepted when there is no descriptor for it: until one that was closed
/// is back, or until there may be one again.
const CLOSING: Duration = Duration::from_millis(1);
const EXHAUSTED: Duration = Duration::from_millis(50);

/// A bound address. Connections to it are established from now on, and wait for
/// [`serve`](Self::serve).
#[derive(Debug)]
pub struct Listener {
    listener: TcpListener,
    address: SocketAddr,
}

/// What a listener serves, and to whom.
#[derive(Debug)]
pub struct Services<H, D> {
    /// Who this process is.
    pub identity: Arc<Identity>,
    /// What peers and clients' sessions ask.
    pub host: Arc<H>,
    /// What classic clients read and write.
    pub disk: Arc<D>,
    /// Where the sessions of peers are to be found.
    pub peers: Arc<PeerSessions>,
    /// Where the number of connections is to be found.
    pub connections: Arc<Connections>,
    /// What this process tells peers of itself; they hear of every change.
    pub introduction: watch::Receiver<Introduction>,
    /// Whether classic requests are served; before that they wait.
    pub serving: watch::Receiver<bool>,
    /// Bounds and times.
    pub settings: Settings,
}

/// What the tasks of all connections share.
pub(super) struct Shared<H, D> {
    pub(super) identity: Arc<Identity>,
    pub(super) acceptor: Acceptor,
    pub(super) host: Arc<H>,
    pub(super) disk: Arc<D>,
    pub(super) peers: Arc<PeerSessions>,
    pub(super) introduction: watch::Receiver<Introduction>,
    pub(super) serving: watch::Receiver<bool>,
    pub(super) settings: Settings,
    pub(super) refusals: Refusals,
    pub(super) stage: watch::Receiver<Stage>,
}

impl Listener {
    /// Binds the first of the addresses that `address` (`host:port`) has which can be bound.
    pub async fn bind(address: &str) -> Result<Self, NetError> {
        let failed = |source| NetError::Bind {
            address: address.to_owned(),
            source,
        };
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for candidate in lookup_host(address).await.map_err(failed)? {
            match bind(candidate) {
                Ok(listener) => {
                    let address = listener.local_addr().map_err(failed)?;
                    return Ok(Self { listener, address });
                }
                Err(error) => last = error,
            }
        }
        Err(failed(last))
    }

    /// Where it listens; the port is the one that the system chose if 0 was asked for.
    pub fn local_address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts and serves connections. At [`Stage::Draining`] no more are accepted, and those of
    /// clients end as soon as what is under way on them is answered; at [`Stage::Stopped`] all end,
    /// and it returns.
    pub async fn serve<H: Host, D: Disk>(
        self,
        services: Services<H, D>,
        stage: watch::Receiver<Stage>,
    ) {
        let connections = Arc::clone(&services.connections);
        let shared = Arc::new(Shared::new(services, stage.clone()));
        let (mut to_drain, mut to_stop) = (stage.clone(), stage);
        let mut tasks = JoinSet::new();
        tokio::select! {
            () = reached(&mut to_drain, Stage::Draining) => {}
            () = self.accept(&connections, &shared, &mut tasks) => {}
        }
        drop(self);
        connections.close_unauthenticated();
        loop {
            tokio::select! {
                Some(ended) = tasks.join_next() => check(ended),
                () = reached(&mut to_stop, Stage::Stopped) => break,
            }
        }
        while let Some(ended) = tasks.join_next().await {
            check(ended);
        }
    }

    async fn accept<H: Host, D: Disk>(
        &self,
        connections: &Arc<Connections>,
        shared: &Arc<Shared<H, D>>,
        tasks: &mut JoinSet<()>,
    ) {
        let mut exhausted = false;
        loop {
            let accepted = tokio::select! {
                Some(ended) = tasks.join_next() => {
                    check(ended);
                    continue;
                }
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    exhausted = false;
                    let closed = connections.enter(address, |place| {
                        let shared = Arc::clone(shared);
                        // In a box of its own a task is not rounded up to whole cache lines.
                        tasks.spawn(Box::pin(arrival::serve(stream, place, shared)))
                    });
                    if let Some(address) = closed {
                        shared.refusals.closed(address, &NetError::NoRoom);
                    }
                }
                Err(error) if is_exhausted(&error) => {
                    let closed = connections.close_oldest().is_some();
                    if !std::mem::replace(&mut exhausted, true) {
                        tracing::warn!("cannot accept connections: {error}; trying again");
                    }
                    sleep(if closed { CLOSING } else { EXHAUSTED }).await;
                }
                // The connection was gone before it was accepted.
                Err(error) => tracing::debug!(%error, "a connection was not accepted"),
            }
        }
    }
}

impl<H, D> Shared<H, D> {
    fn new(services: Services<H, D>, stage: watch::Receiver<Stage>) -> Self {
        let Services {
            identity,
            host,
            disk,
            peers,
            connections: _,
            introduction,
            serving,
            settings,
        } = services;
        let acceptor = Acceptor {
            process: Process {
                rank: identity.rank,
                incarnation: identity.incarnation,
                processes: identity.processes,
            },
            cluster: identity.cluster,
            keys: vec![
                SessionKey::peer(&identity.system_key),
                SessionKey::client(&identity.client_key),
            ],
        };
        Self {
            identity,
            acceptor,
            host,
            disk,
            peers,
            introduction,
            serving,
            settings,
            refusals: Refusals::new(),
            stage,
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Whether there are no descriptors or buffers for another connection just now.
fn is_exhausted(error: &io::Error) -> bool {
    let errors = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    errors
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// A task that was closed to make room is none that failed.
fn check(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}
