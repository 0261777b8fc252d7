//! Several processes' parts put together, over real sockets and with stores in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::attachment::{self, AttachmentKeeper};
use crate::domain::{
    Attach, AttachRefusal, ClusterId, Fence, Incarnation, OwnerId, Rank, Request, SECTOR_SIZE,
    StoreId,
};
use crate::net::{
    Connections, Host, Identity, Listener, NeverAttached, PeerEvents, PeerSession, PeerSessions,
    RegisterClient, Services, Settings, Stage,
};
use crate::process::attachments::Attachments;
use crate::process::disk::Disk;
use crate::process::inbox::Inbox;
use crate::process::items::{Item, KeeperItem};
use crate::process::keeper_task::{KeeperSurroundings, KeeperTask, KeeperView};
use crate::process::membership::Standing;
use crate::process::operations::Operations;
use crate::process::shared_authority::SharedAuthority;
use crate::process::sweeper::Sweeper;
use crate::process::switchboard::{News, Switchboard};
use crate::process::worker::{Surroundings, Worker};
use crate::register::{AtomicRegister, Config};
use crate::store::MemorySectors;
use crate::wire::{ClientKey, Credit, Introduction, SystemKey};

pub(super) const SECTORS: u64 = 64;

/// How a process's store behaves.
#[derive(Copy, Clone, PartialEq)]
pub(super) enum Pace {
    /// Everything is done at once.
    Fast,
    /// One thing in a millisecond.
    Slow,
    /// What is read is, and nothing is ever stored: as on a full disk.
    Full,
    /// Nothing is ever done.
    Stopped,
}

/// A process; it ends with its tasks.
pub(super) struct Node {
    pub(super) disk: Disk,
    pub(super) attachments: Attachments,
    pub(super) links: Vec<Option<Arc<RegisterClient>>>,
    pub(super) store: Arc<MemorySectors>,
    pub(super) stage: watch::Sender<Stage>,
    tasks: JoinSet<()>,
    /// A process of which these are gone has stopped.
    _lasting: (
        watch::Sender<Introduction>,
        watch::Sender<bool>,
        watch::Sender<Standing>,
    ),
}

impl Node {
    /// Ends it as `kill -9` does.
    pub(super) async fn kill(&mut self) {
        self.tasks.shutdown().await;
    }
}

struct TestHost(Arc<Switchboard>);

impl Host for TestHost {
    type Attached = NeverAttached;

    async fn attach(
        &self,
        _attach: Attach,
        _client: String,
    ) -> Result<NeverAttached, AttachRefusal> {
        Err(AttachRefusal::ShuttingDown)
    }

    async fn attachments(&self) -> Bytes {
        Bytes::new()
    }

    async fn release(&self, _owner: OwnerId) -> bool {
        false
    }

    fn requests(&self, from: &Arc<PeerSession>, requests: Vec<Request>) {
        self.0.route_requests(from, requests);
    }

    fn introduced(&self, _from: &Arc<PeerSession>, _introduction: Introduction) {}

    async fn status(&self) -> Bytes {
        Bytes::new()
    }
}

/// Room for so few requests that a queue is full with every operation.
pub(super) fn tiny() -> Settings {
    Settings {
        credit: Credit {
            requests: 4,
            bytes: 1 << 20,
        },
        queue_requests_max: 4,
        queue_bytes_max: 32 << 10,
        ..Settings::default()
    }
}

fn identity(rank: Rank, processes: u8) -> Arc<Identity> {
    Arc::new(Identity {
        cluster: ClusterId([7; 16]),
        rank,
        processes,
        incarnation: Incarnation(1),
        system_key: SystemKey::new(&[1; 64]),
        client_key: ClientKey::new(&[2; 32]),
    })
}

/// Puts the processes together.
pub(super) async fn crowd(paces: &[Pace], settings: &Settings) -> Vec<Node> {
    let processes = u8::try_from(paces.len()).unwrap();
    let mut listeners = Vec::new();
    for _ in paces {
        listeners.push(Listener::bind("127.0.0.1:0").await.unwrap());
    }
    let addresses: Vec<String> = listeners
        .iter()
        .map(|listener| listener.local_address().to_string())
        .collect();
    let ranks = Rank::all(processes);
    let parts = ranks.zip(paces).zip(listeners);
    parts
        .map(|((rank, pace), listener)| node(rank, *pace, listener, &addresses, settings))
        .collect()
}

/// What connects the parts of a process.
struct Channels {
    worker: Arc<Inbox<Item>>,
    keeper: Arc<Inbox<KeeperItem>>,
    operations: Operations,
    authority: SharedAuthority,
    switchboard: Arc<Switchboard>,
    links: Vec<Option<Arc<RegisterClient>>>,
    sessions: Arc<PeerSessions>,
    introduction: (watch::Sender<Introduction>, watch::Receiver<Introduction>),
    stage: (watch::Sender<Stage>, watch::Receiver<Stage>),
    standing: (watch::Sender<Standing>, watch::Receiver<Standing>),
    view: (watch::Sender<KeeperView>, watch::Receiver<KeeperView>),
    next_id: Arc<AtomicU64>,
}

