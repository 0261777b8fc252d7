//! Starting and stopping one process.
//!
//! Order of a start: the listening sockets first, so that nobody is refused while the store is
//! recovered; the store, whose incarnation is raised before anything leaves the process; links
//! and sessions; the cluster's birth; and only then the workers, which alone can acknowledge.
//!
//! Order of a stop: no new requests and no new attachments; what is under way is finished, and each
//! attachment ends with its client, or it is handed back; the network closes, and the store is
//! closed last.
//!
//! Each step has a bound, so that a stop takes three quarters of a minute at most, whatever does
//! not answer: a majority ([`DRAIN_GRACE`]), a peer ([`CLOSE_GRACE`]) or the own disk
//! ([`STORE_GRACE`]). What a disk was given can not be taken back: it keeps its directory locked for
//! as long as the system has it under way, even when the process is killed.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nbd_frontend::Server;
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{info, warn};

use super::disk::Disk;
use super::export::NbdExport;
use super::inbox::Inbox;
use super::items::{Item, KeeperItem};
use super::membership::Standing;
use super::operations::Operations;
use super::service::Exported;
use super::start::{Channels, Start};
use super::switchboard::Switchboard;
use crate::config::Configuration;
use crate::domain::{Rank, StoreId};
use crate::net::{Connections, Listener, NetError, Stage};
use crate::store::{DiskSectors, Options, StoreError, Unrecovered};

/// How long a stop waits for what is under way before it hands it back.
const DRAIN_GRACE: Duration = Duration::from_secs(5);

/// The part of it in which NBD requests may still complete; what is left then gets ESHUTDOWN.
const NBD_GRACE: Duration = Duration::from_secs(3);

/// NBD clients at a time. With those of the listener they fit into 1024 descriptors.
const NBD_CONNECTIONS_MAX: usize = 128;

/// How long closed tasks may take to end.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// How long the store may take to end: its disk may never answer again.
const STORE_GRACE: Duration = Duration::from_secs(30);

/// Why a process did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The address for peers and clients cannot be listened on.
    #[error(
        "{}; the address is this process's in cluster.toml: end the program that holds it, or \
         give the process another one",
        .0.chain()
    )]
    Listen(#[source] NetError),
    /// The address for NBD cannot be listened on.
    #[error("cannot serve NBD")]
    Nbd(#[from] nbd_frontend::ServerError),
    /// The storage directory cannot be used, or failed.
    #[error("the storage directory failed")]
    Store(#[from] StoreError),
    /// The cluster was born with another directory for this rank.
    #[error(
        "this directory (store {own}) is not the one that the cluster was born with: process {by} \
         knows store {named} for this rank. Voting with it would forget what was acknowledged. \
         Start with the original directory as --data"
    )]
    Refused {
        /// Who knows another.
        by: Rank,
        /// The one that it knows.
        named: StoreId,
        /// This one.
        own: StoreId,
    },
    /// The disk did not take what it was given before the end. Nothing that was acknowledged is lost.
    #[error(
        "the disk of the storage directory does not answer: ending after {} s without its last \
         writes, none of which was acknowledged. The directory stays locked until they are done",
        .0.as_secs()
    )]
    Stalled(Duration),
    /// The signals that end a process cannot be waited for.
    #[error("cannot wait for SIGTERM")]
    Signals(#[source] std::io::Error),
}

/// Starts one process of a cluster and runs it until SIGTERM or SIGINT.
///
/// The seeds' `run_register_process()`.
pub async fn run_register_process(configuration: Configuration) -> Result<(), ProcessError> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).map_err(ProcessError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ProcessError::Signals)?;
    let process = RegisterProcess::start(configuration).await?;
    process
        .run_until(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await
}

/// A process that is running.
pub struct RegisterProcess {
    address: SocketAddr,
    nbd: Option<String>,
    disk: Disk,
    operations: Operations,
    store: Arc<DiskSectors>,
    inboxes: Vec<Arc<Inbox<Item>>>,
    keeper: Arc<Inbox<KeeperItem>>,
    switchboard: Arc<Switchboard>,
    stage: watch::Sender<Stage>,
    standing: watch::Receiver<Standing>,
    connections: Arc<Connections>,
    /// The NBD server.
    clients: JoinSet<()>,
    /// Links, listener and workers.
    tasks: JoinSet<()>,
    membership: JoinHandle<Result<(), ProcessError>>,
    failed: oneshot::Receiver<StoreError>,
}

