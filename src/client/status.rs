//! Asking a process how it is.

use std::time::Duration;

use crate::config::Cluster;
use crate::domain::{Rank, StatusReport};
use crate::net::{NetError, fetch_status};
use crate::wire::ClientKey;

/// How long a process may take to answer. One that is paused or cut off does not answer at all.
const DEADLINE: Duration = Duration::from_secs(2);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// There is no session with the process.
    #[error("no answer")]
    Session(#[from] NetError),
    /// What it says cannot be understood.
    #[error("the answer is not a status report")]
    Malformed(#[from] serde_json::Error),
}

/// What the process of this rank says of itself, within two seconds.
pub async fn status(cluster: &Cluster, rank: Rank) -> Result<StatusReport, StatusError> {
    let address = cluster.processes.address(rank).to_string();
    let key = ClientKey::new(cluster.client_key.bytes());
    let json = fetch_status(&address, Some(rank), cluster.id, &key, DEADLINE).await?;
    Ok(serde_json::from_slice(&json)?)
}
