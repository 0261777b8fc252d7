//! A cluster as its clients see it.

use super::{AttachOptions, Attachment, ClientError};
use crate::config::Cluster;

/// A cluster as its clients see it; it connects when something is asked for.
#[derive(Clone, Debug)]
pub struct Client {}

impl Client {
    /// The clients' side of this cluster.
    pub fn new(_cluster: Cluster) -> Self {
        todo!("client")
    }

    /// Attaches; returns once a majority has agreed, which is waited for.
    pub async fn attach(&self, _options: AttachOptions) -> Result<Attachment, ClientError> {
        todo!("client")
    }
}
