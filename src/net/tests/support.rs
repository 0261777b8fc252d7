//! A listener with a disk and a host that tests can stop and watch.

use std::collections::HashMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::classic_client::{Client, read, write};
use super::volume::{TestAttached, TestVolume};
use crate::domain::{
    Answer, Attach, AttachRefusal, ClusterId, Content, Fence, Incarnation, OperationId, OwnerId,
    Question, Rank, Reply, Request, RequestId, SECTOR_SIZE, SectorAddress, SectorRange, StoreId,
    Volume,
};
use crate::net::{
    Connections, Disk, DiskError, Host, Identity, Listener, PeerSession, PeerSessions, Services,
    Settings, Stage,
};
use crate::wire::{ClientKey, Introduction, SystemKey};

/// Longer than anything here takes; a test that waits for it has failed.
pub(in crate::net) const PATIENCE: Duration = Duration::from_secs(30);

pub(in crate::net) fn rank(number: u8) -> Rank {
    Rank::new(number).unwrap()
}

pub(in crate::net) fn client_key() -> ClientKey {
    ClientKey::new(&[5; 32])
}

pub(in crate::net) fn identity(number: u8) -> Identity {
    Identity {
        cluster: ClusterId([1; 16]),
        rank: rank(number),
        processes: 3,
        incarnation: Incarnation(10),
        system_key: SystemKey::new(&[7; 64]),
        client_key: client_key(),
    }
}

pub(in crate::net) fn introduction(number: u8) -> Introduction {
    Introduction {
        store: StoreId([number; 16]),
        birth: None,
        empty: true,
        holders: Vec::new(),
    }
}

pub(in crate::net) fn request(
    coordinator: &Identity,
    sequence: u64,
    question: Question,
) -> Request {
    let operation = OperationId {
        coordinator: coordinator.rank,
        incarnation: coordinator.incarnation,
        shard: 0,
        sequence,
    };
    Request {
        id: RequestId {
            operation,
            round: 0,
        },
        authority: Fence::INITIAL,
        question,
    }
}

pub(in crate::net) fn range(first: u64, count: u32) -> SectorRange {
    SectorRange::new(SectorAddress::new(Volume(0), first).unwrap(), count).unwrap()
}

/// Something that changes, and that a test waits for.
#[derive(Default)]
pub(in crate::net) struct Watched<T> {
    value: Mutex<T>,
    changed: Notify,
}

impl<T: Debug> Watched<T> {
    pub(in crate::net) fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.lock());
        self.changed.notify_waiters();
        result
    }

    pub(in crate::net) fn lock(&self) -> MutexGuard<'_, T> {
        self.value.lock().unwrap()
    }

    /// Waits until `take` gives something.
    #[track_caller]
    pub(in crate::net) fn wait<R>(
        &self,
        take: impl FnMut(&mut T) -> Option<R>,
    ) -> impl Future<Output = R> {
        let caller = std::panic::Location::caller();
        async move {
            let waited = timeout(PATIENCE, self.wait_for_ever(take)).await;
            waited.unwrap_or_else(|_| panic!("waited in vain at {caller} on {:?}", self.lock()))
        }
    }

    /// Waits until it is this value.
    #[track_caller]
    pub(in crate::net) fn becomes(&self, value: T) -> impl Future<Output = ()>
    where
        T: PartialEq,
    {
        self.wait(move |current| (*current == value).then_some(()))
    }

    /// As [`Self::wait`], for those whom a test lets wait.
    pub(in crate::net) async fn wait_for_ever<R>(
        &self,
        mut take: impl FnMut(&mut T) -> Option<R>,
    ) -> R {
        loop {
            let changed = self.changed.notified();
            if let Some(result) = take(&mut self.lock()) {
                return result;
            }
            changed.await;
        }
    }
}

/// A disk in memory, that does nothing while it is held.
#[derive(Default)]
pub(in crate::net) struct TestDisk {
    sectors: Mutex<HashMap<SectorAddress, Bytes>>,
    pub(in crate::net) held: Watched<bool>,
    pub(in crate::net) under_way: Watched<usize>,
    /// A read of this sector fails.
    pub(in crate::net) broken: Mutex<Option<SectorAddress>>,
    /// Who holds the disk for himself, if somebody does.
    pub(in crate::net) holder: Mutex<Option<AttachRefusal>>,
}

impl TestDisk {
    pub(in crate::net) const SECTORS: u64 = 1000;

    async fn pass(&self) -> Leaving<'_> {
        self.under_way.change(|under_way| *under_way += 1);
        let leaving = Leaving(self);
        self.held.becomes(false).await;
        leaving
    }
}

/// Counts an operation out, cancelled ones too.
struct Leaving<'a>(&'a TestDisk);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.under_way.change(|under_way| *under_way -= 1);
    }
}

impl Disk for TestDisk {
    fn sectors(&self) -> u64 {
        Self::SECTORS
    }

    async fn read(&self, sector: SectorAddress) -> Result<Content, DiskError> {
        let _leaving = self.pass().await;
        if let Some(refusal) = self.holder.lock().unwrap().clone() {
            return Err(DiskError::Held(refusal));
        }
        if *self.broken.lock().unwrap() == Some(sector) {
            return Err(DiskError::Unanswered("broken".into()));
        }
        let data = self.sectors.lock().unwrap().get(&sector).cloned();
        Ok(data.map_or(Content::Zeroes, Content::Data))
    }

