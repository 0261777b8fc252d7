//! Processes of a cluster whose disk is in this test's memory: what clients meet, without what is
//! behind it. They agree on generations as real ones do, at once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use atdd::config::{Cluster, ClusterFile};
use atdd::domain::{
    Attach, AttachKind, AttachRefusal, AttachmentReport, AttachmentsReport, Content, Extent, Fence,
    Generation, Holder, Incarnation, Mode, OperationError, OwnerId, Rank, ReportedKind, Request,
    SECTOR_SIZE, SectorAddress, SectorRange, Stamp, StoreId, Tag, Volume,
};
use atdd::net::{
    Attached, Connections, Disk, DiskError, Host, Identity, Listener, PeerSession, PeerSessions,
    Services, Settings, Stage,
};
use atdd::wire::{ClientKey, Introduction, SystemKey};
use bytes::Bytes;
use tokio::sync::watch;

/// All processes of a cluster; they end with it.
pub(crate) struct Processes {
    state: Arc<State>,
    stages: Vec<watch::Sender<Stage>>,
    // Dropped last, when every listener has been told.
    _runtime: tokio::runtime::Runtime,
}

/// What the processes have together.
struct State {
    disk: Mutex<BTreeMap<u64, Bytes>>,
    fence: watch::Sender<Fence>,
    attachments: Mutex<Vec<(Rank, u64, Holder)>>,
    sectors: u64,
}

/// Binds an address that was free a moment ago. Where some connection has got its port in between,
/// that goes away.
async fn bind(address: &str) -> Listener {
    let mut tries = 0;
    loop {
        match Listener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) if tries == 200 => panic!("{error:?}"),
            Err(_) => tries += 1,
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

impl Processes {
    /// Begins to serve all processes of this file.
    pub(crate) fn serve(file: &Path) -> Self {
        let cluster = ClusterFile::load(file).unwrap().cluster().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let state = Arc::new(State {
            disk: Mutex::default(),
            fence: watch::Sender::new(Fence::INITIAL),
            attachments: Mutex::default(),
            sectors: cluster.size.sectors(),
        });
        let stages = cluster.processes.ranks().map(|rank| {
            let running = watch::Sender::new(Stage::Running);
            let address = cluster.processes.address(rank).to_string();
            let listener = runtime.block_on(bind(&address));
            let services = services(&cluster, rank, &state);
            runtime.spawn(listener.serve(services, running.subscribe()));
            running
        });
        let stages = stages.collect();
        Self {
            state,
            stages,
            _runtime: runtime,
        }
    }

    /// Ends the process through which the disk is attached.
    pub(crate) fn kill_holder(&self) {
        let rank = self.state.attachments()[0].0;
        self.stages[rank.place()].send_replace(Stage::Stopped);
    }

    /// How many attachments there are.
    pub(crate) fn attachments(&self) -> usize {
        self.state.attachments().len()
    }

    /// The first byte of a sector.
    pub(crate) fn sector(&self, index: u64) -> Option<u8> {
        Some(self.state.disk.lock().unwrap().get(&index)?[0])
    }
}

fn services(cluster: &Cluster, rank: Rank, state: &Arc<State>) -> Services<Process, Process> {
    let process = Arc::new(Process {
        rank,
        state: Arc::clone(state),
    });
    let settings = Settings::default();
    let introduction = Introduction {
        store: StoreId([rank.number(); 16]),
        birth: None,
        empty: true,
        holders: Vec::new(),
    };
    let identity = Identity {
        cluster: cluster.id,
        rank,
        processes: cluster.processes.count(),
        incarnation: Incarnation(1),
        system_key: SystemKey::new(&[7; 64]),
        client_key: ClientKey::new(cluster.client_key.bytes()),
    };
    Services {
        identity: Arc::new(identity),
        host: Arc::clone(&process),
        disk: process,
        peers: Arc::new(PeerSessions::new()),
        connections: Arc::new(Connections::new(&settings)),
        introduction: watch::Sender::new(introduction).subscribe(),
        serving: watch::Sender::new(true).subscribe(),
        settings,
    }
}

struct Process {
    rank: Rank,
    state: Arc<State>,
}

impl State {
    fn attachments(&self) -> MutexGuard<'_, Vec<(Rank, u64, Holder)>> {
        self.attachments.lock().unwrap()
    }

    /// The fence under which this attach is granted at this process.
    fn open(&self, rank: Rank, attach: &Attach) -> Result<Fence, AttachRefusal> {
        let present = *self.fence.borrow();
        let by = present.generation;
        if attach
            .continues
            .is_some_and(|before| before < by && present.owner() != Some(attach.owner))
        {
            return Err(AttachRefusal::Fenced { by });
        }
        let AttachKind::Exclusive { join } = attach.kind else {
            return Ok(present);
        };
        let attachments = self.attachments();
        let mut held = attachments
            .iter()
            .filter(|(_, _, holder)| holder.kind != AttachKind::ReadOnly);
        if let Some((_, _, holder)) = held.next()
            && !attach.take_over
            && attach.continues.is_none()
        {
            let joins = holder.kind == attach.kind && join.is_some();
            return match (joins, holder.process == rank) {
                (true, true) => Ok(present),
                (true, false) => Err(AttachRefusal::Elsewhere {
                    process: holder.process,
                }),
                (false, _) => Err(AttachRefusal::Held(Box::new(holder.clone()))),
            };
        }
        let tag = Tag {
            coordinator: rank,
            incarnation: Incarnation(1),
            sequence: by.0,
        };
        let owner = attach.owner;
        Ok(Fence {
            generation: Generation(by.0 + 1),
            mode: Mode::Exclusive { owner, tag },
        })
    }
}

