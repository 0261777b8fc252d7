//! Attachments: a client bound to a volume (`ATTACHMENTS.md`).

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::status::rank_number;
use super::{Fence, Generation, OwnerId, Rank};

/// What tells the gateways of one device from everyone else: derived from the attachment's name
/// and secret, so that neither travels.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JoinKey(pub [u8; 32]);

impl fmt::Debug for JoinKey {
    /// It is as good as the secret, and no log needs it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinKey")
    }
}

/// How a client wants to use the volume.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum AttachKind {
    /// Alone.
    Exclusive {
        /// Or as one of the gateways that know this key: the first of them attaches exclusively,
        /// the others join it.
        join: Option<JoinKey>,
    },
    /// Beside other hosts, which coordinate themselves.
    Shared,
    /// Without ever writing: fences nobody, and holds nothing.
    ReadOnly,
}

/// What a client asks for when it attaches.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Attach {
    /// Whose attachment it is.
    pub owner: OwnerId,
    /// How it wants to use the volume.
    pub kind: AttachKind,
    /// Whether to fence whoever holds the volume, instead of being refused.
    pub take_over: bool,
    /// The generation that this owner was attached under before: it goes on after a failover, if
    /// no other owner's generation came in between. Only then may it repeat what was unanswered.
    pub continues: Option<Generation>,
}

/// An attachment as the process that runs its operations reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The process.
    pub process: Rank,
    /// Whose it is.
    pub owner: OwnerId,
    /// How it uses the volume.
    pub kind: AttachKind,
    /// Under which generation.
    pub generation: Generation,
    /// Where the client is, for people: an address, or what the process calls it.
    pub client: String,
    /// When it was granted, in seconds since 1970 by the process's clock; for people only.
    pub since: u64,
}

/// The most bytes of [`Holder::client`].
pub const CLIENT_NAME_BYTES_MAX: usize = 64;

/// Why an attach was not granted. A missing majority is no reason: it is waited for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttachRefusal {
    /// Somebody holds the volume. Attaching again with `take_over` fences them.
    #[error(
        "the disk is held by {} through process {}",
        .0.client, .0.process
    )]
    Held(Box<Holder>),
    /// Another owner's generation came in between: what was unanswered is of unknown outcome and
    /// must not be repeated. Final for this attachment.
    #[error("another attachment has taken the disk over (generation {})", .by.0)]
    Fenced {
        /// The generation that came in between.
        by: Generation,
    },
    /// The attachment to be joined, or the disk's only writer, is at this process: attach there.
    #[error("the attachment is served by process {process}")]
    Elsewhere {
        /// Which process.
        process: Rank,
    },
    /// Another attach was under way at the same time. Try again after a random pause.
    #[error("another attach was under way at the same time")]
    Contended,
    /// The process is going away: try another.
    #[error("the process is shutting down")]
    ShuttingDown,
}

/// Why an operation of an attachment failed. A missing majority is no reason: it is waited for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    /// So many copies are damaged that no majority of intact ones is left.
    #[error("no majority of intact copies is left of a sector")]
    Unreadable,
    /// It reaches past the end of the volume.
    #[error("it reaches past the end of the disk of {sectors} sectors")]
    PastEnd {
        /// How many sectors the volume has.
        sectors: u64,
    },
    /// A change, and the attachment is read-only.
    #[error("the disk is attached read-only")]
    ReadOnly,
    /// A newer generation was opened, or an operator has ended the attachment: the outcome is
    /// unknown.
    #[error(
        "another attachment has taken the disk over, or an operator has released it \
         (generation {})",
        .by.generation.0
    )]
    Fenced {
        /// The newer generation, and whose it is: its owner may go on under one newer still. The
        /// own one where the attachment was released.
        by: Fence,
    },
    /// The operator's deadline of this process passed; what it was about may still take effect.
    #[error("no majority of processes got it done in time")]
    TimedOut,
    /// The process is going away; the outcome is unknown.
    #[error("the process is shutting down")]
    ShuttingDown,
}

/// The attachments that one process runs, asked for by `atdd attachments`; travels as JSON.
///
/// Processes of different versions understand one another's, by the rules of
/// [`StatusReport`](super::StatusReport).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentsReport {
    /// Who speaks.
    #[serde(with = "rank_number")]
    pub rank: Rank,
    /// One for each session that is attached, in no particular order.
    #[serde(default)]
    pub attachments: Vec<AttachmentReport>,
}

/// What a client's session holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachmentReport {
    /// Whose it is, as 32 hex digits: what `--release` takes.
    #[serde(with = "owner_digits")]
    pub owner: OwnerId,
    /// How it uses the volume.
    #[serde(default)]
    pub kind: ReportedKind,
    /// Under which generation.
    #[serde(default, with = "generation_number")]
    pub generation: Generation,
    /// Where the client is, for people.
    #[serde(default)]
    pub client: String,
    /// When it was granted, in seconds since 1970 by the process's clock.
    #[serde(default)]
    pub since: u64,
}

/// How an attachment uses the volume, as it is reported.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReportedKind {
    /// Alone, or as the first of several gateways.
    Exclusive,
    /// As a further gateway of an exclusive attachment.
    Joined,
    /// Beside other hosts.
    Shared,
    /// Without ever writing.
    ReadOnly,
    /// A kind of a newer version.
    #[default]
    #[serde(other)]
    Unknown,
}

/// An owner as 32 hex digits.
mod owner_digits {
    use super::{Deserialize, Deserializer, OwnerId, Serializer};
    use serde::de::Error;

    pub(super) fn serialize<S: Serializer>(owner: &OwnerId, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(owner)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<OwnerId, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// A generation as a JSON number.
mod generation_number {
    use super::{Deserialize, Deserializer, Generation, Serialize, Serializer};

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde asks for a reference"
    )]
    pub(super) fn serialize<S: Serializer>(of: &Generation, to: S) -> Result<S::Ok, S::Error> {
        of.0.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Generation, D::Error> {
        u64::deserialize(from).map(Generation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_keeps_its_form_in_json() {
        let golden = concat!(
            r#"{"rank":2,"attachments":[{"owner":"0102030405060708090a0b0c0d0e0f10","#,
            r#""kind":"read_only","generation":7,"client":"10.0.0.9:5123","since":1760000000}]}"#
        );
        let report = AttachmentsReport {
            rank: Rank::new(2).unwrap(),
            attachments: vec![AttachmentReport {
                owner: OwnerId([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]),
                kind: ReportedKind::ReadOnly,
                generation: Generation(7),
                client: "10.0.0.9:5123".to_owned(),
                since: 1_760_000_000,
            }],
        };
        assert_eq!(serde_json::to_string(&report).unwrap(), golden);
        assert_eq!(
            serde_json::from_str::<AttachmentsReport>(golden).unwrap(),
            report
        );
    }

    #[test]
    fn reports_of_older_and_newer_versions_are_understood() {
        let of = |owner: &str| {
            let json = format!(
                r#"{{"rank":1,"moon":1,"attachments":[{{"owner":"{owner}","kind":"new"}}]}}"#
            );
            serde_json::from_str::<AttachmentsReport>(&json)
        };
        let report = of(&"ab".repeat(16)).unwrap();
        assert_eq!(report.attachments[0].kind, ReportedKind::Unknown);
        assert!(of("ab").is_err() && of(&"xy".repeat(16)).is_err());
        let empty: AttachmentsReport = serde_json::from_str(r#"{"rank":1}"#).unwrap();
        assert!(empty.attachments.is_empty());
    }
}
