//! What the process answers over its listening address: peers, classic clients, `atdd status`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use tokio::sync::watch;

use super::attached::AttachedDisk;
use super::attachments::Attachments;
use super::export::NbdExport;
use super::membership::Standing;
use super::switchboard::{News, Switchboard};
use crate::config::Configuration;
use crate::domain::{
    Attach, AttachRefusal, Incarnation, OwnerId, PeerStatus, ProcessState, Request, StatusReport,
};
use crate::net::{Host, PeerSession, Stage};
use crate::store::DiskSectors;
use crate::wire::Introduction;

/// The process as its peers and clients see it.
pub(crate) struct Service {
    pub(crate) configuration: Arc<Configuration>,
    pub(crate) incarnation: Incarnation,
    pub(crate) store: Arc<DiskSectors>,
    pub(crate) switchboard: Arc<Switchboard>,
    pub(crate) attachments: Attachments,
    pub(crate) standing: watch::Receiver<Standing>,
    pub(crate) stage: watch::Receiver<Stage>,
    /// Of each worker.
    pub(crate) operations: Vec<Arc<AtomicUsize>>,
    /// Where NBD is served, if it is.
    pub(crate) nbd: Option<Exported>,
}

/// The NBD server of the process.
#[derive(Clone, Debug)]
pub(crate) struct Exported {
    /// Where it serves.
    pub(crate) uri: String,
    /// What it serves.
    pub(crate) export: Arc<NbdExport>,
}

impl Host for Service {
    type Attached = AttachedDisk;

    async fn attach(&self, attach: Attach, client: String) -> Result<AttachedDisk, AttachRefusal> {
        self.attachments.attach(attach, &client).await
    }

    async fn attachments(&self) -> Bytes {
        let report = self.attachments.report(self.configuration.rank());
        serde_json::to_vec(&report)
            .expect("a report is plain data")
            .into()
    }

    async fn release(&self, owner: OwnerId) -> bool {
        self.attachments.release(owner).await
    }

    fn requests(&self, from: &Arc<PeerSession>, requests: Vec<Request>) {
        self.switchboard.route_requests(from, requests);
    }

    /// Birth and recognition follow the own links alone; a session brings questions only. But its
    /// peer may know that this process has the wrong directory, and not let it in for that.
    fn introduced(&self, from: &Arc<PeerSession>, introduction: Introduction) {
        let unborn = !self.standing.borrow().is_born();
        if let Some(birth) = introduction.birth.filter(|_| unborn) {
            let peer = from.rank();
            self.switchboard.news().put(News::Record { peer, birth });
        }
    }

    async fn status(&self) -> Bytes {
        let report = self.report();
        serde_json::to_vec(&report)
            .expect("a report is plain data")
            .into()
    }
}

impl Exported {
    fn taken_over_by(&self) -> Option<u64> {
        self.export.taken_over_by().map(|generation| generation.0)
    }
}

impl Service {
    fn report(&self) -> StatusReport {
        let statistics = self.store.statistics();
        let rank = self.configuration.rank();
        let cluster = self.configuration.cluster();
        let operations: usize = self
            .operations
            .iter()
            .map(|operations| operations.load(Ordering::Relaxed))
            .sum();
        StatusReport {
            rank,
            incarnation: self.incarnation,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: match *self.stage.borrow() {
                Stage::Running => self.standing.borrow().report(),
                Stage::Draining | Stage::Stopped => ProcessState::Stopping,
            },
            sectors_stored: statistics.data_sectors,
            disk_sectors: cluster.size.sectors(),
            operations_in_flight: u64::try_from(operations).expect("memory is 64 bits"),
            peers: cluster
                .processes
                .ranks()
                .filter(|peer| *peer != rank)
                .map(|peer| PeerStatus {
                    rank: peer,
                    connected: self.switchboard.is_recognized(peer),
                })
                .collect(),
            waiting_for_space: statistics.waits_for_space,
            nbd: self.nbd.as_ref().map(|nbd| nbd.uri.clone()),
            nbd_taken_over_by: self.nbd.as_ref().and_then(Exported::taken_over_by),
            generation: self.attachments.generation().0,
            settle_records: statistics.settle_records,
        }
    }
}
