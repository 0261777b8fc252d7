//! Asks the stand-in of a process for its status: no keys, no session.

use std::io;

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use crate::config::Cluster;
use crate::domain::{Rank, StatusReport};

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The connection failed.
    #[error("no connection")]
    Connection(#[from] io::Error),
    /// The answer is no report.
    #[error("the answer is not a status report")]
    Malformed(#[from] serde_json::Error),
}

/// What the process of this rank says of itself.
pub async fn status(cluster: &Cluster, rank: Rank) -> Result<StatusReport, StatusError> {
    let address = cluster.processes.address(rank).to_string();
    let mut stream = TcpStream::connect(address).await?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await?;
    Ok(serde_json::from_slice(&bytes)?)
}
