//! The disk as an NBD export.
//!
//! It is attached while clients use it, for itself alone: the first that opens it attaches, the
//! others share the attachment, and after the last has gone nobody holds it. Who opens while the
//! last is going waits until it has gone: two never hold it at a time. Once the attachment
//! was fenced all connections on it are closed, since whatever their clients have cached may be
//! stale. If that was another host's doing, or an operator's, nobody is let in any more: a kernel
//! that reconnects has a filesystem and writes of before, and would put them on top of what the other
//! one wrote. If it was not (readers came while this process was out of reach), the next client is
//! let in unless another host has had the disk since. The same holds when some client that had
//! changed something left without a goodbye: it may come back and send what it has no answer to.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use bytes::Bytes;
use nbd_frontend::{
    Account, DeviceError, Piece, SectorDevice, SectorExport, Unavailable, Unsettled,
};
use tokio::sync::{Mutex, watch};

use super::attached::{AttachedDisk, Departure};
use super::attachments::Attachments;
use crate::domain::{
    Attach, AttachKind, AttachRefusal, Content, Extent, Fence, Generation, OperationError, OwnerId,
};

/// The longest rest before another try, when others attach at the same time.
const REST_MAX: Duration = Duration::from_millis(50);

/// The export of one NBD server.
#[derive(Debug)]
pub(crate) struct NbdExport {
    attachments: Attachments,
    uri: OnceLock<String>,
    /// The clients that may come back, of all attachments: whoever came first since then may have
    /// been another one.
    unsettled: Unsettled,
    /// What the clients share, if there are any. Clients that open take turns, which may last as
    /// long as an attach does: the first attaches, the others find it done.
    shared: Mutex<Option<Shared>>,
    /// The end of the latest attachment, for whoever asks and must not wait for those who open.
    latest: watch::Sender<Option<Departure>>,
}

/// An attachment that clients share, or have left.
#[derive(Debug)]
struct Shared {
    disk: Weak<AttachedDisk>,
    /// That nobody has the disk any more is seen here before the keeper hears of it, and for the
    /// keeper it would refuse the next client until then.
    departure: Departure,
}

/// The disk as one NBD client uses it.
#[derive(Debug)]
pub(crate) struct ExportedDisk {
    pub(super) disk: Arc<AttachedDisk>,
    account: Account,
}

impl NbdExport {
    /// An export that nobody uses.
    pub(crate) fn new(attachments: Attachments) -> Self {
        Self {
            attachments,
            uri: OnceLock::new(),
            unsettled: Unsettled::default(),
            shared: Mutex::new(None),
            latest: watch::Sender::new(None),
        }
    }

    /// Where the export is served, which others are told while it is used.
    pub(crate) fn served_at(&self, uri: String) {
        assert!(self.uri.set(uri).is_ok(), "a server has one address");
    }

    /// The generation since which nobody is let in any more, if there is one.
    pub(crate) fn taken_over_by(&self) -> Option<Generation> {
        let by = self.latest.borrow().as_ref()?.taken_over_by()?;
        Some(by.generation)
    }

    /// What a client gets of the attachment.
    fn device(&self, disk: Arc<AttachedDisk>) -> ExportedDisk {
        ExportedDisk {
            disk,
            account: self.unsettled.open(),
        }
    }

    /// Attaches, to go on from an earlier attachment if there is one.
    async fn attach(&self, before: Option<Fence>) -> Result<AttachedDisk, AttachRefusal> {
        let uri = self
            .uri
            .get()
            .map_or("an address of its own", String::as_str);
        let client = format!("NBD at {uri}");
        let owner = before.and_then(Fence::owner);
        loop {
            let attach = Attach {
                owner: owner.unwrap_or_else(|| OwnerId(rand::random())),
                kind: AttachKind::Exclusive { join: None },
                take_over: false,
                continues: before.map(|fence| fence.generation),
            };
            match self.attachments.attach(attach, &client).await {
                Err(AttachRefusal::Contended) => {
                    let rest = REST_MAX.mul_f64(rand::random_range(0.1..=1.0));
                    tokio::time::sleep(rest).await;
                }
                attached => return attached,
            }
        }
    }
}

