//! Tests of several processes' workers at full depth against one another, over real sockets, with
//! queues and credits so tiny that all of them are full all the time.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::disk::Disk;
use super::inbox::Inbox;
use super::switchboard::{News, Switchboard};
use super::worker::{Surroundings, Worker};
use crate::domain::{
    Attach, AttachRefusal, ClusterId, Content, Fence, Incarnation, OwnerId, Rank, Request,
    SECTOR_SIZE, StoreId,
};
use crate::net::{
    Connections, Host, Identity, Listener, NeverAttached, PeerEvents, PeerSession, PeerSessions,
    RegisterClient, Services, Settings, Stage,
};
use crate::register::{AtomicRegister, Config};
use crate::store::MemorySectors;
use crate::wire::{ClientKey, Credit, Introduction, SystemKey};

const SECTORS: u64 = 64;

/// How a process's store behaves.
#[derive(Copy, Clone, PartialEq)]
enum Pace {
    /// Everything is done at once.
    Fast,
    /// One thing in a millisecond.
    Slow,
    /// What is read is, and nothing is ever stored: as on a full disk.
    Full,
    /// Nothing is ever done.
    Stopped,
}

struct Node {
    disk: Disk,
    links: Vec<Option<Arc<RegisterClient>>>,
    store: Arc<MemorySectors>,
    /// A process of which these are gone has stopped.
    _lasting: (
        watch::Sender<Introduction>,
        watch::Sender<Stage>,
        watch::Sender<bool>,
    ),
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
fn tiny() -> Settings {
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

/// Puts the processes together; they run as long as the tasks.
async fn crowd(paces: &[Pace], tasks: &mut JoinSet<()>) -> Vec<Node> {
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
        .map(|((rank, pace), listener)| node(rank, *pace, listener, &addresses, tasks))
        .collect()
}

fn node(
    rank: Rank,
    pace: Pace,
    listener: Listener,
    addresses: &[String],
    tasks: &mut JoinSet<()>,
) -> Node {
    let processes = u8::try_from(addresses.len()).unwrap();
    let identity = identity(rank, processes);
    let settings = tiny();
    let inbox = Arc::new(Inbox::new());
    let switchboard = Arc::new(Switchboard::new(processes, vec![Arc::clone(&inbox)]));
    let disk = Disk::new(SECTORS, vec![Arc::clone(&inbox)], None);
    let store = Arc::new(match pace {
        Pace::Fast => MemorySectors::automatic(),
        Pace::Slow | Pace::Full | Pace::Stopped => MemorySectors::explicit(),
    });
    let links = links(rank, addresses, &identity);
    let peers = Arc::new(PeerSessions::new());
    let introduction = Introduction {
        store: StoreId([rank.number(); 16]),
        birth: None,
        empty: true,
        holders: Vec::new(),
    };
    let (introduction_sender, introduction) = watch::channel(introduction);
    let (stage_sender, stage) = watch::channel(Stage::Running);
    let (serving_sender, serving) = watch::channel(true);
    for link in links.iter().flatten() {
        let events = Arc::clone(&switchboard) as Arc<dyn PeerEvents>;
        tasks.spawn(Arc::clone(link).run(events, introduction.clone(), stage.clone()));
    }
    let register = AtomicRegister::new(Config {
        own: rank,
        processes,
        incarnation: Incarnation(1),
        fence: Fence::INITIAL,
        shard: 0,
        queue_max: 1000,
    });
    let surroundings = Surroundings {
        inbox,
        store: Arc::clone(&store) as _,
        links: links.clone(),
        sessions: Arc::clone(&peers),
        operations: Arc::new(AtomicUsize::new(0)),
    };
    tasks.spawn(Worker::new(register, surroundings).run());
    let services = Services {
        identity,
        host: Arc::new(TestHost(Arc::clone(&switchboard))),
        disk: Arc::new(disk.clone()),
        peers,
        connections: Arc::new(Connections::new(&settings)),
        introduction,
        serving,
        settings,
    };
    tasks.spawn(listener.serve(services, stage));
    tasks.spawn(recognize_all(switchboard));
    if matches!(pace, Pace::Slow | Pace::Full) {
        tasks.spawn(finish_slowly(Arc::clone(&store), pace));
    }
    let lasting = (introduction_sender, stage_sender, serving_sender);
    Node {
        disk,
        links,
        store,
        _lasting: lasting,
    }
}

fn links(
    rank: Rank,
    addresses: &[String],
    identity: &Arc<Identity>,
) -> Vec<Option<Arc<RegisterClient>>> {
    Rank::all(identity.processes)
        .zip(addresses)
        .map(|(peer, address)| {
            let link = || RegisterClient::new(peer, address.clone(), Arc::clone(identity), &tiny());
            (peer != rank).then(link)
        })
        .collect()
}

async fn recognize_all(switchboard: Arc<Switchboard>) {
    let mut news = Vec::new();
    while switchboard.news().take(&mut news).await {
        for item in news.drain(..) {
            if let News::Introduced {
                peer, connection, ..
            } = item
            {
                switchboard.recognize(peer, connection);
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

fn content(byte: u8) -> Bytes {
    Bytes::from(vec![byte; SECTOR_SIZE])
}

/// Many writers at every process that is given, on few sectors, all at the same time.
async fn write_everywhere(nodes: &[&Node], writes_each: u64) {
    let mut writers = JoinSet::new();
    for (byte, node) in (1..).zip(nodes) {
        for writer in 0..writes_each {
            let disk = node.disk.clone();
            writers.spawn(async move {
                let sector = (writer * 7) % SECTORS;
                disk.write(sector, content(byte)).await.unwrap();
                disk.read(sector, 1).await.unwrap();
            });
        }
    }
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
}

#[tokio::test]
async fn full_depth_everywhere_with_tiny_queues_ends() {
    let mut tasks = JoinSet::new();
    let nodes = crowd(&[Pace::Fast; 3], &mut tasks).await;
    write_everywhere(&nodes.iter().collect::<Vec<_>>(), 400).await;
    let mut values = Vec::new();
    for node in &nodes {
        values.push(node.disk.read(0, 64).await.unwrap());
    }
    assert_eq!(values[0], values[1]);
    assert_eq!(values[0], values[2]);
    assert!(
        values[0]
            .iter()
            .any(|extent| matches!(extent.content, Content::Data(_)))
    );
}

#[tokio::test]
async fn a_stopped_and_a_slow_peer_hold_nobody_up() {
    let mut tasks = JoinSet::new();
    let paces = [
        Pace::Fast,
        Pace::Fast,
        Pace::Fast,
        Pace::Slow,
        Pace::Stopped,
    ];
    let nodes = crowd(&paces, &mut tasks).await;
    let coordinators: Vec<&Node> = nodes[..4].iter().collect();
    write_everywhere(&coordinators, 150).await;
    let to_stopped = |node: &Node| node.links[4].as_ref().unwrap().state();
    for node in &nodes[..3] {
        let state = to_stopped(node);
        assert!(state.in_flight <= 4, "the credit is kept: {state:?}");
        assert!(
            state.queued <= 200,
            "what is finished is dropped: {state:?}"
        );
    }
    let before = to_stopped(&nodes[0]).queued;
    write_everywhere(&coordinators[..3], 300).await;
    let after = to_stopped(&nodes[0]).queued;
    assert!(after <= before.max(8), "it grew from {before} to {after}");
    let waiting = nodes[4].store.loads_waiting() + nodes[4].store.stores_waiting();
    assert!(
        waiting <= 4 * 4 + 2,
        "{waiting} requests wait in the stopped process"
    );
}

#[tokio::test]
async fn reads_go_on_where_nothing_can_be_stored() {
    let mut tasks = JoinSet::new();
    let nodes = crowd(&[Pace::Fast, Pace::Full, Pace::Stopped], &mut tasks).await;
    let mut writers = JoinSet::new();
    for sector in 0..20 {
        let disk = nodes[0].disk.clone();
        writers.spawn(async move { disk.write(sector, content(1)).await });
    }
    // As many stores as may come have come, and nothing will become of them.
    let waits = || nodes[1].store.stores_waiting() >= 2;
    for _ in 0..2000 {
        if waits() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(waits());
    for sector in 20..SECTORS {
        let read = nodes[0].disk.read(sector, 1);
        let read = tokio::time::timeout(Duration::from_secs(30), read).await;
        read.expect("it is answered").unwrap();
    }
}
