//! The disk as an NBD export, attached for as long as somebody uses it.
//!
//! Once another host has taken the disk over, or an operator has released it, nobody is let in any
//! more: a kernel that reconnects has a filesystem and writes of before, and would put them on top of
//! what the other one wrote. To start the gateway again is to say that no such kernel is left. The
//! same holds when some client of an exclusive attachment had changed something and left without a
//! goodbye, and another host had the disk before the next one came: it may send again what it has no
//! answer to, whether the cluster has answered or not.
//!
//! The gateways of a joined device are one owner, so that each of them can tell whether it was one of
//! themselves that went on through another process, or another host. What a client has no answer to
//! it may send over any of them: so the client of such a gateway counts even if it has changed
//! nothing there.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use nbd_frontend::{
    Account, DeviceError, Piece, SectorDevice, SectorExport, Unavailable, Unsettled,
};
use tokio::sync::{Semaphore, watch};

use super::{AttachOptions, Attachment, Client, ClientError};
use crate::config::Cluster;
use crate::domain::{AttachKind, Fence, Generation};
use crate::wire::SectorValues;

/// The disk as an NBD export: attached when its first client opens it, shared by all its clients,
/// and given back when the last has left. Must be used within a runtime.
pub struct Gateway {
    attach: Attach,
    sectors: u64,
    options: AttachOptions,
    /// Whether to take the disk over: the first time only, not from whoever comes later. That is over
    /// when it is asked for, since a client that leaves may have been granted it.
    take_over: AtomicBool,
    /// The clients that may come back, of all attachments: whoever opened the export since may have
    /// been another one.
    unsettled: Unsettled,
    /// One client at a time attaches; the others find the disk attached then.
    turn: Semaphore,
    lent: Arc<Mutex<Lent>>,
}

type Attach =
    Box<dyn Fn(AttachOptions) -> BoxFuture<'static, Result<Attachment, ClientError>> + Send + Sync>;

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
    /// Nothing; clients that may come back had changes under this fence, or before.
    Owed(Fence),
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
    unsettled: Unsettled,
    account: Account,
    /// Whether there was a change of which nobody knows the outcome.
    unknown: watch::Sender<bool>,
}

impl Gateway {
    /// The export of this cluster's disk, attached in this way.
    pub fn new(cluster: Cluster, options: AttachOptions) -> Self {
        let sectors = cluster.size.sectors();
        let client = Client::new(cluster);
        let attach = move |options| {
            let client = client.clone();
            async move { client.attach(options).await }.boxed()
        };
        Self::with(Box::new(attach), sectors, options)
    }

    pub(super) fn with(attach: Attach, sectors: u64, options: AttachOptions) -> Self {
        Self {
            attach,
            sectors,
            options,
            take_over: AtomicBool::new(options.take_over),
            unsettled: Unsettled::default(),
            turn: Semaphore::new(1),
            lent: Arc::new(Mutex::new(Lent::Nothing)),
        }
    }

    /// Returns once nothing is attached that its clients have left.
    pub async fn returned(&self) {
        let returning = match &*lock(&self.lent) {
            Lent::Returning(done) => done.clone(),
            _ => return,
        };
        wait(returning).await;
    }

    /// The attachment that is there, if it is of any use.
    fn join(&self) -> Result<Option<GatewayDevice>, Unavailable> {
        let mut lent = lock(&self.lent);
        if let Lent::Attached { attachment, .. } = &*lent
            && attachment.is_over()
        {
            *lent = left_by(attachment, &self.unsettled, self.options.kind);
        }
        match &mut *lent {
            Lent::Attached {
                attachment,
                number,
                users,
            } => {
                *users += 1;
                let account = self.unsettled.open();
                if let AttachKind::Exclusive { join: Some(_) } = self.options.kind {
                    account.asked_for_change();
                }
                Ok(Some(GatewayDevice {
                    attachment: attachment.clone(),
                    number: *number,
                    kind: self.options.kind,
                    lent: Arc::clone(&self.lent),
                    unsettled: self.unsettled.clone(),
                    account,
                    unknown: watch::Sender::new(false),
                }))
            }
            Lent::TakenOver(by) => Err(unavailable(*by)),
            _ => Ok(None),
        }
    }

    /// What a client is told, with the remedy.
    fn refused(&self, error: &ClientError) -> Unavailable {
        let remedy = match error {
            ClientError::Held(_) if self.options.take_over => {
                ": with --take-over, which this gateway did once; start it again to do so again"
            }
            ClientError::Held(_) => " by starting the gateway with --take-over",
            _ => "",
        };
        Unavailable(format!("{error}{remedy}"))
    }

    /// How to attach now, once.
    fn next_options(&self) -> AttachOptions {
        let continues = match &*lock(&self.lent) {
            Lent::Owed(fence) => Some(*fence),
            _ => None,
        };
        AttachOptions {
            take_over: continues.is_none() && self.take_over.swap(false, Ordering::Relaxed),
            continues,
            ..self.options
        }
    }

    fn lend(&self, attachment: Attachment) {
        *lock(&self.lent) = Lent::Attached {
            attachment,
            number: rand::random(),
            users: 0,
        };
    }
}

impl fmt::Debug for Gateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gateway")
            .field("kind", &self.options.kind)
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
        // What the last client left may still count as held.
        self.returned().await;
        if let Some(device) = self.join()? {
            return Ok(device);
        }
        let options = self.next_options();
        match (self.attach)(options).await {
            Ok(attachment) => {
                let (owner, process) = (attachment.owner(), attachment.process());
                let generation = attachment.fence().generation.0;
                tracing::info!(%owner, %process, generation, "attached the disk");
                self.lend(attachment);
            }
            Err(ClientError::Fenced { by, .. }) if options.continues.is_some() => {
                *lock(&self.lent) = Lent::TakenOver(by);
            }
            Err(error) => return Err(self.refused(&error)),
        }
        let device = self.join()?;
        device.ok_or_else(|| Unavailable("the attachment has ended at once".to_owned()))
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

    fn asked_for_change(&self) {
        self.account.asked_for_change();
    }

    fn said_goodbye(&self) {
        self.account.said_goodbye();
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
        if self.attachment.is_over() {
            *lent = left_by(&self.attachment, &self.unsettled, self.kind);
            return;
        }
        let (sender, done) = watch::channel(false);
        *lent = Lent::Returning(done);
        drop(lent);
        let (attachment, unsettled) = (self.attachment.clone(), self.unsettled.clone());
        let (kind, lent) = (self.kind, Arc::clone(&self.lent));
        tokio::spawn(async move {
            attachment.clone().detach().await;
            tracing::info!("gave the disk back");
            *lock(&lent) = left_by(&attachment, &unsettled, kind);
            sender.send_replace(true);
        });
    }
}

/// What an attachment leaves behind that is over.
fn left_by(attachment: &Attachment, unsettled: &Unsettled, kind: AttachKind) -> Lent {
    match (attachment.ending(), kind) {
        (Some(ClientError::Fenced { by, .. }), _) => Lent::TakenOver(by),
        (_, AttachKind::Exclusive { .. }) if unsettled.is_any() => Lent::Owed(attachment.fence()),
        _ => Lent::Nothing,
    }
}

fn unavailable(by: Generation) -> Unavailable {
    Unavailable(format!(
        "the disk was taken over from this gateway, or released (generation {}), and its clients \
         may have writes that are older; once none of them has it mounted, start the gateway again",
        by.0
    ))
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
