//! The link by which this process asks one other: a connection that is made again for ever.
//!
//! What is sent while there is no connection is discarded, and what was queued or under way when
//! one ends is dropped: the register sends everything that an unfinished operation owes again when
//! it hears that the link is up. So nothing old ever waits here, and nothing is sent twice on one
//! connection.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout};

use super::absence::Absence;
use super::link_connection::LinkConnection;
use super::link_queue::LinkQueue;
use super::stage::reached;
use super::{Identity, NetError, PeerEvents, Settings, Stage, handshake, socket};
use crate::domain::{Incarnation, OperationId, Rank, Request};
use crate::wire::{
    Asker, Connector, Credit, Established, HELLO_BYTES, Introduction, Process, SessionKey,
};

/// The link to one peer: asks it, and brings back its replies.
#[derive(Debug)]
pub struct RegisterClient {
    peer: Rank,
    address: String,
    identity: Arc<Identity>,
    settings: Settings,
    state: Mutex<State>,
    /// Something was queued.
    pub(super) wake: Notify,
    /// The connection is to be closed.
    pub(super) fault: Notify,
}

#[derive(Debug, Default)]
struct State {
    connection: Option<Connected>,
    /// Why the process wants the connection closed.
    fault: Option<String>,
    dropped: u64,
}

#[derive(Debug)]
struct Connected {
    incarnation: Incarnation,
    queue: LinkQueue,
}

/// How a link stands.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkState {
    /// The peer's incarnation while connected.
    pub connected: Option<Incarnation>,
    /// Requests that wait for the peer's credit.
    pub queued: usize,
    /// Requests that wait for their replies.
    pub in_flight: u32,
    /// Stores of finished operations that were dropped so far, because the peer was too slow.
    pub dropped: u64,
}

impl RegisterClient {
    /// The link to the process `peer` at this address (`host:port`); [`run`](Self::run) brings it
    /// to life.
    pub fn new(
        peer: Rank,
        address: String,
        identity: Arc<Identity>,
        settings: &Settings,
    ) -> Arc<Self> {
        Arc::new(Self {
            peer,
            address,
            identity,
            settings: settings.clone(),
            state: Mutex::default(),
            wake: Notify::new(),
            fault: Notify::new(),
        })
    }

    /// Connects, again and again, until the stage is [`Stage::Stopped`].
    ///
    /// `introduction` is what this process tells the peer, at first and at every change.
    pub async fn run(
        self: Arc<Self>,
        events: Arc<dyn PeerEvents>,
        introduction: watch::Receiver<Introduction>,
        mut stage: watch::Receiver<Stage>,
    ) {
        tokio::select! {
            () = reached(&mut stage, Stage::Stopped) => {}
            () = self.reconnect(&*events, introduction) => {}
        }
        if self.disconnect() {
            events.disconnected(self.peer);
        }
    }

    /// Asks the peer. Never blocks; from any thread. While the link is down requests are discarded,
    /// and those that wait or are under way already are not sent once more.
    ///
    /// # Panics
    /// When a request is not of an operation of this process and incarnation.
    pub fn send(&self, requests: Vec<Request>) {
        if requests.is_empty() {
            return;
        }
        let mut state = self.lock();
        let Some(connected) = &mut state.connection else {
            return;
        };
        connected.queue.push(requests);
        drop(state);
        self.wake.notify_one();
    }

    /// These operations need no more answers. Never blocks; from any thread.
    pub fn finished(&self, operations: &[OperationId]) {
        if let Some(connected) = &mut self.lock().connection {
            for &operation in operations {
                connected.queue.finish(operation);
            }
        }
    }

    /// Closes the connection, since the peer said what no correct process says; another is made
    /// after a pause.
    pub fn close(&self, fault: String) {
        let mut state = self.lock();
        if state.connection.is_some() {
            state.fault = Some(fault);
            drop(state);
            self.fault.notify_one();
        }
    }

    /// The process at the other end.
    pub fn peer(&self) -> Rank {
        self.peer
    }

    /// How the link stands.
    pub fn state(&self) -> LinkState {
        let state = self.lock();
        let queue = state.connection.as_ref().map(|connected| &connected.queue);
        LinkState {
            connected: state
                .connection
                .as_ref()
                .map(|connected| connected.incarnation),
            queued: queue.map_or(0, LinkQueue::waiting),
            in_flight: queue.map_or(0, LinkQueue::under_way),
            dropped: state.dropped + queue.map_or(0, LinkQueue::dropped),
        }
    }