    async fn write(&self, sector: SectorAddress, data: Bytes) -> Result<(), DiskError> {
        let _leaving = self.pass().await;
        assert_eq!(data.len(), SECTOR_SIZE);
        self.sectors.lock().unwrap().insert(sector, data);
        Ok(())
    }
}

/// A host that keeps what it is asked.
#[derive(Default)]
pub(in crate::net) struct TestHost {
    pub(in crate::net) asked: Watched<Vec<(Arc<PeerSession>, Request)>>,
    pub(in crate::net) introduced: Watched<Vec<(Rank, Introduction)>>,
    /// Answers stores at once, instead of keeping them.
    pub(in crate::net) prompt: Mutex<bool>,
    /// What clients attach to.
    pub(in crate::net) volume: Arc<TestVolume>,
    /// The owners whose attachments were to be released.
    pub(in crate::net) released: Mutex<Vec<OwnerId>>,
}

impl Host for TestHost {
    type Attached = TestAttached;

    async fn attach(&self, attach: Attach, client: String) -> Result<TestAttached, AttachRefusal> {
        self.volume.attach(attach, client).await
    }

    async fn attachments(&self) -> Bytes {
        Bytes::from_static(b"[\"tested\"]")
    }

    async fn release(&self, owner: OwnerId) -> bool {
        let mut released = self.released.lock().unwrap();
        released.push(owner);
        released.len() == 1
    }

    fn requests(&self, from: &Arc<PeerSession>, requests: Vec<Request>) {
        if *self.prompt.lock().unwrap() {
            from.reply(requests.iter().map(|request| stored(request.id)).collect());
        } else {
            let requests = requests
                .into_iter()
                .map(|request| (Arc::clone(from), request));
            self.asked.change(|asked| asked.extend(requests));
        }
    }

    fn introduced(&self, from: &Arc<PeerSession>, introduction: Introduction) {
        assert_eq!(from.introduction(), introduction);
        self.introduced
            .change(|introduced| introduced.push((from.rank(), introduction)));
    }

    async fn status(&self) -> Bytes {
        Bytes::from_static(b"{\"state\":\"tested\"}")
    }
}

pub(in crate::net) fn stored(id: RequestId) -> Reply {
    Reply {
        id,
        answer: Answer::Stored,
    }
}

/// A running listener.
pub(in crate::net) struct Server {
    pub(in crate::net) address: SocketAddr,
    pub(in crate::net) disk: Arc<TestDisk>,
    pub(in crate::net) host: Arc<TestHost>,
    pub(in crate::net) peers: Arc<PeerSessions>,
    pub(in crate::net) connections: Arc<Connections>,
    pub(in crate::net) introduction: watch::Sender<Introduction>,
    pub(in crate::net) serving: watch::Sender<bool>,
    pub(in crate::net) stage: watch::Sender<Stage>,
    task: JoinHandle<()>,
}

impl Server {
    /// Process 2, on any port.
    pub(in crate::net) async fn start(settings: Settings) -> Self {
        Self::start_at("127.0.0.1:0", identity(2), settings).await
    }

    pub(in crate::net) async fn start_at(
        address: &str,
        identity: Identity,
        settings: Settings,
    ) -> Self {
        let listener = Listener::bind(address).await.unwrap();
        let address = listener.local_address();
        let disk = Arc::new(TestDisk::default());
        let host = Arc::new(TestHost::default());
        let peers = Arc::new(PeerSessions::new());
        let connections = Arc::new(Connections::new(&settings));
        let introduction = watch::Sender::new(introduction(identity.rank.number()));
        let serving = watch::Sender::new(true);
        let stage = watch::Sender::new(Stage::Running);
        let services = Services {
            identity: Arc::new(identity),
            host: Arc::clone(&host),
            disk: Arc::clone(&disk),
            peers: Arc::clone(&peers),
            connections: Arc::clone(&connections),
            introduction: introduction.subscribe(),
            serving: serving.subscribe(),
            settings,
        };
        let task = tokio::spawn(listener.serve(services, stage.subscribe()));
        Self {
            address,
            disk,
            host,
            peers,
            connections,
            introduction,
            serving,
            stage,
            task,
        }
    }

    pub(in crate::net) async fn stop(self) {
        self.stage.send_replace(Stage::Stopped);
        timeout(PATIENCE, self.task)
            .await
            .expect("the listener stops")
            .unwrap();
    }

    pub(in crate::net) async fn connect(&self) -> Client {
        Client::connect(self.address).await
    }

    /// Writes and reads through a new connection.
    pub(in crate::net) async fn assert_serves(&self) {
        let mut client = self.connect().await;
        client.send(&write(1, 17, 0xab)).await;
        assert_eq!(client.receive().await.number, 1);
        client.send(&read(2, 17)).await;
        assert_eq!(client.receive().await.content, [0xab; SECTOR_SIZE][..]);
    }
}

/// Waits until `condition` holds, for things that nobody announces.
#[track_caller]
pub(in crate::net) fn eventually(mut condition: impl FnMut() -> bool) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let waiting = async {
            while !condition() {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        assert!(
            timeout(PATIENCE, waiting).await.is_ok(),
            "waited in vain at {caller}"
        );
    }
}

pub(in crate::net) fn store(coordinator: &Identity, sequence: u64) -> Request {
    let stamp = crate::domain::Stamp {
        timestamp: 1,
        rank: Some(coordinator.rank),
        ..crate::domain::Stamp::ZERO
    };
    let data = Content::Data(Bytes::from(vec![1; SECTOR_SIZE]));
    let extents = vec![crate::domain::Extent::new(range(sequence, 1), stamp, data)];
    request(coordinator, sequence, Question::Store { extents })
}
