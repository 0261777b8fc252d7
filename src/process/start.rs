//! Putting the parts of a process together.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::birth::Unborn;
use super::disk::{ADMISSION_SECTORS, Disk};
use super::inbox::Inbox;
use super::membership::{Membership, Standing};
use super::service::Service;
use super::switchboard::Switchboard;
use super::worker::{Item, Surroundings, Worker};
use crate::config::Configuration;
use crate::domain::{Fence, Rank};
use crate::net::{
    Connections, Identity, Listener, PeerEvents, PeerSessions, RegisterClient, Services, Settings,
    Stage,
};
use crate::register::{AtomicRegister, Config};
use crate::store::DiskSectors;
use crate::wire::{ClientKey, Introduction, SystemKey};

/// Everything that the parts of a process share while they are put together.
pub(super) struct Start {
    pub(super) configuration: Arc<Configuration>,
    pub(super) identity: Arc<Identity>,
    pub(super) settings: Settings,
    pub(super) store: Arc<DiskSectors>,
    pub(super) inboxes: Vec<Arc<Inbox<Item>>>,
    pub(super) operations: Vec<Arc<AtomicUsize>>,
    pub(super) links: Vec<Option<Arc<RegisterClient>>>,
    pub(super) sessions: Arc<PeerSessions>,
    pub(super) switchboard: Arc<Switchboard>,
    pub(super) introduction: (watch::Sender<Introduction>, watch::Receiver<Introduction>),
    pub(super) standing: (watch::Sender<Standing>, watch::Receiver<Standing>),
    pub(super) stage: (watch::Sender<Stage>, watch::Receiver<Stage>),
    pub(super) nbd: Option<String>,
}

impl Start {
    pub(super) fn new(
        configuration: Arc<Configuration>,
        store: Arc<DiskSectors>,
        inboxes: Vec<Arc<Inbox<Item>>>,
        nbd: Option<String>,
    ) -> Self {
        let cluster = configuration.cluster();
        let identity = Arc::new(Identity {
            cluster: cluster.id,
            rank: configuration.rank(),
            processes: cluster.processes.count(),
            incarnation: store.incarnation(),
            system_key: SystemKey::new(configuration.system_key.bytes()),
            client_key: ClientKey::new(cluster.client_key.bytes()),
        });
        let settings = Settings::default();
        let link = |peer: Rank| {
            let address = cluster.processes.address(peer).to_string();
            RegisterClient::new(peer, address, Arc::clone(&identity), &settings)
        };
        let links = cluster
            .processes
            .ranks()
            .map(|peer| (peer != configuration.rank()).then(|| link(peer)))
            .collect();
        let introduction = Introduction {
            store: store.identity(),
            birth: store.birth(),
            empty: store.is_empty(),
            holders: Vec::new(),
        };
        let missing = cluster
            .processes
            .ranks()
            .filter(|r| *r != configuration.rank())
            .collect();
        let processes = cluster.processes.count();
        Self {
            identity,
            settings,
            operations: inboxes.iter().map(|_| Arc::default()).collect(),
            links,
            sessions: Arc::new(PeerSessions::new()),
            switchboard: Arc::new(Switchboard::new(processes, inboxes.clone())),
            introduction: watch::channel(introduction),
            standing: watch::channel(Standing::Unborn { missing }),
            stage: watch::channel(Stage::Running),
            configuration,
            store,
            inboxes,
            nbd,
        }
    }

    pub(super) fn spawn_links(&self, tasks: &mut JoinSet<()>) {
        for link in self.links.iter().flatten() {
            let events = Arc::clone(&self.switchboard) as Arc<dyn PeerEvents>;
            let introduction = self.introduction.1.clone();
            tasks.spawn(Arc::clone(link).run(events, introduction, self.stage.1.clone()));
        }
    }

    pub(super) fn spawn_workers(&self, tasks: &mut JoinSet<()>) {
        for (shard, inbox) in self.inboxes.iter().enumerate() {
            let register = AtomicRegister::new(Config {
                own: self.configuration.rank(),
                processes: self.configuration.cluster().processes.count(),
                incarnation: self.store.incarnation(),
                fence: Fence::INITIAL,
                shard: u8::try_from(shard).expect("workers are counted in eight bits"),
                queue_max: usize::from(ADMISSION_SECTORS),
            });
            let worker = Worker::new(
                register,
                Surroundings {
                    inbox: Arc::clone(inbox),
                    store: Arc::clone(&self.store) as _,
                    links: self.links.clone(),
                    sessions: Arc::clone(&self.sessions),
                    operations: Arc::clone(&self.operations[shard]),
                },
            );
            let mut standing = self.standing.1.clone();
            tasks.spawn(async move {
                // Before the cluster is born nothing may be answered: requests wait in the inbox.
                if standing.wait_for(Standing::is_born).await.is_ok() {
                    worker.run().await;
                }
            });
        }
    }

    pub(super) fn spawn_listener(
        &self,
        tasks: &mut JoinSet<()>,
        listener: Listener,
        disk: Disk,
    ) -> Arc<Connections> {
        let connections = Arc::new(Connections::new(&self.settings));
        let service = Service {
            configuration: Arc::clone(&self.configuration),
            incarnation: self.store.incarnation(),
            store: Arc::clone(&self.store),
            switchboard: Arc::clone(&self.switchboard),
            standing: self.standing.1.clone(),
            stage: self.stage.1.clone(),
            operations: self.operations.clone(),
            nbd: self.nbd.clone(),
        };
        let (born, serving) = watch::channel(false);
        let mut standing = self.standing.1.clone();
        tasks.spawn(async move {
            if standing.wait_for(Standing::is_born).await.is_ok() {
                born.send_replace(true);
            }
        });
        let services = Services {
            identity: Arc::clone(&self.identity),
            host: Arc::new(service),
            disk: Arc::new(disk),
            peers: Arc::clone(&self.sessions),
            connections: Arc::clone(&connections),
            introduction: self.introduction.1.clone(),
            serving,
            settings: self.settings.clone(),
        };
        tasks.spawn(listener.serve(services, self.stage.1.clone()));
        connections
    }

    pub(super) fn membership(&self) -> Membership {
        let unborn = Unborn {
            own: self.configuration.rank(),
            store: self.store.identity(),
            processes: self.configuration.cluster().processes.count(),
            vouched: self.configuration.new_cluster,
        };
        Membership::new(
            unborn,
            Arc::clone(&self.store),
            Arc::clone(&self.switchboard),
            self.introduction.0.clone(),
            self.standing.0.clone(),
        )
    }
}
