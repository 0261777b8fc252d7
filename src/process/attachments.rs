//! Attaching clients of this process, for the network and the embedded NBD server.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::{oneshot, watch};

use super::attached::AttachedDisk;
use super::inbox::Inbox;
use super::items::KeeperItem;
use super::keeper_task::{KeeperView, next_id};
use super::operations::Operations;
use crate::attachment::AttachmentId;
use crate::domain::{
    Attach, AttachRefusal, AttachmentReport, AttachmentsReport, CLIENT_NAME_BYTES_MAX, Generation,
    OwnerId, Rank,
};
use crate::net::Stage;

/// The most attachments that a report names: it has a bound, and each may take 600 bytes of it.
const REPORTED_MAX: usize = 100;

/// A handle to the process's keeper; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Attachments {
    pub(crate) operations: Operations,
    pub(crate) keeper: Arc<Inbox<KeeperItem>>,
    pub(crate) next_id: Arc<AtomicU64>,
    pub(crate) view: watch::Receiver<KeeperView>,
    pub(crate) stage: watch::Receiver<Stage>,
}

/// An attach from its beginning to the end of the attachment: dropped, it detaches.
#[derive(Debug)]
pub(crate) struct Seat {
    id: AttachmentId,
    keeper: Arc<Inbox<KeeperItem>>,
}

impl Attachments {
    /// Attaches a client, once a majority has agreed; dropped before, it does not. `client` says
    /// where the client is, for people.
    pub(crate) async fn attach(
        &self,
        attach: Attach,
        client: &str,
    ) -> Result<AttachedDisk, AttachRefusal> {
        let mut stage = self.stage.clone();
        let seat = Seat {
            id: next_id(&self.next_id),
            keeper: Arc::clone(&self.keeper),
        };
        let (answer, answered) = oneshot::channel();
        self.keeper.put(KeeperItem::Attach {
            id: seat.id,
            attach,
            client: shortened(client).to_owned(),
            answer,
        });
        let granted = tokio::select! {
            biased;
            _ = stage.wait_for(|stage| *stage > Stage::Running) => None,
            answered = answered => answered.ok(),
        };
        let granted = granted.ok_or(AttachRefusal::ShuttingDown)??;
        Ok(AttachedDisk::new(
            seat,
            attach.kind,
            granted,
            self.operations.clone(),
        ))
    }

    /// Ends the attachments of this owner, as if fenced; whether there was one.
    pub(crate) async fn release(&self, owner: OwnerId) -> bool {
        let (answer, answered) = oneshot::channel();
        self.keeper.put(KeeperItem::Release { owner, answer });
        answered.await.unwrap_or(false)
    }

    /// The attachments that this process, of this rank, runs.
    pub(crate) fn report(&self, rank: Rank) -> AttachmentsReport {
        let view = self.view.borrow();
        let oldest = view.attachments.iter().take(REPORTED_MAX);
        let attachments: Vec<AttachmentReport> = oldest.cloned().collect();
        AttachmentsReport { rank, attachments }
    }

    /// The newest generation that is stable in this process.
    pub(crate) fn generation(&self) -> Generation {
        self.view.borrow().fence.generation
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.keeper.put(KeeperItem::Detach(self.id));
    }
}

/// As much of it as others are told.
fn shortened(client: &str) -> &str {
    let ends = client.char_indices().map(|(at, char)| at + char.len_utf8());
    let end = ends.take_while(|&end| end <= CLIENT_NAME_BYTES_MAX).last();
    &client[..end.unwrap_or(0)]
}
