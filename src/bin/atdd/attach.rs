//! What the commands that use the disk as clients have in common.

use std::path::Path;

use anyhow::{Context, Error, Result};
use atdd::client::{AttachOptions, Attachment, Client, ClientError};
use atdd::config::{Cluster, ClusterFile};
use tokio::runtime::{Builder, Runtime};

/// The cluster of this `cluster.toml`, with its client key.
pub(crate) fn cluster(config: &Path) -> Result<Cluster> {
    Ok(ClusterFile::load(config)?.cluster()?)
}

/// A runtime of one thread: enough for whoever waits most of the time.
pub(crate) fn runtime() -> Result<Runtime> {
    let runtime = Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start")
}

/// Attaches; a missing majority is waited for, and the log says so.
pub(crate) async fn attach(cluster: Cluster, options: AttachOptions) -> Result<Attachment> {
    let attached = Client::new(cluster).attach(options).await;
    attached.map_err(in_words)
}

/// The error with what to do about it, where it does not say so itself.
pub(crate) fn in_words(error: ClientError) -> Error {
    let remedy = match &error {
        // Its own words end with "or take it over".
        ClientError::Held(_) => " with --take-over",
        // A wrong key is said with where the right one is.
        ClientError::Rejected { why, .. } if why.contains("; ") => return error.into(),
        ClientError::Rejected { .. } => "; name the cluster.toml of the cluster that is meant",
        ClientError::Fenced { .. } => "; what was not confirmed may or may not have been written",
        ClientError::UnknownOutcome
        | ClientError::TimedOut(_)
        | ClientError::PastEnd { .. }
        | ClientError::ReadOnly
        | ClientError::Unreadable
        | ClientError::Detached => return error.into(),
    };
    let words = format!("{error}{remedy}");
    Error::new(error).context(words)
}