    /// Works on the queue, if the link is up.
    pub(super) fn with_queue<T>(
        &self,
        work: impl FnOnce(&mut LinkQueue) -> Result<T, NetError>,
    ) -> Result<T, NetError> {
        match &mut self.lock().connection {
            Some(connected) => work(&mut connected.queue),
            None => Err(NetError::Stopped),
        }
    }

    /// Who asks on this link.
    pub(super) fn asker(&self) -> Asker {
        Asker {
            rank: self.identity.rank,
            incarnation: self.identity.incarnation,
        }
    }

    /// Where the peer is, as configured.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    pub(super) fn connect(&self, incarnation: Incarnation, credit: Credit) {
        let limits = Credit {
            requests: self.settings.queue_requests_max,
            bytes: self.settings.queue_bytes_max,
        };
        let mut state = self.lock();
        state.fault = None;
        state.connection = Some(Connected {
            incarnation,
            queue: LinkQueue::new(limits, credit),
        });
    }

    fn disconnect(&self) -> bool {
        let mut state = self.lock();
        let connected = state.connection.take();
        state.dropped += connected
            .as_ref()
            .map_or(0, |connected| connected.queue.dropped());
        connected.is_some()
    }

    /// What [`Self::close`] was called for.
    pub(super) fn take_fault(&self) -> Option<String> {
        self.lock().fault.take()
    }

    async fn reconnect(
        &self,
        events: &dyn PeerEvents,
        introduction: watch::Receiver<Introduction>,
    ) {
        let mut pauses = Pauses::new(&self.settings);
        let mut absence = Absence::new(Instant::now());
        loop {
            let error = match self.open().await {
                Err(error) => error,
                Ok((stream, established)) => {
                    let halves = stream.into_split();
                    let connection =
                        LinkConnection::new(self, halves, established, introduction.clone());
                    let opened = Instant::now();
                    let error = connection.run(events).await;
                    if self.disconnect() {
                        events.disconnected(self.peer);
                        self.say_lost(&error);
                    }
                    // One that ends at once, again and again, is no reason to hurry.
                    if opened.elapsed() >= self.settings.reconnect_max {
                        pauses = Pauses::new(&self.settings);
                        absence = Absence::new(Instant::now());
                    }
                    error
                }
            };
            if matches!(error, NetError::Stopped) {
                return;
            }
            self.say_missing(&error, &mut absence);
            sleep(pauses.next()).await;
        }
    }

    async fn open(&self) -> Result<(TcpStream, Established), NetError> {
        let connecting = timeout(
            self.settings.connect_deadline,
            TcpStream::connect(&self.address),
        );
        let connected = connecting.await.map_err(|_| NetError::Deadline {
            what: "connecting",
            limit: self.settings.connect_deadline,
        })?;
        let mut stream = connected.map_err(|source| NetError::Connect {
            address: self.address.clone(),
            source,
        })?;
        socket::prepare_session(&stream, self.settings.dead_after)?;
        let exchange = handshake::connect(&mut stream, self.connector());
        let established = timeout(self.settings.handshake_deadline, exchange).await;
        let established = established.map_err(|_| NetError::Deadline {
            what: "the key exchange",
            limit: self.settings.handshake_deadline,
        })??;
        Ok((stream, established))
    }

    fn connector(&self) -> (Connector, [u8; HELLO_BYTES]) {
        let identity = &self.identity;
        let own = Process {
            rank: identity.rank,
            incarnation: identity.incarnation,
            processes: identity.processes,
        };
        let key = SessionKey::peer(&identity.system_key);
        Connector::new(Some(own), identity.cluster, key, Some(self.peer))
    }

    fn say_lost(&self, error: &NetError) {
        let (peer, address, why) = (self.peer, &self.address, error.chain());
        if error.is_ordinary() {
            tracing::info!("lost process {peer} at {address}: {why}");
        } else {
            tracing::warn!("lost process {peer} at {address}: {why}");
        }
    }

    fn say_missing(&self, error: &NetError, absence: &mut Absence) {
        let (peer, address, why) = (self.peer, &self.address, error.chain());
        if let Some(away) = absence.failed(Instant::now()) {
            let seconds = away.as_secs();
            tracing::warn!(
                "no link to process {peer} at {address} for {seconds} s: {why}; trying on"
            );
        } else {
            tracing::debug!("no link to process {peer} at {address}: {why}");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with the lock")
    }
}

/// The pauses between attempts: twice as long each time, and never the same for two processes.
struct Pauses {
    next: Duration,
    most: Duration,
}

impl Pauses {
    fn new(settings: &Settings) -> Self {
        Self {
            next: settings.reconnect_min,
            most: settings.reconnect_max,
        }
    }

    fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = self.most.min(2 * pause);
        pause.mul_f64(rand::random_range(0.5..=1.0))
    }
}
