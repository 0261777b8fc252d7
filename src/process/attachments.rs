//! Attaching clients of this process, for the network and the embedded NBD server.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::sync::{oneshot, watch};

use super::attached::AttachedDisk;
use super::inbox::Inbox;
use super::items::KeeperItem;
use super::keeper_task::{KeeperView, next_id};
use super::membership::Standing;
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
    pub(crate) standing: watch::Receiver<Standing>,
    pub(crate) stage: watch::Receiver<Stage>,
}

/// An attach from its beginning to the end of the attachment: dropped, it detaches.
#[derive(Debug)]
pub(crate) struct Seat {
    id: AttachmentId,
    keeper: Arc<Inbox<KeeperItem>>,
}

impl Attachments {
    /// Attaches a client, once the cluster is born and a majority has agreed; dropped before, it does
    /// not. `client` says where the client is, for people.
    pub(crate) async fn attach(
        &self,
        attach: Attach,
        client: &str,
    ) -> Result<AttachedDisk, AttachRefusal> {
        let mut stage = self.stage.clone();
        tokio::select! {
            biased;
            _ = stage.wait_for(|stage| *stage > Stage::Running) => Err(AttachRefusal::ShuttingDown),
            attached = self.ask(attach, client) => attached,
        }
    }

    async fn ask(&self, attach: Attach, client: &str) -> Result<AttachedDisk, AttachRefusal> {
        // Before its birth the keeper does not listen, and its inbox would grow with every try.
        let mut standing = self.standing.clone();
        let born = standing.wait_for(Standing::is_born).await.is_ok();
        if !born {
            return Err(AttachRefusal::ShuttingDown);
        }
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
        let granted = answered.await.map_err(|_| AttachRefusal::ShuttingDown)??;
        Ok(AttachedDisk::new(
            seat,
            attach.kind,
            granted,
            self.operations.clone(),
        ))
    }

    /// Ends the attachments of this owner, as if fenced; whether there was one.
    pub(crate) async fn release(&self, owner: OwnerId) -> bool {
        if !self.standing.borrow().is_born() {
            return false;
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_are_told_of_a_client_is_bounded_and_whole() {
        assert_eq!(shortened("10.0.0.1:2000"), "10.0.0.1:2000");
        let long = "ä".repeat(CLIENT_NAME_BYTES_MAX);
        assert_eq!(shortened(&long), "ä".repeat(CLIENT_NAME_BYTES_MAX / 2));
        let odd = format!("x{long}");
        assert_eq!(shortened(&odd).len(), CLIENT_NAME_BYTES_MAX - 1);
    }
}
