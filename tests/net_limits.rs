//! What strangers, silent clients and stopped peers cost: memory stays flat, and descriptors do not
//! run out for good.
//!
//! One test, since it measures and limits the whole process.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use atdd::domain::{
    Attach, AttachRefusal, ClusterId, Content, Extent, Fence, Incarnation, OperationId, OwnerId,
    Question, Rank, Reply, Request, RequestId, SectorAddress, SectorRange, Stamp, StoreId, Volume,
};
use atdd::net::{
    Connections, Disk, DiskError, Host, Identity, Listener, NeverAttached, PeerEvents, PeerSession,
    PeerSessions, RegisterClient, Services, Settings, Stage,
};
use atdd::wire::{
    ClientCommand, ClientKey, ClientRequest, Credit, HELLO_BYTES, Introduction, SESSION_MAGIC,
    SystemKey,
};
use bytes::{Bytes, BytesMut};
use tokio::sync::watch;

/// A host that answers nothing, and a disk that holds sectors of sevens.
struct Silent;

impl Host for Silent {
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

    fn requests(&self, _from: &Arc<PeerSession>, _requests: Vec<Request>) {}

    fn introduced(&self, _from: &Arc<PeerSession>, _introduction: Introduction) {}

    async fn status(&self) -> Bytes {
        Bytes::new()
    }
}

impl Disk for Silent {
    fn sectors(&self) -> u64 {
        1 << 20
    }

    async fn read(&self, _sector: SectorAddress) -> Result<Content, DiskError> {
        Ok(Content::Data(Bytes::from(vec![7; 4096])))
    }

    async fn write(&self, _sector: SectorAddress, _data: Bytes) -> Result<(), DiskError> {
        Ok(())
    }
}

/// Notes whether the link is up.
#[derive(Default)]
struct Up(Mutex<bool>);

impl PeerEvents for Up {
    fn connected(&self, _peer: Rank, _incarnation: Incarnation, _introduction: Introduction) {
        *self.0.lock().unwrap() = true;
    }

    fn introduced(&self, _peer: Rank, _introduction: Introduction) {}

    fn disconnected(&self, _peer: Rank) {
        *self.0.lock().unwrap() = false;
    }

    fn replies(&self, _from: Rank, _replies: Vec<Reply>) {}
}

fn identity(rank: u8) -> Identity {
    Identity {
        cluster: ClusterId([1; 16]),
        rank: Rank::new(rank).unwrap(),
        processes: 3,
        incarnation: Incarnation(1),
        system_key: SystemKey::new(&[7; 64]),
        client_key: ClientKey::new(&[5; 32]),
    }
}

fn introduction() -> Introduction {
    Introduction {
        store: StoreId([1; 16]),
        birth: None,
        empty: true,
        holders: Vec::new(),
    }
}

/// Serves in a thread of its own for as long as the test runs, from `prepared` on.
fn serve(
    settings: Settings,
    prepared: impl FnOnce(SocketAddr) + Send + 'static,
) -> (SocketAddr, Arc<Connections>) {
    let connections = Arc::new(Connections::new(&settings));
    let counted = Arc::clone(&connections);
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = Listener::bind("127.0.0.1:0").await.unwrap();
            prepared(listener.local_address());
            tell.send(listener.local_address()).unwrap();
            let introduction = watch::Sender::new(introduction());
            let (serving, stage) = (watch::Sender::new(true), watch::Sender::new(Stage::Running));
            let services = Services {
                identity: Arc::new(identity(2)),
                host: Arc::new(Silent),
                disk: Arc::new(Silent),
                peers: Arc::new(PeerSessions::new()),
                connections,
                introduction: introduction.subscribe(),
                serving: serving.subscribe(),
                settings,
            };
            listener.serve(services, stage.subscribe()).await;
        });
    });
    (told.recv().unwrap(), counted)
}

/// Bytes of this process's own memory.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .unwrap();
    1024 * line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
}

fn eventually(mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "waited in vain");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What `attack` leaves behind, after it was tried once: the first time fills caches.
fn growth(what: &str, mut attack: impl FnMut()) -> u64 {
    attack();
    let before = memory();
    attack();
    let growth = memory().saturating_sub(before);
    println!("{what}: {} KiB", growth / 1024);
    growth
}

