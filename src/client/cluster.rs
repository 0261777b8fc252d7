//! A cluster as its clients see it.

use std::sync::Arc;

use tokio::time::timeout;

use super::{AttachOptions, Attachment, ClientError};
use crate::config::Cluster;

/// A cluster as its clients see it; it connects when something is asked for.
#[derive(Clone, Debug)]
pub struct Client {
    cluster: Arc<Cluster>,
}

impl Client {
    /// The clients' side of this cluster.
    pub fn new(cluster: Cluster) -> Self {
        let cluster = Arc::new(cluster);
        Self { cluster }
    }

    /// Attaches; returns once a majority has agreed, which is waited for. Dropped before, it leaves
    /// nothing attached.
    pub async fn attach(&self, options: AttachOptions) -> Result<Attachment, ClientError> {
        let deadline = options.deadline;
        let attachment = Attachment::start(Arc::clone(&self.cluster), &options);
        match deadline {
            None => attachment.granted().await?,
            Some(limit) => timeout(limit, attachment.granted())
                .await
                .unwrap_or(Err(ClientError::TimedOut(limit)))?,
        }
        Ok(attachment)
    }
}
