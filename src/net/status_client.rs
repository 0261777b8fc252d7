//! Under construction.
use std::time::Duration;

use bytes::Bytes;

use crate::wire::{ClientKey, ClusterId};

/// Why there is no session.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {}

/// Asks a process for its status.
pub async fn fetch_status(
    _address: &str,
    _cluster: ClusterId,
    _client_key: &ClientKey,
    _deadline: Duration,
) -> Result<Bytes, SessionError> {
    todo!()
}
