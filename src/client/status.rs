//! What operators ask of a single process.

use std::time::Duration;

use crate::config::Cluster;
use crate::domain::{AttachmentsReport, OwnerId, Rank, StatusReport};
use crate::net::{NetError, fetch_attachments, fetch_status, release_attachment};
use crate::wire::{ClientKey, HelloError, SessionError};

/// How long a process may take to answer. One that is paused or cut off does not answer at all.
const DEADLINE: Duration = Duration::from_secs(2);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// There is no session with the process.
    #[error("no answer")]
    Session(#[source] NetError),
    /// The process answers, but none that this client may talk to: a wrong key, another cluster.
    #[error("{0}{remedy}", remedy = remedy(.0))]
    Refused(SessionError),
    /// What it says cannot be understood.
    #[error("the answer is not the report that was asked for")]
    Malformed(#[from] serde_json::Error),
}

impl From<NetError> for StatusError {
    fn from(error: NetError) -> Self {
        match error {
            NetError::Session(refusal) => Self::Refused(refusal),
            error => Self::Session(error),
        }
    }
}

/// What to do about it, where it does not say so itself.
fn remedy(refusal: &SessionError) -> &'static str {
    match refusal {
        // A wrong key is said with where the right one is.
        SessionError::Hello(HelloError::Key { .. }) => "",
        SessionError::Hello(HelloError::NoSession) => {
            "; see that the address in cluster.toml is that of the process"
        }
        SessionError::Hello(HelloError::Version { .. }) => {
            "; use the same version of the program at both ends"
        }
        _ => "; name the cluster.toml of the cluster that is meant",
    }
}

/// What the process of this rank says of itself, within two seconds.
pub async fn status(cluster: &Cluster, rank: Rank) -> Result<StatusReport, StatusError> {
    let (address, key) = dialled(cluster, rank);
    let json = fetch_status(&address, Some(rank), cluster.id, &key, DEADLINE).await?;
    Ok(serde_json::from_slice(&json)?)
}

/// Which attachments the process of this rank runs, within two seconds.
pub async fn attachments(cluster: &Cluster, rank: Rank) -> Result<AttachmentsReport, StatusError> {
    let (address, key) = dialled(cluster, rank);
    let json = fetch_attachments(&address, Some(rank), cluster.id, &key, DEADLINE).await?;
    Ok(serde_json::from_slice(&json)?)
}

/// Has the process of this rank end the attachments of an owner, as if another had taken the disk
/// over; whether it ran any. Takes no longer than two seconds.
pub async fn release(cluster: &Cluster, rank: Rank, owner: OwnerId) -> Result<bool, StatusError> {
    let (address, key) = dialled(cluster, rank);
    let answer =
        release_attachment(&address, Some(rank), cluster.id, &key, owner, DEADLINE).await?;
    Ok(answer)
}

fn dialled(cluster: &Cluster, rank: Rank) -> (String, ClientKey) {
    let address = cluster.processes.address(rank).to_string();
    (address, ClientKey::new(cluster.client_key.bytes()))
}