impl Host for Process {
    type Attached = Session;

    fn requests(&self, _from: &Arc<PeerSession>, _requests: Vec<Request>) {}

    fn introduced(&self, _from: &Arc<PeerSession>, _introduction: Introduction) {}

    async fn status(&self) -> Bytes {
        let rank = self.rank.number();
        format!(r#"{{"rank":{rank},"state":{{"is":"serving"}}}}"#).into()
    }

    async fn attach(&self, attach: Attach, client: String) -> Result<Session, AttachRefusal> {
        let fence = self.state.open(self.rank, &attach)?;
        self.state.fence.send_replace(fence);
        let number = rand::random();
        let holder = Holder {
            process: self.rank,
            owner: attach.owner,
            kind: attach.kind,
            generation: fence.generation,
            client,
            since: 1_760_000_000,
        };
        self.state.attachments().push((self.rank, number, holder));
        Ok(Session {
            fence,
            number,
            fenced: self.state.fence.subscribe(),
            state: Arc::clone(&self.state),
        })
    }

    async fn attachments(&self) -> Bytes {
        let attachments = self.state.attachments();
        let own = attachments.iter().filter(|(rank, ..)| *rank == self.rank);
        let report = AttachmentsReport {
            rank: self.rank,
            attachments: own
                .map(|(_, _, holder)| AttachmentReport {
                    owner: holder.owner,
                    kind: match holder.kind {
                        AttachKind::Exclusive { .. } => ReportedKind::Exclusive,
                        AttachKind::Shared => ReportedKind::Shared,
                        AttachKind::ReadOnly => ReportedKind::ReadOnly,
                    },
                    generation: holder.generation,
                    client: holder.client.clone(),
                    since: holder.since,
                })
                .collect(),
        };
        serde_json::to_vec(&report).unwrap().into()
    }

    async fn release(&self, owner: OwnerId) -> bool {
        let attachments = self.state.attachments();
        let there = attachments
            .iter()
            .any(|(rank, _, holder)| *rank == self.rank && holder.owner == owner);
        drop(attachments);
        if there {
            self.state.fence.send_modify(|fence| {
                *fence = Fence {
                    generation: Generation(fence.generation.0 + 1),
                    mode: Mode::Shared,
                };
            });
        }
        there
    }
}

/// A client's attachment.
struct Session {
    fence: Fence,
    number: u64,
    fenced: watch::Receiver<Fence>,
    state: Arc<State>,
}

impl Drop for Session {
    fn drop(&mut self) {
        let number = self.number;
        self.state
            .attachments()
            .retain(|(_, other, _)| *other != number);
    }
}

impl Attached for Session {
    fn fence(&self) -> Fence {
        self.fence
    }

    fn sectors(&self) -> u64 {
        self.state.sectors
    }

    async fn read(&self, first: u64, count: u32) -> Result<Vec<Extent>, OperationError> {
        let disk = self.state.disk.lock().unwrap();
        let extents = (first..first + u64::from(count)).map(|index| {
            let content = disk.get(&index).cloned();
            let content = content.map_or(Content::Zeroes, Content::Data);
            let address = SectorAddress::new(Volume(0), index).unwrap();
            Extent::new(SectorRange::new(address, 1).unwrap(), Stamp::ZERO, content)
        });
        Ok(extents.collect())
    }

    async fn write(&self, first: u64, data: Bytes) -> Result<(), OperationError> {
        let mut disk = self.state.disk.lock().unwrap();
        let sectors = (0..data.len()).step_by(SECTOR_SIZE);
        for (index, at) in (first..).zip(sectors) {
            disk.insert(index, data.slice(at..at + SECTOR_SIZE));
        }
        Ok(())
    }

    async fn discard(&self, first: u64, count: u32) -> Result<(), OperationError> {
        let mut disk = self.state.disk.lock().unwrap();
        disk.retain(|index, _| !(first..first + u64::from(count)).contains(index));
        Ok(())
    }

    async fn fenced(&self) -> Fence {
        let mut fenced = self.fenced.clone();
        let mine = self.fence.generation;
        let newer = fenced.wait_for(|fence| fence.generation > mine).await;
        *newer.unwrap()
    }
}

impl Disk for Process {
    fn sectors(&self) -> u64 {
        self.state.sectors
    }

    async fn read(&self, _sector: SectorAddress) -> Result<Content, DiskError> {
        Err(DiskError::Closing)
    }

    async fn write(&self, _sector: SectorAddress, _data: Bytes) -> Result<(), DiskError> {
        Err(DiskError::Closing)
    }
}