impl RegisterProcess {
    /// Binds, recovers and joins; returns as soon as the store is recovered. Operations are served
    /// once the cluster is born, and wait until then.
    pub async fn start(configuration: Configuration) -> Result<Self, ProcessError> {
        let configuration = Arc::new(configuration);
        let listener = listen(&configuration).await?;
        let channels = Channels::new(&configuration);
        let export = NbdExport::new(channels.attachments());
        let nbd = bind_nbd(&configuration, export).await?;
        let nbd_address = nbd.as_ref().map(|(server, _)| server.address().to_string());
        let exported = nbd.as_ref().map(|(server, export)| Exported {
            uri: server.address().to_string(),
            export: Arc::clone(export),
        });

        let (failure, failed) = oneshot::channel();
        let store = open_store(&configuration, failure).await?;
        info!(
            rank = %configuration.rank(), incarnation = store.incarnation().0,
            store = %store.identity(), "recovered"
        );

        let start = Start::new(configuration, store, channels, exported);
        let address = listener.local_address();
        let mut tasks = JoinSet::new();
        start.spawn_links(&mut tasks);
        start.spawn_workers(&mut tasks);
        start.spawn_keeper(&mut tasks);
        let connections = start.spawn_listener(&mut tasks, listener);
        let mut clients = JoinSet::new();
        if let Some((server, _)) = nbd {
            clients.spawn(serve_nbd(
                server,
                start.channels.standing.1.clone(),
                start.channels.stage.1.clone(),
            ));
        }
        let membership = tokio::spawn(start.membership().run());
        Ok(Self {
            address,
            nbd: nbd_address,
            disk: start.disk(),
            operations: start.channels.operations,
            store: start.store,
            inboxes: start.channels.inboxes,
            keeper: start.channels.keeper,
            switchboard: start.switchboard,
            stage: start.channels.stage.0,
            standing: start.channels.standing.1,
            connections,
            clients,
            tasks,
            membership,
            failed,
        })
    }

    /// Where the process listens for peers and clients.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it serves NBD, as a URI, if it does.
    pub fn nbd(&self) -> Option<&str> {
        self.nbd.as_deref()
    }

    /// The disk, for clients in the same program.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Returns once the cluster is born and a majority is there.
    pub async fn serving(&self) {
        let mut standing = self.standing.clone();
        // The sender lives as long as the membership; without it nothing will ever serve.
        if standing
            .wait_for(|standing| *standing == Standing::Serving)
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }

    /// Runs until `stop` is ready, or until the process must not go on.
    pub async fn run_until(mut self, stop: impl Future<Output = ()>) -> Result<(), ProcessError> {
        tokio::select! {
            () = stop => {
                info!("stopping");
                self.stop().await
            }
            ended = &mut self.membership => {
                let ended = ended.expect("the membership does not panic");
                self.stop().await?;
                ended
            }
            // Nothing may go on after a failure of the store, and nothing is waited for.
            Ok(failure) = &mut self.failed => Err(failure.into()),
        }
    }

    /// Stops in order; what a majority does not complete within the grace is handed back.
    pub async fn stop(mut self) -> Result<(), ProcessError> {
        self.stage.send_replace(Stage::Draining);
        let drained = async {
            tokio::join!(join_all(&mut self.clients), self.connections.clients_gone());
        };
        if tokio::time::timeout(DRAIN_GRACE, drained).await.is_err() {
            warn!("requests that no majority answered are handed back");
        }
        self.operations.close();
        for inbox in &self.inboxes {
            inbox.close();
        }
        self.clients.shutdown().await;
        self.keeper.close();
        self.stage.send_replace(Stage::Stopped);
        self.switchboard.news().close();
        if tokio::time::timeout(CLOSE_GRACE, join_all(&mut self.tasks))
            .await
            .is_err()
        {
            self.tasks.shutdown().await;
        }
        self.membership.abort();
        let store = self.store;
        close(move || store.close(), STORE_GRACE).await
    }
}

