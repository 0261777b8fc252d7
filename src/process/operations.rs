//! Operations of clients: any range, cut into commands of the registers.
//!
//! Admission is here and nowhere else: semaphores counted in sectors bound what all clients of
//! this process have under way, and with it every queue behind. Reads have one of their own, or
//! they would wait behind writes that no majority has the space for. An operation keeps its permits
//! until the register is done with it, even when its client has gone or its deadline has passed.
//!
//! Admission is in the order of asking, and an operation of no more than two pieces is admitted as
//! a whole. So what one client of the network asks of a sector, one change after another, reaches
//! the sector's worker in that order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::disk::DiskError;
use super::inbox::Inbox;
use super::items::Item;
use crate::domain::{Extent, Fence, SECTOR_SIZE, SectorAddress, SectorRange, Volume};
use crate::register::{
    Command, DISCARD_SECTORS_MAX, OPERATION_SECTORS_MAX, Outcome, RegisterError,
};

/// What all clients of a process may have under way, in sectors: 64 MiB.
pub(crate) const ADMISSION_SECTORS: u16 = 16 * 1024;

/// The part of it that is for reads.
const READ_SECTORS: u16 = ADMISSION_SECTORS / 2;

/// What a discard costs of it: its size on disk and in messages does not grow with its length.
const DISCARD_COST: u32 = 8;

/// Pieces of one request that are under way together.
const PIECES_IN_FLIGHT_MAX: usize = 64;

/// Sectors that one worker serves in a row; operations never span two such stripes.
const STRIPE_SECTORS: u64 = DISCARD_SECTORS_MAX as u64;

/// The sectors of the workers; clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Operations {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    sectors: u64,
    workers: Vec<Arc<Inbox<Item>>>,
    reads: Arc<Semaphore>,
    changes: Arc<Semaphore>,
    io_timeout: Option<Duration>,
}

type Pending = oneshot::Receiver<Result<Outcome, RegisterError>>;

impl Operations {
    /// The disk of `sectors` that these workers serve.
    pub(crate) fn new(
        sectors: u64,
        workers: Vec<Arc<Inbox<Item>>>,
        io_timeout: Option<Duration>,
    ) -> Self {
        let semaphore = |sectors: u16| Arc::new(Semaphore::new(usize::from(sectors)));
        Self {
            shared: Arc::new(Shared {
                sectors,
                workers,
                reads: semaphore(READ_SECTORS),
                changes: semaphore(ADMISSION_SECTORS - READ_SECTORS),
                io_timeout,
            }),
        }
    }

    /// How many sectors the disk has.
    pub(crate) fn sectors(&self) -> u64 {
        self.shared.sectors
    }

    /// The values of `count` sectors from `first` on, ascending and without a gap.
    pub(crate) async fn read(
        &self,
        authority: Fence,
        first: u64,
        count: u64,
    ) -> Result<Vec<Extent>, DiskError> {
        let ranges = self.ranges(first, count, OPERATION_SECTORS_MAX)?;
        let mut extents = Vec::new();
        let commands = ranges.map(|range| Command::Read { range });
        let reading = self.run(authority, commands, |outcome| {
            if let Outcome::Read(values) = outcome {
                extents.extend(values);
            }
        });
        self.limited(reading).await?;
        Ok(extents)
    }

    /// Writes whole sectors from `first` on; once it returns they are stable on a majority.
    ///
    /// # Panics
    /// When the data is not whole sectors.
    pub(crate) async fn write(
        &self,
        authority: Fence,
        first: u64,
        mut data: Bytes,
    ) -> Result<(), DiskError> {
        assert!(
            data.len().is_multiple_of(SECTOR_SIZE),
            "whole sectors are written"
        );
        let count =
            u64::try_from(data.len() / SECTOR_SIZE).expect("memory is addressed in 64 bits");
        let ranges = self.ranges(first, count, OPERATION_SECTORS_MAX)?;
        let commands = ranges.map(|range| {
            let bytes = usize::try_from(range.bytes()).expect("an operation fits in memory");
            Command::Write {
                range,
                data: data.split_to(bytes),
            }
        });
        self.limited(self.run(authority, commands, drop)).await
    }

    /// Makes the sectors read as zeroes and frees their space, on a majority once it returns.
    pub(crate) async fn discard(
        &self,
        authority: Fence,
        first: u64,
        count: u64,
    ) -> Result<(), DiskError> {
        let ranges = self.ranges(first, count, DISCARD_SECTORS_MAX)?;
        let commands = ranges.map(|range| Command::Discard { range });
        self.limited(self.run(authority, commands, drop)).await
    }

    /// Settles what a majority agrees on, for as long as that takes.
    pub(crate) async fn settle(
        &self,
        authority: Fence,
        first: u64,
        count: u64,
    ) -> Result<(), DiskError> {
        let ranges = self.ranges(first, count, DISCARD_SECTORS_MAX)?;
        let commands = ranges.map(|range| Command::Settle { range });
        self.run(authority, commands, drop).await
    }