impl SectorExport for NbdExport {
    type Device = ExportedDisk;

    fn sectors(&self) -> u64 {
        self.attachments.operations.sectors()
    }

    async fn open(&self) -> Result<ExportedDisk, Unavailable> {
        let mut shared = self.shared.lock().await;
        if let Some(Shared { disk, departure }) = &mut *shared {
            if let Some(disk) = disk.upgrade()
                && disk.ended().is_none()
            {
                return Ok(self.device(disk));
            }
            if let Some(by) = departure.over().await {
                return Err(taken_over(by.generation));
            }
        }
        // Its clients may send again what they were not answered: only if nobody else came between.
        let before = shared.as_ref().map(|shared| &shared.departure);
        let before = before.filter(|before| before.was_ended() || self.unsettled.is_any());
        let before = before.map(Departure::own);
        let disk = match self.attach(before).await {
            Ok(disk) => disk,
            Err(AttachRefusal::Fenced { by }) => return Err(taken_over(by)),
            Err(refusal) => return Err(unavailable(&refusal)),
        };
        let disk = Arc::new(disk);
        self.latest.send_replace(Some(disk.departure()));
        *shared = Some(Shared {
            departure: disk.departure(),
            disk: Arc::downgrade(&disk),
        });
        Ok(self.device(disk))
    }
}

impl SectorDevice for ExportedDisk {
    fn sectors(&self) -> u64 {
        self.disk.sectors()
    }

    async fn read(&self, first: u64, count: u64) -> Result<Vec<Piece>, DeviceError> {
        Ok(pieces(self.disk.read(first, count).await?))
    }

    async fn write(&self, first: u64, data: Bytes) -> Result<(), DeviceError> {
        Ok(self.disk.write(first, data).await?)
    }

    async fn discard(&self, first: u64, count: u64) -> Result<(), DeviceError> {
        Ok(self.disk.discard(first, count).await?)
    }

    /// A completed write is stable on a majority already; there is nothing left to flush.
    async fn flush(&self) -> Result<(), DeviceError> {
        Ok(())
    }

    async fn lost(&self) {
        self.disk.fenced().await;
    }

    fn asked_for_change(&self) {
        self.account.asked_for_change();
    }

    fn said_goodbye(&self) {
        self.account.said_goodbye();
    }
}

fn taken_over(by: Generation) -> Unavailable {
    Unavailable(format!(
        "the disk was taken over from this server, or released (generation {}), and its clients \
         may have writes that are older; once none of them has it mounted, start the process again",
        by.0
    ))
}

/// What a client is told, and the log says.
fn unavailable(refusal: &AttachRefusal) -> Unavailable {
    let remedy = match refusal {
        AttachRefusal::Held(_) => {
            "; detach it there, or end its attachment with `atdd attachments --release`"
        }
        AttachRefusal::Fenced { .. }
        | AttachRefusal::Elsewhere { .. }
        | AttachRefusal::Contended
        | AttachRefusal::ShuttingDown => "",
    };
    Unavailable(format!("{refusal}{remedy}"))
}

impl From<OperationError> for DeviceError {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::ShuttingDown => Self::ShuttingDown,
            error => Self::Io(Box::new(error)),
        }
    }
}

fn pieces(extents: Vec<Extent>) -> Vec<Piece> {
    let mut pieces = Vec::with_capacity(extents.len());
    for extent in extents {
        match extent.content {
            Content::Data(data) => pieces.push(Piece::Data(data)),
            Content::Unchanged => unreachable!("only stores carry it"),
            Content::Zeroes => {
                let sectors = u64::from(extent.range.count());
                match pieces.last_mut() {
                    Some(Piece::Zeroes(before)) => *before += sectors,
                    _ => pieces.push(Piece::Zeroes(sectors)),
                }
            }
        }
    }
    pieces
}
