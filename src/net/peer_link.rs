//! Under construction.
use std::sync::Arc;

use tokio::sync::watch;

use super::{Identity, PeerEvents, Settings, Stage};
use crate::domain::{Incarnation, OperationId, Rank, Request};
use crate::wire::Introduction;

/// The link.
#[derive(Debug)]
pub struct RegisterClient;

/// How a link stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkState {
    /// The peer's incarnation while connected.
    pub connected: Option<Incarnation>,
    /// Requests that wait for credit.
    pub queued: usize,
    /// Requests that wait for their replies.
    pub in_flight: usize,
    /// Requests of finished operations that were dropped so far.
    pub dropped: u64,
}

impl RegisterClient {
    /// A link.
    pub fn new(
        _peer: Rank,
        _address: String,
        _identity: Arc<Identity>,
        _settings: &Settings,
    ) -> Arc<Self> {
        todo!()
    }

    /// Runs.
    pub async fn run(
        self: Arc<Self>,
        _events: Arc<dyn PeerEvents>,
        _introduction: watch::Receiver<Introduction>,
        _stage: watch::Receiver<Stage>,
    ) {
        todo!()
    }

    /// Sends.
    pub fn send(&self, _requests: Vec<Request>) {
        todo!()
    }

    /// Finished.
    pub fn finished(&self, _operations: &[OperationId]) {
        todo!()
    }

    /// State.
    pub fn state(&self) -> LinkState {
        todo!()
    }
}
