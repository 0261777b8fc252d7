//! A client's attachment to the disk.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;

use super::driver::Driver;
use super::failover::Failover;
use super::network::Network;
use super::ticket::{Command, Granted, Outcome, Standing, Ticket};
use super::work::{Work, discards, reads, writes};
use super::{AttachOptions, ClientError};
use crate::domain::{Attach, AttachKind, Fence, Generation, OwnerId, Rank, SECTOR_SIZE_U64};
use crate::wire::SectorValues;

/// The disk, attached; clones share the attachment, and the last one that is dropped gives it
/// back. Any number of operations may be under way at once.
///
/// An operation whose future is dropped may still take effect, and keeps its sectors until it is
/// done: what is asked for later never takes effect before it.
#[derive(Clone, Debug)]
pub struct Attachment {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    commands: mpsc::Sender<Command>,
    standing: watch::Receiver<Standing>,
    /// Room for what is pending, in units of [`ROOM_UNIT`] bytes.
    room: Arc<Semaphore>,
    owner: OwnerId,
    read_only: bool,
    deadline: Option<Duration>,
}

/// What requests that are pending may write and read together, those without an answer included.
const PENDING_BYTES_MAX: u64 = 64 << 20;

/// What each request counts for at least: there are no more than so many that are small.
const REQUEST_BYTES_MIN: u64 = 64 << 10;

const ROOM_UNIT: u64 = 4096;

/// Commands on their way to the driver: fewer than requests that have room.
const COMMANDS_MAX: usize = 256;

impl Attachment {
    /// Begins to attach.
    pub(super) fn start<N: Network>(network: N, options: &AttachOptions) -> Self {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let (standing, watched) = watch::channel(Standing::default());
        let owner = options.owner();
        let failover = Failover::new(Attach {
            owner,
            kind: options.kind,
            take_over: options.take_over,
            continues: options.continues.map(|fence| fence.generation),
        });
        // It is awaited by whoever detaches, and ends by itself when all handles are dropped.
        tokio::spawn(Driver::new(network, failover, receiver, standing).run());
        let room = usize::try_from(PENDING_BYTES_MAX / ROOM_UNIT).expect("a small number");
        Self {
            shared: Arc::new(Shared {
                commands,
                standing: watched,
                room: Arc::new(Semaphore::new(room)),
                owner,
                read_only: options.kind == AttachKind::ReadOnly,
                deadline: options.deadline,
            }),
        }
    }

    /// Returns once the attachment is granted, or refused.
    pub(super) async fn granted(&self) -> Result<(), ClientError> {
        let standing = self
            .standing_until(|standing| standing.granted.is_some())
            .await;
        standing.over.map_or(Ok(()), Err)
    }

    /// How many sectors the disk has.
    pub fn sectors(&self) -> u64 {
        self.last_granted().sectors
    }

    /// The generation that operations run under now; failing over raises it.
    pub fn fence(&self) -> Fence {
        self.last_granted().fence
    }

    /// The process through which it is attached, or was last.
    pub fn process(&self) -> Rank {
        self.last_granted().process
    }

    /// Whose attachment it is, as `atdd attachments` lists it.
    pub fn owner(&self) -> OwnerId {
        self.shared.owner
    }

    /// The values of `count` sectors from `first` on, in order.
    pub async fn read(&self, first: u64, count: u64) -> Result<Vec<SectorValues>, ClientError> {
        self.check_range(first, count)?;
        self.ask(reads(first, count)).await
    }

    /// Writes whole sectors from `first` on; once it returns they are stable on a majority. Each
    /// sector is atomic by itself.
    ///
    /// # Panics
    /// When the data are not whole sectors.
    pub async fn write(&self, first: u64, data: Bytes) -> Result<(), ClientError> {
        let bytes = u64::try_from(data.len()).expect("memory is below 2^64");
        assert_eq!(bytes % SECTOR_SIZE_U64, 0, "whole sectors are written");
        self.check_change(first, bytes / SECTOR_SIZE_U64)?;
        self.ask(writes(first, data)).await.map(drop)
    }

    /// Makes the sectors read as zeroes and frees their space.
    pub async fn discard(&self, first: u64, count: u64) -> Result<(), ClientError> {
        self.check_change(first, count)?;
        self.ask(discards(first, count)).await.map(drop)
    }

