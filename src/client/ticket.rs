//! Where the answer to a request goes.

use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tokio::time::Instant;

use super::ClientError;
use super::work::Work;
use crate::domain::{Fence, Rank};
use crate::wire::SectorValues;

/// What the handles of an attachment tell its driver. When all handles are gone their channel
/// closes, and the attachment is given back.
#[derive(Debug)]
pub(super) enum Command {
    /// Something to be done.
    Ask(Work, Ticket),
    /// The attachment is to be given back; hears when it is.
    Detach(oneshot::Sender<()>),
}

/// What came of a request; only reads have values.
pub(super) type Outcome = Result<Vec<SectorValues>, ClientError>;

/// Where the answer to a request goes, and what the request holds until then.
#[derive(Debug)]
pub(super) struct Ticket {
    answer: oneshot::Sender<Outcome>,
    /// When it was asked for.
    pub(super) asked: Instant,
    /// Kept also when nobody waits for the answer any more: the request is still pending.
    _room: OwnedSemaphorePermit,
}

/// How an attachment stands, as its handles see it.
#[derive(Clone, Debug, Default)]
pub(super) struct Standing {
    /// What was granted last.
    pub(super) granted: Option<Granted>,
    /// Why it is over, if it is.
    pub(super) over: Option<ClientError>,
}

/// An attachment as a process granted it.
#[derive(Copy, Clone, Debug)]
pub(super) struct Granted {
    /// Under which fence.
    pub(super) fence: Fence,
    /// How many sectors the disk has.
    pub(super) sectors: u64,
    /// Through which process.
    pub(super) process: Rank,
}

/// The driver's end of the channel.
pub(super) type Commands = mpsc::Receiver<Command>;

impl Ticket {
    pub(super) fn new(room: OwnedSemaphorePermit) -> (Self, oneshot::Receiver<Outcome>) {
        let (answer, outcome) = oneshot::channel();
        let ticket = Self {
            answer,
            asked: Instant::now(),
            _room: room,
        };
        (ticket, outcome)
    }

    /// Answers, if anybody still waits for it.
    pub(super) fn answer(self, outcome: Outcome) {
        if self.answer.send(outcome).is_err() {
            tracing::trace!("nobody waits for this answer");
        }
    }
}