impl Channels {
    fn new(
        rank: Rank,
        addresses: &[String],
        identity: &Arc<Identity>,
        settings: &Settings,
    ) -> Self {
        let (worker, keeper) = (Arc::new(Inbox::new()), Arc::new(Inbox::new()));
        let workers = vec![Arc::clone(&worker)];
        let introduction = Introduction {
            store: StoreId([rank.number(); 16]),
            birth: None,
            empty: true,
            holders: Vec::new(),
        };
        let switchboard =
            Switchboard::new(identity.processes, workers.clone(), Arc::clone(&keeper));
        Self {
            worker,
            operations: Operations::new(SECTORS, workers, None),
            authority: SharedAuthority::new(Fence::INITIAL, Arc::clone(&keeper)),
            keeper,
            switchboard: Arc::new(switchboard),
            links: links(rank, addresses, identity, settings),
            sessions: Arc::new(PeerSessions::new()),
            introduction: watch::channel(introduction),
            stage: watch::channel(Stage::Running),
            standing: watch::channel(Standing::Serving),
            view: watch::channel(KeeperView::default()),
            next_id: Arc::default(),
        }
    }

    fn attachments(&self) -> Attachments {
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

fn node(
    rank: Rank,
    pace: Pace,
    listener: Listener,
    addresses: &[String],
    settings: &Settings,
) -> Node {
    let identity = identity(rank, u8::try_from(addresses.len()).unwrap());
    let channels = Channels::new(rank, addresses, &identity, settings);
    let store = Arc::new(match pace {
        Pace::Fast => MemorySectors::automatic(),
        Pace::Slow | Pace::Full | Pace::Stopped => MemorySectors::explicit(),
    });
    let mut tasks = JoinSet::new();
    for link in channels.links.iter().flatten() {
        let events = Arc::clone(&channels.switchboard) as Arc<dyn PeerEvents>;
        let introduction = channels.introduction.1.clone();
        tasks.spawn(Arc::clone(link).run(events, introduction, channels.stage.1.clone()));
    }
    tasks.spawn(worker(&identity, &channels, &store).run());
    tasks.spawn(keeper(&identity, &channels).run());
    let complete = channels.switchboard.completeness();
    let view = channels.view.1.clone();
    tasks.spawn(Sweeper::new(channels.operations.clone(), view, complete).run());
    let disk = Disk::new(channels.operations.clone(), channels.authority.clone());
    let (serving_sender, serving) = watch::channel(true);
    let services = Services {
        identity,
        host: Arc::new(TestHost(Arc::clone(&channels.switchboard))),
        disk: Arc::new(disk.clone()),
        peers: Arc::clone(&channels.sessions),
        connections: Arc::new(Connections::new(settings)),
        introduction: channels.introduction.1.clone(),
        serving,
        settings: settings.clone(),
    };
    tasks.spawn(listener.serve(services, channels.stage.1.clone()));
    tasks.spawn(recognize_all(Arc::clone(&channels.switchboard)));
    if matches!(pace, Pace::Slow | Pace::Full) {
        tasks.spawn(finish_slowly(Arc::clone(&store), pace));
    }
    Node {
        disk,
        attachments: channels.attachments(),
        links: channels.links,
        store,
        stage: channels.stage.0,
        tasks,
        _lasting: (channels.introduction.0, serving_sender, channels.standing.0),
    }
}

fn worker(identity: &Identity, channels: &Channels, store: &Arc<MemorySectors>) -> Worker {
    let register = AtomicRegister::new(Config {
        own: identity.rank,
        processes: identity.processes,
        incarnation: Incarnation(1),
        fence: Fence::INITIAL,
        shard: 0,
        queue_max: 1000,
    });
    let surroundings = Surroundings {
        shard: 0,
        inbox: Arc::clone(&channels.worker),
        keeper: Arc::clone(&channels.keeper),
        store: Arc::clone(store) as _,
        links: channels.links.clone(),
        sessions: Arc::clone(&channels.sessions),
        operations: Arc::new(AtomicUsize::new(0)),
    };
    Worker::new(register, surroundings)
}

fn keeper(identity: &Identity, channels: &Channels) -> KeeperTask {
    let keeper = AttachmentKeeper::new(attachment::Config {
        own: identity.rank,
        processes: identity.processes,
        incarnation: Incarnation(1),
        fence: Fence::INITIAL,
        shards: 1,
    });
    let surroundings = KeeperSurroundings {
        inbox: Arc::clone(&channels.keeper),
        workers: vec![Arc::clone(&channels.worker)],
        links: channels.links.clone(),
        sessions: Arc::clone(&channels.sessions),
        introduction: channels.introduction.0.clone(),
        record: Arc::new(|_| Ok(())),
        authority: channels.authority.clone(),
        next_id: Arc::clone(&channels.next_id),
        view: channels.view.0.clone(),
    };
    KeeperTask::new(keeper, surroundings)
}

fn links(
    rank: Rank,
    addresses: &[String],
    identity: &Arc<Identity>,
    settings: &Settings,
) -> Vec<Option<Arc<RegisterClient>>> {
    Rank::all(identity.processes)
        .zip(addresses)
        .map(|(peer, address)| {
            let link =
                || RegisterClient::new(peer, address.clone(), Arc::clone(identity), settings);
            (peer != rank).then(link)
        })
        .collect()
}

async fn recognize_all(switchboard: Arc<Switchboard>) {
    let mut news = Vec::new();
    while switchboard.news().take(&mut news).await {
        for item in news.drain(..) {
            if let News::Introduced {
                peer,
                connection,
                introduction,
            } = item
            {
                switchboard.recognize(peer, connection);
                switchboard.holders(peer, connection, introduction.holders);
            }
        }
    }
}

async fn finish_slowly(store: Arc<MemorySectors>, pace: Pace) {
    loop {
        tokio::time::sleep(Duration::from_millis(1)).await;
        if store.loads_waiting() > 0 {
            store.finish_load(0);
        } else if pace == Pace::Slow && store.stores_waiting() > 0 {
            store.finish_store(0);
        }
    }
}

pub(super) fn content(byte: u8) -> Bytes {
    Bytes::from(vec![byte; SECTOR_SIZE])
}
