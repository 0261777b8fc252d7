//! What the driver needs of the network; tests put a network of their own in its place.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;

use tokio::time::Instant;

use crate::config::Cluster;
use crate::domain::Rank;
use crate::net::{ClientConnection, ClientLimits, ClientReceiver, ClientSender, NetError};
use crate::wire::{ClientKey, SessionAnswer, SessionQuestion};

/// Where the sessions of a client come from.
pub(super) trait Network: Clone + Send + Sync + 'static {
    /// The sending half of a session.
    type Sender: Sender;
    /// Its receiving half.
    type Receiver: Receiver;

    /// How many processes there are.
    fn processes(&self) -> u8;

    /// Opens a session with the process of this rank.
    fn connect(
        self,
        process: Rank,
    ) -> impl Future<Output = Result<(Self::Sender, Self::Receiver), NetError>> + Send;
}

/// See [`ClientSender`].
pub(super) trait Sender: Send + 'static {
    fn send(&mut self, question: &SessionQuestion);
    fn has_unsent(&self) -> bool;
    fn is_full(&self) -> bool;
    /// Nothing is lost when the future is dropped.
    fn flush(&mut self) -> impl Future<Output = Result<(), NetError>> + Send;
    fn heartbeat_at(&self) -> Instant;
}

/// See [`ClientReceiver`].
pub(super) trait Receiver: Send + 'static {
    /// Nothing is lost when the future is dropped.
    fn receive(
        &mut self,
        out: &mut Vec<SessionAnswer>,
    ) -> impl Future<Output = Result<(), NetError>> + Send;
    fn dead_at(&self) -> Instant;
}

/// An error with all that led to it, for the log.
pub(super) fn with_causes(error: &NetError) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(": ");
        words.push_str(&error.to_string());
        cause = error.source();
    }
    words
}

impl Network for Arc<Cluster> {
    type Sender = ClientSender;
    type Receiver = ClientReceiver;

    fn processes(&self) -> u8 {
        self.processes.count()
    }

    async fn connect(self, process: Rank) -> Result<(ClientSender, ClientReceiver), NetError> {
        let address = self.processes.address(process).to_string();
        let key = ClientKey::new(self.client_key.bytes());
        let limits = ClientLimits::default();
        let session =
            ClientConnection::connect(&address, Some(process), self.id, &key, &limits).await?;
        Ok(session.split())
    }
}

impl Sender for ClientSender {
    fn send(&mut self, question: &SessionQuestion) {
        Self::send(self, question);
    }

    fn has_unsent(&self) -> bool {
        Self::has_unsent(self)
    }

    fn is_full(&self) -> bool {
        Self::is_full(self)
    }

    async fn flush(&mut self) -> Result<(), NetError> {
        Self::flush(self).await
    }

    fn heartbeat_at(&self) -> Instant {
        Self::heartbeat_at(self)
    }
}

impl Receiver for ClientReceiver {
    async fn receive(&mut self, out: &mut Vec<SessionAnswer>) -> Result<(), NetError> {
        Self::receive(self, out).await
    }

    fn dead_at(&self) -> Instant {
        Self::dead_at(self)
    }
}
