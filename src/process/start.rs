//! Putting the parts of a process together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::attachments::Attachments;
use super::birth::Unborn;
use super::disk::Disk;
use super::inbox::Inbox;
use super::items::{Item, KeeperItem};
use super::keeper_task::{KeeperSurroundings, KeeperTask, KeeperView};
use super::membership::{Membership, Standing};
use super::operations::{ADMISSION_SECTORS, Operations};
use super::service::{Exported, Service};
use super::shared_authority::SharedAuthority;
use super::sweeper::Sweeper;
use super::switchboard::Switchboard;
use super::worker::{Surroundings, Worker};
use crate::attachment::{self, AttachmentKeeper};
use crate::config::Configuration;
use crate::domain::{Rank, Volume};
use crate::net::{
    Connections, Identity, Listener, PeerEvents, PeerSessions, RegisterClient, Services, Settings,
    Stage,
};
use crate::register::{AtomicRegister, Config};
use crate::store::DiskSectors;
use crate::wire::{ClientKey, Introduction, SystemKey};

/// What connects the parts of a process: there before any of them.
pub(super) struct Channels {
    pub(super) inboxes: Vec<Arc<Inbox<Item>>>,
    pub(super) keeper: Arc<Inbox<KeeperItem>>,
    pub(super) operations: Operations,
    pub(super) standing: (watch::Sender<Standing>, watch::Receiver<Standing>),
    pub(super) stage: (watch::Sender<Stage>, watch::Receiver<Stage>),
    view: (watch::Sender<KeeperView>, watch::Receiver<KeeperView>),
    next_id: Arc<AtomicU64>,
}

impl Channels {
    pub(super) fn new(configuration: &Configuration) -> Self {
        let workers = usize::from(configuration.workers());
        let inboxes: Vec<Arc<Inbox<Item>>> = (0..workers).map(|_| Arc::new(Inbox::new())).collect();
        let cluster = configuration.cluster();
        let sectors = cluster.size.sectors();
        let others = cluster.processes.ranks();
        let missing = others
            .filter(|rank| *rank != configuration.rank())
            .collect();
        let io_timeout = configuration.io_timeout_seconds;
        let io_timeout = io_timeout.map(|seconds| Duration::from_secs(seconds.get()));
        Self {
            operations: Operations::new(sectors, inboxes.clone(), io_timeout),
            inboxes,
            keeper: Arc::new(Inbox::new()),
            standing: watch::channel(Standing::Unborn { missing }),
            stage: watch::channel(Stage::Running),
            view: watch::channel(KeeperView::default()),
            next_id: Arc::default(),
        }
    }

    /// Where clients of this process attach.
    pub(super) fn attachments(&self) -> Attachments {
        Attachments {
            operations: self.operations.clone(),
            keeper: Arc::clone(&self.keeper),
            next_id: Arc::clone(&self.next_id),
            view: self.view.1.clone(),
            standing: self.standing.1.clone(),
            stage: self.stage.1.clone(),
        }
    }
}

/// Everything that the parts of a process share while they are put together.
pub(super) struct Start {
    pub(super) configuration: Arc<Configuration>,
    pub(super) identity: Arc<Identity>,
    pub(super) settings: Settings,
    pub(super) store: Arc<DiskSectors>,
    pub(super) channels: Channels,
    /// Of each worker, for `status`.
    pub(super) under_way: Vec<Arc<AtomicUsize>>,
    pub(super) authority: SharedAuthority,
    pub(super) links: Vec<Option<Arc<RegisterClient>>>,
    pub(super) sessions: Arc<PeerSessions>,
    pub(super) switchboard: Arc<Switchboard>,
    pub(super) introduction: (watch::Sender<Introduction>, watch::Receiver<Introduction>),
    pub(super) nbd: Option<Exported>,
}

impl Start {
    pub(super) fn new(
        configuration: Arc<Configuration>,
        store: Arc<DiskSectors>,
        channels: Channels,
        nbd: Option<Exported>,
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
        let processes = cluster.processes.count();
        let Channels {
            inboxes, keeper, ..
        } = &channels;
        let switchboard = Switchboard::new(processes, inboxes.clone(), Arc::clone(keeper));
        let fence = store.fence(Volume(0));
        channels.view.0.send_modify(|view| view.fence = fence);
        Self {
            identity,
            settings,
            under_way: inboxes.iter().map(|_| Arc::default()).collect(),
            authority: SharedAuthority::new(fence, Arc::clone(keeper)),
            links,
            sessions: Arc::new(PeerSessions::new()),
            switchboard: Arc::new(switchboard),
            introduction: watch::channel(introduction),
            configuration,
            store,
            channels,
            nbd,
        }
    }

