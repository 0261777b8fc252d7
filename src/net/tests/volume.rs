//! A volume that tests attach to, and whose every step they can stop and watch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::support::*;
use crate::domain::{
    Attach, AttachKind, AttachRefusal, Content, Extent, Fence, Generation, Holder, Incarnation,
    Mode, OperationError, OwnerId, Rank, SECTOR_SIZE, Stamp, Tag,
};
use crate::net::Attached;

/// What attachments are fenced by.
pub(in crate::net) const NEWER: Fence = Fence {
    generation: Generation(8),
    mode: Mode::Shared,
};

/// A volume in memory.
#[derive(Default)]
pub(in crate::net) struct TestVolume {
    /// What attaches are told; while there is nothing, they wait.
    pub(in crate::net) decision: Watched<Option<Result<(), AttachRefusal>>>,
    /// Who asked to attach.
    pub(in crate::net) asked: Watched<Vec<(Attach, String)>>,
    /// How many attaches wait.
    pub(in crate::net) waiting: Watched<usize>,
    /// How many attachments there are.
    pub(in crate::net) attached: Watched<usize>,
    /// Operations that begin at these sectors wait.
    pub(in crate::net) held: Watched<BTreeSet<u64>>,
    /// How many operations are under way.
    pub(in crate::net) under_way: Watched<usize>,
    /// What was asked of the volume, in its order.
    pub(in crate::net) operations: Watched<Vec<Operation>>,
    /// The attachment is ended by this generation.
    pub(in crate::net) fenced: Watched<Option<Fence>>,
    /// Every operation fails so.
    pub(in crate::net) fault: Mutex<Option<OperationError>>,
    sectors: Mutex<BTreeMap<u64, Bytes>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::net) enum Operation {
    Read(u64, u32),
    Write(u64, usize),
    Discard(u64, u32),
}

impl TestVolume {
    pub(in crate::net) const SECTORS: u64 = 100_000;

    pub(in crate::net) async fn attach(
        self: &Arc<Self>,
        attach: Attach,
        client: String,
    ) -> Result<TestAttached, AttachRefusal> {
        self.asked.change(|asked| asked.push((attach, client)));
        let waiting = Counted::new(self, |volume| &volume.waiting);
        self.decision.wait_for_ever(|told| told.clone()).await?;
        drop(waiting);
        Ok(TestAttached(Counted::new(self, |volume| &volume.attached)))
    }

    /// Makes operations at these sectors wait.
    pub(in crate::net) fn hold(&self, sectors: impl IntoIterator<Item = u64>) {
        self.held.change(|held| held.extend(sectors));
    }

    pub(in crate::net) fn let_go(&self, sector: u64) {
        self.held.change(|held| held.remove(&sector));
    }

    /// Waits until so many operations are under way.
    pub(in crate::net) async fn busy(&self, operations: usize) {
        self.under_way.becomes(operations).await;
    }
}

/// Counted for as long as it lives.
struct Counted {
    volume: Arc<TestVolume>,
    counter: fn(&TestVolume) -> &Watched<usize>,
}

impl Counted {
    fn new(volume: &Arc<TestVolume>, counter: fn(&TestVolume) -> &Watched<usize>) -> Self {
        counter(volume).change(|count| *count += 1);
        Self {
            volume: Arc::clone(volume),
            counter,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        (self.counter)(&self.volume).change(|count| *count -= 1);
    }
}

pub(in crate::net) struct TestAttached(Counted);

impl TestAttached {
    async fn pass(&self, first: u64, operation: Operation) -> Result<Counted, OperationError> {
        let volume = &self.0.volume;
        let under_way = Counted::new(volume, |volume| &volume.under_way);
        volume.operations.change(|all| all.push(operation));
        let free = |held: &mut BTreeSet<u64>| (!held.contains(&first)).then_some(());
        volume.held.wait_for_ever(free).await;
        let fault = volume.fault.lock().unwrap().clone();
        fault.map_or(Ok(under_way), Err)
    }
}

/// What clients attach with.
pub(in crate::net) fn attach() -> Attach {
    Attach {
        owner: OwnerId([3; 16]),
        kind: AttachKind::Exclusive { join: None },
        take_over: false,
        continues: None,
    }
}

/// The refusal of a volume that this process holds for a client of its own.
pub(in crate::net) fn held(process: Rank, generation: u64, client: &str) -> AttachRefusal {
    AttachRefusal::Held(Box::new(Holder {
        process,
        owner: OwnerId([4; 16]),
        kind: AttachKind::Exclusive { join: None },
        generation: Generation(generation),
        client: client.into(),
        since: 0,
    }))
}

/// The fence of every attachment.
pub(in crate::net) fn fence() -> Fence {
    let mode = Mode::Exclusive {
        owner: OwnerId([3; 16]),
        tag: Tag {
            coordinator: rank(2),
            incarnation: Incarnation(10),
            sequence: 1,
        },
    };
    Fence {
        generation: Generation(7),
        mode,
    }
}

impl Attached for TestAttached {
    fn fence(&self) -> Fence {
        fence()
    }

    fn sectors(&self) -> u64 {
        TestVolume::SECTORS
    }

    async fn read(&self, first: u64, count: u32) -> Result<Vec<Extent>, OperationError> {
        let _under_way = self.pass(first, Operation::Read(first, count)).await?;
        let sectors = self.0.volume.sectors.lock().unwrap();
        let extent = |index| {
            let content = sectors
                .get(&index)
                .map_or(Content::Zeroes, |data| Content::Data(data.clone()));
            Extent::new(range(index, 1), Stamp::ZERO, content)
        };
        Ok((first..first + u64::from(count)).map(extent).collect())
    }

    async fn write(&self, first: u64, data: Bytes) -> Result<(), OperationError> {
        let _under_way = self
            .pass(first, Operation::Write(first, data.len()))
            .await?;
        let parts = data.chunks(SECTOR_SIZE).map(Bytes::copy_from_slice);
        let mut sectors = self.0.volume.sectors.lock().unwrap();
        sectors.extend((first..).zip(parts));
        Ok(())
    }

    async fn discard(&self, first: u64, count: u32) -> Result<(), OperationError> {
        let _under_way = self.pass(first, Operation::Discard(first, count)).await?;
        let mut sectors = self.0.volume.sectors.lock().unwrap();
        sectors.retain(|&index, _| !(first..first + u64::from(count)).contains(&index));
        Ok(())
    }

    async fn fenced(&self) -> Fence {
        self.0.volume.fenced.wait_for_ever(|by| *by).await
    }
}
