//! Why the client library could not do what was asked.

use std::time::Duration;

use super::Utc;
use crate::domain::{Generation, Holder, OwnerId, Rank};

/// Why something was not done. A majority that is missing, slow or full is waited for, unless a
/// deadline was set.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClientError {
    /// Somebody else holds the disk.
    #[error(
        "the disk is held by {} through process {} since {}; detach it there, or take it over",
        .0.client, .0.process, Utc(.0.since)
    )]
    Held(Box<Holder>),
    /// Somebody else has taken the disk over, or an operator has ended the attachment: it is over,
    /// and what was not answered may or may not have happened.
    #[error(
        "another attachment has taken the disk over{} (generation {})",
        taken_over_by(*.owner), .by.0
    )]
    Fenced {
        /// The newer generation, or the own one where the attachment was released.
        by: Generation,
        /// Who has taken the disk over, where that is known.
        owner: Option<OwnerId>,
    },
    /// The process is gone through which this went, of a shared attachment or of one that was
    /// joined. A change may or may not have happened, and only its maker knows whether to repeat
    /// it. A joined attachment is over, and its reads and flushes end so, too.
    #[error("the process went away before it answered; a change may or may not have happened")]
    UnknownOutcome,
    /// The deadline passed, for whatever reason; a change may still happen.
    #[error("no majority of processes got it done within {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    /// The sectors are not on the disk.
    #[error("sectors {first} to {last} were asked for, of a disk of {sectors}")]
    PastEnd {
        /// The first that was asked for.
        first: u64,
        /// The last that was asked for.
        last: u64,
        /// How many there are.
        sectors: u64,
    },
    /// A change over a read-only attachment.
    #[error("the disk is attached read-only")]
    ReadOnly,
    /// Damage that no majority of intact copies is left to mend.
    #[error("no majority of intact copies is left of a sector")]
    Unreadable,
    /// No process accepts this client at all, and none ever will: a wrong key, another cluster.
    #[error("process {process} does not let this client in: {why}")]
    Rejected {
        /// By rank.
        process: Rank,
        /// Why.
        why: String,
    },
    /// The attachment was given back.
    #[error("the disk is detached")]
    Detached,
}

fn taken_over_by(owner: Option<OwnerId>) -> String {
    match owner {
        Some(owner) => format!(": owner {owner}, as `atdd attachments` lists it"),
        None => ", or an operator has released it".to_owned(),
    }
}