    /// The disk for clients that do not attach.
    pub(super) fn disk(&self) -> Disk {
        Disk::new(self.channels.operations.clone(), self.authority.clone())
    }

    pub(super) fn spawn_links(&self, tasks: &mut JoinSet<()>) {
        for link in self.links.iter().flatten() {
            let events = Arc::clone(&self.switchboard) as Arc<dyn PeerEvents>;
            let introduction = self.introduction.1.clone();
            tasks.spawn(Arc::clone(link).run(events, introduction, self.channels.stage.1.clone()));
        }
    }

    pub(super) fn spawn_workers(&self, tasks: &mut JoinSet<()>) {
        let fence = self.store.fence(Volume(0));
        for (shard, inbox) in (0..).zip(&self.channels.inboxes) {
            let register = AtomicRegister::new(Config {
                own: self.configuration.rank(),
                processes: self.configuration.cluster().processes.count(),
                incarnation: self.store.incarnation(),
                fence,
                shard,
                queue_max: usize::from(ADMISSION_SECTORS),
            });
            let worker = Worker::new(
                register,
                Surroundings {
                    shard,
                    inbox: Arc::clone(inbox),
                    keeper: Arc::clone(&self.channels.keeper),
                    store: Arc::clone(&self.store) as _,
                    links: self.links.clone(),
                    sessions: Arc::clone(&self.sessions),
                    operations: Arc::clone(&self.under_way[usize::from(shard)]),
                },
            );
            tasks.spawn(once_born(self.channels.standing.1.clone(), worker.run()));
        }
    }

    pub(super) fn spawn_keeper(&self, tasks: &mut JoinSet<()>) {
        let keeper = AttachmentKeeper::new(attachment::Config {
            own: self.configuration.rank(),
            processes: self.configuration.cluster().processes.count(),
            incarnation: self.store.incarnation(),
            fence: self.store.fence(Volume(0)),
            shards: self.configuration.workers(),
        });
        let store = Arc::clone(&self.store);
        let Channels {
            inboxes,
            keeper: inbox,
            operations,
            view,
            next_id,
            ..
        } = &self.channels;
        let task = KeeperTask::new(
            keeper,
            KeeperSurroundings {
                inbox: Arc::clone(inbox),
                workers: inboxes.clone(),
                links: self.links.clone(),
                sessions: Arc::clone(&self.sessions),
                introduction: self.introduction.0.clone(),
                record: Arc::new(move |fence| store.record_fence(Volume(0), &fence)),
                authority: self.authority.clone(),
                next_id: Arc::clone(next_id),
                view: view.0.clone(),
            },
        );
        tasks.spawn(once_born(self.channels.standing.1.clone(), task.run()));
        let complete = self.switchboard.completeness();
        let sweeper = Sweeper::new(operations.clone(), view.1.clone(), complete);
        tasks.spawn(sweeper.run());
    }

    pub(super) fn spawn_listener(
        &self,
        tasks: &mut JoinSet<()>,
        listener: Listener,
    ) -> Arc<Connections> {
        let connections = Arc::new(Connections::new(&self.settings));
        let service = Service {
            configuration: Arc::clone(&self.configuration),
            incarnation: self.store.incarnation(),
            store: Arc::clone(&self.store),
            switchboard: Arc::clone(&self.switchboard),
            attachments: self.channels.attachments(),
            standing: self.channels.standing.1.clone(),
            stage: self.channels.stage.1.clone(),
            operations: self.under_way.clone(),
            nbd: self.nbd.clone(),
        };
        let (born, serving) = watch::channel(false);
        let mut standing = self.channels.standing.1.clone();
        tasks.spawn(async move {
            if standing.wait_for(Standing::is_born).await.is_ok() {
                born.send_replace(true);
            }
        });
        let services = Services {
            identity: Arc::clone(&self.identity),
            host: Arc::new(service),
            disk: Arc::new(self.disk()),
            peers: Arc::clone(&self.sessions),
            connections: Arc::clone(&connections),
            introduction: self.introduction.1.clone(),
            serving,
            settings: self.settings.clone(),
        };
        tasks.spawn(listener.serve(services, self.channels.stage.1.clone()));
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
            self.channels.standing.0.clone(),
        )
    }
}

/// Before the cluster is born nothing may be answered: what is asked waits in the inbox.
async fn once_born(mut standing: watch::Receiver<Standing>, work: impl Future<Output = ()>) {
    if standing.wait_for(Standing::is_born).await.is_ok() {
        work.await;
    }
}