    /// Gives the work no longer than the operator's deadline, if there is one.
    pub(crate) async fn limited<T>(
        &self,
        work: impl Future<Output = Result<T, DiskError>>,
    ) -> Result<T, DiskError> {
        match self.shared.io_timeout {
            None => work.await,
            Some(limit) => tokio::time::timeout(limit, work)
                .await
                .unwrap_or(Err(DiskError::TimedOut(limit))),
        }
    }

    /// Admits nothing more: requests that wait for admission and those that come fail with
    /// [`DiskError::ShuttingDown`]. What was admitted goes on.
    pub(crate) fn close(&self) {
        self.shared.reads.close();
        self.shared.changes.close();
    }

    /// Sectors' worth of operations that are admitted and not done.
    #[cfg(test)]
    fn admitted(&self) -> usize {
        let Shared { reads, changes, .. } = &*self.shared;
        usize::from(ADMISSION_SECTORS) - reads.available_permits() - changes.available_permits()
    }

    fn ranges(
        &self,
        first: u64,
        count: u64,
        piece_max: u32,
    ) -> Result<impl Iterator<Item = SectorRange> + use<>, DiskError> {
        let sectors = self.shared.sectors;
        let end = first.saturating_add(count);
        if end > sectors {
            return Err(DiskError::PastEnd {
                first,
                last: end - 1,
                sectors,
            });
        }
        Ok(pieces(first, end, piece_max))
    }

    async fn run(
        &self,
        authority: Fence,
        mut commands: impl Iterator<Item = Command>,
        mut each: impl FnMut(Outcome),
    ) -> Result<(), DiskError> {
        let mut in_flight = VecDeque::new();
        while let Some(command) = commands.next() {
            while in_flight.len() + 2 > PIECES_IN_FLIGHT_MAX {
                let oldest = in_flight.pop_front().expect("the window is full");
                each(outcome(oldest).await?);
            }
            let next = commands.next();
            let (pending, next) = self.begin(authority, command, next).await?;
            in_flight.push_back(pending);
            in_flight.extend(next);
        }
        for pending in in_flight {
            each(outcome(pending).await?);
        }
        Ok(())
    }

    /// Begins a piece together with the next one, so that nothing is admitted between them.
    async fn begin(
        &self,
        authority: Fence,
        command: Command,
        next: Option<Command>,
    ) -> Result<(Pending, Option<Pending>), DiskError> {
        let cost_of_next = next.as_ref().map_or(0, cost);
        let mut permit = self.admit(&command, cost(&command) + cost_of_next).await?;
        let next = next.map(|next| {
            let part = usize::try_from(cost_of_next).expect("less than a semaphore holds");
            let permit = permit.split(part).expect("both were admitted");
            (next, permit)
        });
        let pending = self.put(authority, command, permit);
        Ok((
            pending,
            next.map(|(next, permit)| self.put(authority, next, permit)),
        ))
    }

    fn put(&self, authority: Fence, command: Command, permit: OwnedSemaphorePermit) -> Pending {
        let (done, pending) = oneshot::channel();
        let worker = shard(command.range().first(), self.shared.workers.len());
        self.shared.workers[worker].put(Item::Command {
            authority,
            command,
            done,
            permit,
        });
        pending
    }

    async fn admit(&self, command: &Command, cost: u32) -> Result<OwnedSemaphorePermit, DiskError> {
        let admission = match command {
            Command::Read { .. } => &self.shared.reads,
            Command::Write { .. } | Command::Discard { .. } | Command::Settle { .. } => {
                &self.shared.changes
            }
        };
        Arc::clone(admission)
            .acquire_many_owned(cost)
            .await
            .map_err(|_| DiskError::ShuttingDown)
    }
}

async fn outcome(pending: Pending) -> Result<Outcome, DiskError> {
    pending
        .await
        .map_err(|_| DiskError::ShuttingDown)?
        .map_err(DiskError::Register)
}

fn cost(command: &Command) -> u32 {
    match command {
        Command::Read { range } | Command::Write { range, .. } => range.count(),
        Command::Discard { .. } | Command::Settle { .. } => DISCARD_COST,
    }
}

/// Which of `workers` serves a sector.
pub(crate) fn shard(address: SectorAddress, workers: usize) -> usize {
    let workers = u64::try_from(workers).expect("workers are few");
    let stripe = address.to_bits() / STRIPE_SECTORS;
    usize::try_from(stripe % workers).expect("less than the number of workers")
}