fn connect(address: SocketAddr) -> TcpStream {
    TcpStream::connect(address).unwrap()
}

fn write_request() -> Vec<u8> {
    let request = ClientRequest {
        number: 1,
        sector: 1,
        command: ClientCommand::Write(Bytes::from(vec![1; 4096])),
    };
    let mut bytes = BytesMut::new();
    request.encode(&identity(1).client_key, &mut bytes);
    bytes.to_vec()
}

#[test]
fn strangers_cost_next_to_nothing() {
    let settings = Settings {
        connections_max: 5000,
        clients_max: 4000,
        per_address_max: 5000,
        auth_failures_burst: u32::MAX,
        credit: Credit {
            requests: 64,
            bytes: 256 << 10,
        },
        queue_requests_max: 64,
        queue_bytes_max: 256 << 10,
        ..Settings::default()
    };
    let (address, connections) = serve(settings.clone(), |_| ());
    silent_connections(address, &connections);
    garbage(address);
    sessions_that_come_to_nothing(address);
    a_client_that_reads_nothing(address);
    a_peer_that_answers_nothing(address, &settings);
    no_descriptors_left();
}

/// A connection that has authenticated nothing costs under 1 KiB, half a request included.
fn silent_connections(address: SocketAddr, connections: &Connections) {
    // Both ends are in this process, and they are not to be more than its descriptors.
    let (soft, hard) = {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        (limit.current, limit.maximum)
    };
    let raised = rustix::process::Rlimit {
        current: hard,
        maximum: hard,
    };
    if rustix::process::setrlimit(rustix::process::Resource::Nofile, raised).is_err() {
        println!("descriptors stay limited to {soft:?}");
    }
    let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    let number = descriptors
        .map_or(3000, |most| most.saturating_sub(100) / 2)
        .min(3000);
    let mut held: Vec<_> = (0..50).map(|_| connect(address)).collect();
    eventually(|| connections.unauthenticated() == held.len());
    let half = write_request();
    let before = memory();
    for at in 0..number - 50 {
        let mut stream = connect(address);
        if at % 2 == 0 {
            stream.write_all(&half[..4000]).unwrap();
        }
        held.push(stream);
    }
    eventually(|| connections.unauthenticated() == held.len());
    let each = (memory() - before) / (number - 50);
    println!("{number} silent connections: {each} bytes each");
    assert!(each < 1024, "a silent connection costs {each} bytes");
    drop(held);
    eventually(|| connections.unauthenticated() == 0);
}

/// Wrong tags once ended in both ends waiting for ever: half a request that was left in the system's
/// buffer, behind a lot that was taken, kept its window shut.
fn garbage(address: SocketAddr) {
    let mut wrong = write_request();
    wrong[2000] ^= 1;
    for (what, piece) in [
        ("noise", vec![0x5a; 64 << 10]),
        ("magics of unknown type", b"atdd\0\0\0\x99".repeat(8 << 10)),
        ("wrong tags", wrong.repeat(16)),
    ] {
        let leaves = growth(what, || {
            let mut stream = connect(address);
            let mut responses = stream.try_clone().unwrap();
            let reader = std::thread::spawn(move || {
                let mut scratch = [0; 4096];
                while responses.read(&mut scratch).is_ok_and(|read| read > 0) {}
            });
            for _ in 0..128 {
                stream.write_all(&piece).unwrap();
            }
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            reader.join().unwrap();
        });
        assert!(leaves < 1 << 20, "{what}");
    }
}

fn sessions_that_come_to_nothing(address: SocketAddr) {
    let leaves = growth("hellos", || {
        for _ in 0..300 {
            let mut stream = connect(address);
            let mut hello = [0xff; HELLO_BYTES + 5000];
            hello[..8].copy_from_slice(&SESSION_MAGIC);
            stream.write_all(&hello).unwrap();
            let mut answer = Vec::new();
            // It may be reset, with so much that was never read.
            if let Ok(length) = stream.read_to_end(&mut answer) {
                assert_eq!(length, HELLO_BYTES);
            }
        }
    });
    assert!(leaves < 1 << 20);
}