    /// Returns once everything that was completed before is on stable storage.
    pub async fn flush(&self) -> Result<(), ClientError> {
        self.ask(std::iter::once(Work::Flush)).await.map(drop)
    }

    /// Returns once the attachment has ended by a newer generation.
    pub async fn fenced(&self) -> Generation {
        match self.over().await {
            ClientError::Fenced { by, .. } => by,
            // It has ended otherwise, and will not be fenced any more.
            _ => std::future::pending().await,
        }
    }

    /// Returns once the attachment has ended, for whatever reason; every operation fails then.
    pub async fn over(&self) -> ClientError {
        let standing = self.standing_until(|_| false).await;
        standing.over.unwrap_or(ClientError::Detached)
    }

    /// Whether the attachment has ended.
    pub fn is_over(&self) -> bool {
        self.ending().is_some()
    }

    /// Why the attachment has ended, if it has.
    pub fn ending(&self) -> Option<ClientError> {
        self.shared.standing.borrow().over.clone()
    }

    /// Gives the attachment back, for all its clones; returns once nobody counts it as held, or
    /// after a few seconds if no process answers. What was asked for before is done first.
    pub async fn detach(self) {
        let (heard, ended) = oneshot::channel();
        let detach = Command::Detach(heard);
        // Either fails only when the attachment is over already.
        if self.shared.commands.send(detach).await.is_ok() && ended.await.is_err() {
            tracing::trace!("it was over before");
        }
    }

    /// Has these done side by side, and gathers what they read.
    async fn ask(&self, works: impl Iterator<Item = Work>) -> Outcome {
        let asking = async {
            let mut outcomes = Vec::with_capacity(works.size_hint().0);
            for work in works {
                outcomes.push(self.submit(work).await?);
            }
            let mut values = Vec::new();
            let mut failure = None;
            for outcome in outcomes {
                match outcome.await {
                    Ok(Ok(part)) if values.is_empty() => values = part,
                    Ok(Ok(part)) => values.extend(part),
                    Ok(Err(error)) => failure = failure.or(Some(error)),
                    Err(_) => failure = failure.or(Some(self.over().await)),
                }
            }
            failure.map_or(Ok(values), Err)
        };
        self.in_time(asking).await
    }

    /// Waits until there is room for the request, and has it taken in.
    async fn submit(&self, work: Work) -> Result<oneshot::Receiver<Outcome>, ClientError> {
        let units = work.bytes().max(REQUEST_BYTES_MIN) / ROOM_UNIT;
        let units = u32::try_from(units).expect("a request is of at most a mebibyte");
        let room = Arc::clone(&self.shared.room).acquire_many_owned(units);
        let room = room.await.expect("the semaphore is never closed");
        let (ticket, outcome) = Ticket::new(room);
        let asked = self.shared.commands.send(Command::Ask(work, ticket)).await;
        match asked {
            Ok(()) => Ok(outcome),
            Err(_) => Err(self.over().await),
        }
    }

    async fn in_time<T>(
        &self,
        asking: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        match self.shared.deadline {
            None => asking.await,
            Some(limit) => timeout(limit, asking)
                .await
                .unwrap_or(Err(ClientError::TimedOut(limit))),
        }
    }

    fn check_change(&self, first: u64, count: u64) -> Result<(), ClientError> {
        if self.shared.read_only {
            return Err(ClientError::ReadOnly);
        }
        self.check_range(first, count)
    }

    fn check_range(&self, first: u64, count: u64) -> Result<(), ClientError> {
        let sectors = self.sectors();
        if first.checked_add(count).is_some_and(|end| end <= sectors) {
            return Ok(());
        }
        Err(ClientError::PastEnd {
            first,
            last: first.saturating_add(count.saturating_sub(1)),
            sectors,
        })
    }

    fn last_granted(&self) -> Granted {
        let granted = self.shared.standing.borrow().granted;
        granted.expect("nobody has the attachment before it is granted")
    }

    /// How it stands once this is so, or once it is over.
    async fn standing_until(&self, wanted: impl Fn(&Standing) -> bool) -> Standing {
        let mut standing = self.shared.standing.clone();
        let seen = standing.wait_for(|standing| standing.over.is_some() || wanted(standing));
        match seen.await {
            Ok(standing) => standing.clone(),
            // The driver's task is gone without a word: its runtime ends.
            Err(_) => Standing {
                over: Some(ClientError::Detached),
                ..Standing::default()
            },
        }
    }
}
