//! Under construction.
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use super::{Connections, Disk, Host, Identity, PeerSessions, Settings, Stage};
use crate::wire::Introduction;

/// The bound address.
#[derive(Debug)]
pub struct Listener;

/// What a listener serves.
#[derive(Debug)]
pub struct Services<H, D> {
    /// Who this process is.
    pub identity: Arc<Identity>,
    /// What peers ask.
    pub host: Arc<H>,
    /// What classic clients ask.
    pub disk: Arc<D>,
    /// The peers that ask.
    pub peers: Arc<PeerSessions>,
    /// Who is connected.
    pub connections: Arc<Connections>,
    /// What this process tells of itself.
    pub introduction: watch::Receiver<Introduction>,
    /// Whether clients are served.
    pub serving: watch::Receiver<bool>,
    /// Bounds.
    pub settings: Settings,
}

impl Listener {
    /// Binds.
    pub async fn bind(_address: &str) -> std::io::Result<Self> {
        todo!()
    }

    /// Where it listens.
    pub fn local_address(&self) -> SocketAddr {
        todo!()
    }

    /// Serves.
    pub async fn serve<H: Host, D: Disk>(
        self,
        _services: Services<H, D>,
        _stage: watch::Receiver<Stage>,
    ) {
        todo!()
    }
}
