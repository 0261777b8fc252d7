//! How far the process's shutdown is.

use tokio::sync::watch;

/// How far the process's shutdown is. It only ever moves on.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Everything is served.
    Running,
    /// No new connection and no new request of a client is taken; those under way are finished and
    /// answered. Peers are served as before.
    Draining,
    /// Everything is closed.
    Stopped,
}

/// Returns once the shutdown is as far as `stage`; a process that is gone has stopped.
pub(super) async fn reached(watch: &mut watch::Receiver<Stage>, stage: Stage) {
    match watch.wait_for(|&present| present >= stage).await {
        Ok(_) | Err(_) => {}
    }
}
