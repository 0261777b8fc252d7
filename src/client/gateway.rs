//! The disk as an NBD export, attached for as long as somebody uses it.
//!
//! Once another host has taken the disk over, nobody is let in any more: a kernel that reconnects
//! has a filesystem and writes of before, and would put them on top of what the other one wrote.
//! Whoever starts the gateway again says that there is none. (The gateways of a joined device let
//! their clients in, since it may have been one of themselves that went on through another process.)

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use nbd_frontend::{DeviceError, Piece, SectorDevice, SectorExport, Unavailable};
use tokio::sync::{Semaphore, watch};

use super::{AttachOptions, Attachment, Client, ClientError};
use crate::config::Cluster;
use crate::domain::{AttachKind, Generation};
use crate::wire::SectorValues;

/// The disk as an NBD export: attached when its first client opens it, shared by all its clients,
/// and given back when the last has left. Must be used within a runtime.
pub struct Gateway {
    attach: Attach,
    sectors: u64,
    kind: AttachKind,
    /// Whether to take the disk over: the first time only, not from whoever comes later.
    take_over: AtomicBool,
    /// One client at a time attaches; the others find the disk attached then.
    turn: Semaphore,
    lent: Arc<Mutex<Lent>>,
}

type Attach =
    Box<dyn Fn(bool) -> BoxFuture<'static, Result<Attachment, ClientError>> + Send + Sync>;

/// What the clients have together.
#[derive(Debug)]
enum Lent {
    /// Nothing.
    Nothing,
    /// An attachment, of this number, that so many of them use.
    Attached {
        attachment: Attachment,
        number: u64,
        users: usize,
    },
    /// Nothing any more; it becomes true when nobody counts the disk as held.
    Returning(watch::Receiver<bool>),
    /// Nothing ever again, since this generation was opened.
    TakenOver(Generation),
}

/// The disk as one NBD client uses it.
#[derive(Debug)]
pub struct GatewayDevice {
    attachment: Attachment,
    number: u64,
    kind: AttachKind,
    lent: Arc<Mutex<Lent>>,
    /// Whether there was a change of which nobody knows the outcome.
    unknown: watch::Sender<bool>,
}

impl Gateway {
    /// The export of this cluster's disk, attached in this way.
    pub fn new(cluster: Cluster, options: AttachOptions) -> Self {
        let sectors = cluster.size.sectors();
        let (kind, take_over) = (options.kind, options.take_over);
        let client = Client::new(cluster);
        let attach = move |take_over| {
            let client = client.clone();
            let options = AttachOptions {
                take_over,
                ..options
            };
            async move { client.attach(options).await }.boxed()
        };
        Self::with(Box::new(attach), sectors, kind, take_over)
    }

    pub(super) fn with(attach: Attach, sectors: u64, kind: AttachKind, take_over: bool) -> Self {
        Self {
            attach,
            sectors,
            kind,
            take_over: AtomicBool::new(take_over),
            turn: Semaphore::new(1),
            lent: Arc::new(Mutex::new(Lent::Nothing)),
        }
    }

    /// Returns once nothing is attached that its clients have left.
    pub async fn returned(&self) {
        let returning = match &*lock(&self.lent) {
            Lent::Returning(done) => done.clone(),
            Lent::Nothing | Lent::Attached { .. } | Lent::TakenOver(_) => return,
        };
        wait(returning).await;
    }

    /// The attachment that is there, if it is of any use.
    fn join(&self) -> Result<Option<GatewayDevice>, Unavailable> {
        let mut lent = lock(&self.lent);
        if let Lent::Attached { attachment, .. } = &*lent
            && let Some(by) = taken_over(attachment, self.kind)
        {
            *lent = Lent::TakenOver(by);
        }
        match &mut *lent {
            Lent::Attached {
                attachment,
                number,
                users,
            } if !attachment.is_over() => {
                *users += 1;
                let (attachment, number) = (attachment.clone(), *number);
                Ok(Some(self.device(attachment, number)))
            }
            Lent::TakenOver(by) => Err(Unavailable(format!(
                "the disk was taken over from this gateway, or released (generation {}), and its \
                 clients may have writes that are older; once none of them has it mounted, start \
                 the gateway again",
                by.0
            ))),
            _ => Ok(None),
        }
    }

    fn lend(&self, attachment: Attachment) -> GatewayDevice {
        let number = rand::random();
        *lock(&self.lent) = Lent::Attached {
            attachment: attachment.clone(),
            number,
            users: 1,
        };
        self.device(attachment, number)
    }

