//! Waiting for a time that may never come.

use tokio::time::Instant;

/// Returns at this time; without one, never.
pub(crate) async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due).await,
        None => std::future::pending().await,
    }
}