/// Ends the store, or gives up waiting for its disk: then whatever closes it goes on, and keeps the
/// directory locked.
async fn close(
    closing: impl FnOnce() -> Result<(), StoreError> + Send + 'static,
    grace: Duration,
) -> Result<(), ProcessError> {
    let closing = tokio::task::spawn_blocking(closing);
    match tokio::time::timeout(grace, closing).await {
        Ok(closed) => Ok(closed.expect("closing a store does not panic")?),
        Err(_) => Err(ProcessError::Stalled(grace)),
    }
}

async fn listen(configuration: &Configuration) -> Result<Listener, ProcessError> {
    let address = configuration.address().to_string();
    Listener::bind(&address).await.map_err(ProcessError::Listen)
}

async fn bind_nbd(
    configuration: &Configuration,
    export: NbdExport,
) -> Result<Option<(Server<NbdExport>, Arc<NbdExport>)>, ProcessError> {
    let Some(address) = &configuration.nbd else {
        return Ok(None);
    };
    let options = nbd_frontend::Options {
        description: "Atomic Disk Drive".to_owned(),
        connections_max: NBD_CONNECTIONS_MAX,
        grace: NBD_GRACE,
        ..nbd_frontend::Options::default()
    };
    let export = Arc::new(export);
    let server = Server::bind(address, options, Arc::clone(&export)).await?;
    export.served_at(server.uri());
    Ok(Some((server, export)))
}

/// Serves NBD from the moment a majority is there, until the process stops.
async fn serve_nbd(
    server: Server<NbdExport>,
    mut standing: watch::Receiver<Standing>,
    mut stage: watch::Receiver<Stage>,
) {
    let mut stopping = stage.clone();
    tokio::select! {
        born = standing.wait_for(Standing::is_born) => if born.is_err() { return },
        _ = stopping.wait_for(|stage| *stage > Stage::Running) => return,
    }
    info!("serving the disk at {}", server.address());
    server
        .run(async move {
            // Without a sender the process is gone, which is a stop too.
            drop(stage.wait_for(|stage| *stage > Stage::Running).await);
        })
        .await;
}

async fn open_store(
    configuration: &Configuration,
    failure: oneshot::Sender<StoreError>,
) -> Result<Arc<DiskSectors>, ProcessError> {
    let directory = configuration.storage_dir.clone();
    let cluster = configuration.cluster().id;
    let options = Options {
        lock_wait: configuration.store_lock_wait,
        ..Options::new(cluster, configuration.rank())
    };
    let opened = tokio::task::spawn_blocking(move || {
        Unrecovered::open(&directory, &options)?.recover(Box::new(move |error| {
            // When nobody listens any more, the process is ending for another reason.
            drop(failure.send(error));
        }))
    });
    Ok(Arc::new(opened.await.expect("recovery does not panic")?))
}

async fn join_all(tasks: &mut JoinSet<()>) {
    while let Some(ended) = tasks.join_next().await {
        ended.expect("tasks do not panic");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A stop waited for ever for a disk that did not answer any more.
    #[tokio::test]
    async fn a_stop_does_not_wait_for_ever_for_a_disk() {
        let (answers, answered) = std::sync::mpsc::sync_channel::<()>(0);
        let stalled = move || {
            // It ends when the test does.
            answered.recv().ok();
            Ok(())
        };
        let error = close(stalled, Duration::from_millis(20)).await.unwrap_err();
        assert!(matches!(error, ProcessError::Stalled(_)), "{error}");
        drop(answers);

        let failed = || {
            Err(StoreError::Stopped {
                why: "a test".to_owned(),
            })
        };
        let error = close(failed, STORE_GRACE).await.unwrap_err();
        assert!(matches!(error, ProcessError::Store(_)), "{error}");
        close(|| Ok(()), STORE_GRACE).await.unwrap();
    }
}