    fn device(&self, attachment: Attachment, number: u64) -> GatewayDevice {
        GatewayDevice {
            attachment,
            number,
            kind: self.kind,
            lent: Arc::clone(&self.lent),
            unknown: watch::Sender::new(false),
        }
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl SectorExport for Gateway {
    type Device = GatewayDevice;

    fn sectors(&self) -> u64 {
        self.sectors
    }

    async fn open(&self) -> Result<GatewayDevice, Unavailable> {
        let turn = self.turn.acquire().await;
        let _turn = turn.expect("the semaphore is never closed");
        if let Some(device) = self.join()? {
            return Ok(device);
        }
        // What the last client left may still count as held.
        self.returned().await;
        match (self.attach)(self.take_over.load(Ordering::Relaxed)).await {
            Ok(attachment) => {
                self.take_over.store(false, Ordering::Relaxed);
                let generation = attachment.fence().generation.0;
                tracing::info!(generation, "attached the disk");
                Ok(self.lend(attachment))
            }
            Err(error) => Err(Unavailable(error.to_string())),
        }
    }
}

impl GatewayDevice {
    /// What the client hears of it. Requests that were under way when another took the disk over
    /// are not answered at all: their client finds its connection closed and sends them over
    /// another one, where an error would reach its filesystem.
    async fn answered<T>(&self, outcome: Result<T, ClientError>) -> Result<T, DeviceError> {
        let error = match outcome {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        match (error, self.kind) {
            (ClientError::Fenced { .. }, _) => std::future::pending().await,
            (ClientError::UnknownOutcome, AttachKind::Exclusive { .. }) => {
                self.unknown.send_replace(true);
                std::future::pending().await
            }
            (ClientError::Detached, _) => Err(DeviceError::ShuttingDown),
            (error, _) => Err(DeviceError::Io(Box::new(error))),
        }
    }
}

impl SectorDevice for GatewayDevice {
    fn sectors(&self) -> u64 {
        self.attachment.sectors()
    }

    async fn read(&self, first: u64, count: u64) -> Result<Vec<Piece>, DeviceError> {
        let values = self.attachment.read(first, count).await;
        self.answered(values.map(pieces)).await
    }

    async fn write(&self, first: u64, data: Bytes) -> Result<(), DeviceError> {
        let written = self.attachment.write(first, data).await;
        self.answered(written).await
    }

    async fn discard(&self, first: u64, count: u64) -> Result<(), DeviceError> {
        let discarded = self.attachment.discard(first, count).await;
        self.answered(discarded).await
    }

    async fn flush(&self) -> Result<(), DeviceError> {
        let flushed = self.attachment.flush().await;
        self.answered(flushed).await
    }

    async fn lost(&self) {
        let mut unknown = self.unknown.subscribe();
        tokio::select! {
            _ = self.attachment.over() => {}
            changed = unknown.wait_for(|unknown| *unknown) => {
                changed.expect("this device is the sender");
            }
        }
    }
}

impl Drop for GatewayDevice {
    /// The last one to leave gives the disk back.
    fn drop(&mut self) {
        let mut lent = lock(&self.lent);
        match &mut *lent {
            Lent::Attached { number, users, .. } if *number == self.number => {
                *users -= 1;
                if *users > 0 {
                    return;
                }
            }
            // Since this attachment was over, another has taken its place.
            _ => return,
        }
        if let Some(by) = taken_over(&self.attachment, self.kind) {
            *lent = Lent::TakenOver(by);
            return;
        }
        let (sender, done) = watch::channel(false);
        *lent = Lent::Returning(done);
        let attachment = self.attachment.clone();
        tokio::spawn(async move {
            let was_over = attachment.is_over();
            attachment.detach().await;
            if !was_over {
                tracing::info!("gave the disk back");
            }
            sender.send_replace(true);
        });
    }
}

/// The generation that ended the attachment for good, if one has.
fn taken_over(attachment: &Attachment, kind: AttachKind) -> Option<Generation> {
    match (attachment.ending(), kind) {
        (_, AttachKind::Exclusive { join: Some(_) }) => None,
        (Some(ClientError::Fenced { by }), _) => Some(by),
        _ => None,
    }
}

fn pieces(values: Vec<SectorValues>) -> Vec<Piece> {
    let pieces = values.into_iter().map(|part| match part {
        SectorValues::Zeroes(sectors) => Piece::Zeroes(u64::from(sectors)),
        SectorValues::Data(data) => Piece::Data(data),
    });
    pieces.collect()
}

async fn wait(mut done: watch::Receiver<bool>) {
    if done.wait_for(|done| *done).await.is_err() {
        tracing::trace!("the task that gave it back is gone");
    }
}

fn lock(lent: &Mutex<Lent>) -> MutexGuard<'_, Lent> {
    lent.lock().expect("nobody panics while holding it")
}