/// The sectors from `first` to before `end`, in pieces that never cross a stripe.
fn pieces(first: u64, end: u64, piece_max: u32) -> impl Iterator<Item = SectorRange> {
    let mut next = first;
    std::iter::from_fn(move || {
        if next >= end {
            return None;
        }
        let stripe_end = (next / STRIPE_SECTORS + 1) * STRIPE_SECTORS;
        let count = u64::from(piece_max).min(stripe_end - next).min(end - next);
        let address = SectorAddress::new(Volume(0), next).expect("a disk ends below the limit");
        let count = u32::try_from(count).expect("no more than a piece");
        next += u64::from(count);
        Some(SectorRange::new(address, count).expect("a piece lies within the disk"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_cover_a_range_once_and_stay_in_their_stripe() {
        let (first, end) = (STRIPE_SECTORS - 300, 2 * STRIPE_SECTORS + 5);
        let mut next = first;
        for piece in pieces(first, end, OPERATION_SECTORS_MAX) {
            assert_eq!(piece.first().index(), next);
            assert!(piece.count() <= OPERATION_SECTORS_MAX);
            assert_eq!(shard(piece.first(), 7), shard(piece.last(), 7));
            next += u64::from(piece.count());
        }
        assert_eq!(next, end);
        assert_eq!(pieces(5, 5, 1).count(), 0);
        assert_eq!(pieces(0, 1 << 28, DISCARD_SECTORS_MAX).count(), 4096);
    }

    #[tokio::test]
    async fn a_range_past_the_end_is_refused() {
        let disk = Operations::new(10, vec![Arc::new(Inbox::new())], None);
        assert!(matches!(
            disk.read(Fence::INITIAL, 9, 2).await,
            Err(DiskError::PastEnd { last: 10, .. })
        ));
        assert!(matches!(
            disk.read(Fence::INITIAL, u64::MAX, 2).await,
            Err(DiskError::PastEnd { .. })
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_answers_the_client_and_leaves_the_operation_its_place() {
        let inbox = Arc::new(Inbox::new());
        let disk = Operations::new(10, vec![Arc::clone(&inbox)], Some(Duration::from_secs(1)));
        assert!(matches!(
            disk.read(Fence::INITIAL, 0, 3).await,
            Err(DiskError::TimedOut(_))
        ));
        assert_eq!(disk.admitted(), 3);
        let mut items = Vec::new();
        inbox.take(&mut items).await;
        drop(items);
        assert_eq!(disk.admitted(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn reads_are_admitted_however_many_writes_are_stuck() {
        let inbox = Arc::new(Inbox::new());
        let disk = Operations::new(1 << 20, vec![Arc::clone(&inbox)], None);
        let mebibyte = Bytes::from(vec![1; 1 << 20]);
        let mut writers = tokio::task::JoinSet::new();
        for number in 0..u64::from(ADMISSION_SECTORS) / 256 {
            let (disk, data) = (disk.clone(), mebibyte.clone());
            writers.spawn(async move { disk.write(Fence::INITIAL, number * 256, data).await });
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut stuck = Vec::new();
        inbox.take(&mut stuck).await;
        let mut items = Vec::new();
        tokio::select! {
            _ = disk.read(Fence::INITIAL, 0, 1) => panic!("nobody answers"),
            _ = inbox.take(&mut items) => {}
            () = tokio::time::sleep(Duration::from_secs(20)) => panic!("it was not admitted"),
        }
        let read = |item: &Item| {
            matches!(
                item,
                Item::Command {
                    command: Command::Read { .. },
                    ..
                }
            )
        };
        assert!(items.iter().any(read));
        assert!(!stuck.iter().any(read));
    }

    #[tokio::test]
    async fn requests_fail_at_once_when_the_process_stops() {
        let inbox = Arc::new(Inbox::new());
        let disk = Operations::new(1 << 20, vec![Arc::clone(&inbox)], None);
        let mut items = Vec::new();
        let waiting = async {
            inbox.take(&mut items).await;
            items.clear();
        };
        let (read, ()) = tokio::join!(disk.read(Fence::INITIAL, 0, 1), waiting);
        assert!(
            matches!(read, Err(DiskError::ShuttingDown)),
            "it was handed back"
        );
        disk.close();
        assert!(matches!(
            disk.read(Fence::INITIAL, 0, 1).await,
            Err(DiskError::ShuttingDown)
        ));
    }

    /// A write across two stripes was once admitted piece by piece: the one after it came between
    /// them where both waited for room.
    #[tokio::test]
    async fn changes_of_one_sector_are_admitted_in_the_order_of_asking() {
        let inbox = Arc::new(Inbox::new());
        let disk = Operations::new(1 << 20, vec![Arc::clone(&inbox)], None);
        let room = disk.shared.changes.available_permits();
        let all = u32::try_from(room).unwrap();
        let taken = Arc::clone(&disk.shared.changes).try_acquire_many_owned(all);
        let mut taken = taken.unwrap();
        let sectors = |count: usize, byte| Bytes::from(vec![byte; count * SECTOR_SIZE]);
        let across = disk.write(Fence::INITIAL, STRIPE_SECTORS - 4, sectors(8, 1));
        let later = disk.write(Fence::INITIAL, STRIPE_SECTORS, sectors(1, 2));
        let order = async {
            // Room comes little by little.
            for _ in 0..9 {
                tokio::task::yield_now().await;
                drop(taken.split(1));
            }
            tokio::task::yield_now().await;
            let mut items = Vec::new();
            inbox.take(&mut items).await;
            let byte = |item: &Item| match item {
                Item::Command {
                    command: Command::Write { data, .. },
                    ..
                } => data[0],
                other => panic!("{other:?}"),
            };
            let order: Vec<u8> = items.iter().map(byte).collect();
            order
        };
        let (_, _, order) = tokio::join!(across, later, order);
        assert_eq!(order, [1, 1, 2]);
    }
}