/// It asks for 400 MB and takes none: the server keeps what its bound for a connection allows.
fn a_client_that_reads_nothing(address: SocketAddr) {
    let read = ClientRequest {
        number: 1,
        sector: 1,
        command: ClientCommand::Read,
    };
    let mut bytes = BytesMut::new();
    read.encode(&identity(1).client_key, &mut bytes);
    let before = memory();
    let mut stream = connect(address);
    stream
        .set_write_timeout(Some(Duration::from_millis(300)))
        .unwrap();
    let requests = bytes.repeat(100);
    // Until nothing more is taken.
    let taken = (0..1000)
        .take_while(|_| stream.write_all(&requests).is_ok())
        .count();
    let growth = memory().saturating_sub(before);
    println!(
        "a client that reads nothing: {} KiB, {taken} rounds",
        growth / 1024
    );
    assert!(taken < 1000, "nobody waits for it");
    assert!(growth < 8 << 20);
}

/// 200 MB are owed to a peer that answers nothing: what is under way stays within its credit, and
/// what waits within the link's limits, once it is finished.
fn a_peer_that_answers_nothing(address: SocketAddr, settings: &Settings) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let own = Arc::new(identity(1));
    let peer = Rank::new(2).unwrap();
    let link = RegisterClient::new(peer, address.to_string(), Arc::clone(&own), settings);
    let up = Arc::new(Up::default());
    let introduction = watch::Sender::new(introduction());
    let stage = watch::Sender::new(Stage::Running);
    runtime.block_on(async {
        let running = tokio::spawn(Arc::clone(&link).run(
            Arc::clone(&up) as Arc<dyn PeerEvents>,
            introduction.subscribe(),
            stage.subscribe(),
        ));
        while !*up.0.lock().unwrap() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let before = memory();
        for sequence in 0..50_000 {
            let request = store(&own, sequence);
            let operation = request.id.operation;
            link.send(vec![request]);
            link.finished(&[operation]);
            if sequence % 64 == 0 {
                tokio::task::yield_now().await;
            }
        }
        let growth = memory().saturating_sub(before);
        println!(
            "a peer that answers nothing: {} KiB, {:?}",
            growth / 1024,
            link.state()
        );
        assert!(link.state().queued <= 64);
        assert!(link.state().dropped > 49_000);
        assert!(growth < 8 << 20);
        stage.send_replace(Stage::Stopped);
        running.await.unwrap();
    });
}

/// Where there are no descriptors for more, the silent make room for whoever comes.
fn no_descriptors_left() {
    let (give, given) = std::sync::mpsc::sync_channel(1);
    let (_, connections) = serve(Settings::default(), move |address| {
        // They wait in the system's queue, while there are descriptors for their own ends.
        give.send((0..60).map(|_| connect(address)).collect::<Vec<_>>())
            .unwrap();
        let open = std::fs::read_dir("/proc/self/fd").unwrap().count();
        limit_descriptors(u64::try_from(open).unwrap() + 10);
    });
    let mut clients: Vec<TcpStream> = given.recv().unwrap();
    let mut last = clients.pop().unwrap();
    last.write_all(&write_request()).unwrap();
    last.set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    last.read_exact(&mut [0; 48]).unwrap();
    assert_eq!(connections.clients(), 1);
    assert!(connections.unauthenticated() <= 10);
}

fn limit_descriptors(most: u64) {
    let nofile = rustix::process::Resource::Nofile;
    let limit = rustix::process::Rlimit {
        current: Some(most),
        ..rustix::process::getrlimit(nofile)
    };
    rustix::process::setrlimit(nofile, limit).unwrap();
}

fn store(own: &Identity, sequence: u64) -> Request {
    let range = SectorRange::single(SectorAddress::new(Volume(0), sequence).unwrap());
    let stamp = Stamp {
        timestamp: 1,
        rank: Some(own.rank),
        ..Stamp::ZERO
    };
    let data = Content::Data(Bytes::from(vec![1; 4096]));
    Request {
        id: RequestId {
            operation: OperationId {
                coordinator: own.rank,
                incarnation: own.incarnation,
                shard: 0,
                sequence,
            },
            round: 0,
        },
        authority: Fence::INITIAL,
        question: Question::Store {
            extents: vec![Extent::new(range, stamp, data)],
        },
    }
}
