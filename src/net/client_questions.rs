//! Single questions to a process, each in a session of its own, as an operator asks them.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::{ClientConnection, ClientLimits, NetError};
use crate::domain::{ClusterId, OwnerId, Rank};
use crate::wire::{ClientKey, SessionAnswer, SessionQuestion};

/// Asks the process at this address (`host:port`), of this rank if one is given, how it stands:
/// the JSON of [`Host::status`](super::Host::status). Takes no longer than `limit`.
pub async fn fetch_status(
    address: &str,
    rank: Option<Rank>,
    cluster: ClusterId,
    key: &ClientKey,
    limit: Duration,
) -> Result<Bytes, NetError> {
    let asking = ask(address, rank, cluster, key, limit, SessionQuestion::Status);
    match in_time("asking for the status", limit, asking).await? {
        SessionAnswer::Status(json) => Ok(json),
        other => Err(unexpected(&other)),
    }
}

/// Asks the process which attachments it runs: the JSON of
/// [`Host::attachments`](super::Host::attachments). Otherwise as [`fetch_status`].
pub async fn fetch_attachments(
    address: &str,
    rank: Option<Rank>,
    cluster: ClusterId,
    key: &ClientKey,
    limit: Duration,
) -> Result<Bytes, NetError> {
    let question = SessionQuestion::Attachments;
    let asking = ask(address, rank, cluster, key, limit, question);
    match in_time("asking for the attachments", limit, asking).await? {
        SessionAnswer::Attachments(json) => Ok(json),
        other => Err(unexpected(&other)),
    }
}

/// Has the process end the attachments of this owner, as if fenced; says whether it ran any.
/// Otherwise as [`fetch_status`].
pub async fn release_attachment(
    address: &str,
    rank: Option<Rank>,
    cluster: ClusterId,
    key: &ClientKey,
    owner: OwnerId,
    limit: Duration,
) -> Result<bool, NetError> {
    let question = SessionQuestion::Release { owner };
    let asking = ask(address, rank, cluster, key, limit, question);
    match in_time("releasing an attachment", limit, asking).await? {
        SessionAnswer::Released(released) => Ok(released),
        other => Err(unexpected(&other)),
    }
}

async fn ask(
    address: &str,
    rank: Option<Rank>,
    cluster: ClusterId,
    key: &ClientKey,
    limit: Duration,
    question: SessionQuestion,
) -> Result<SessionAnswer, NetError> {
    let limits = ClientLimits {
        connect_deadline: limit,
        dead_after: limit,
        ..ClientLimits::default()
    };
    let connection = ClientConnection::connect(address, rank, cluster, key, &limits).await?;
    connection.ask(&question).await
}

async fn in_time(
    what: &'static str,
    limit: Duration,
    asking: impl Future<Output = Result<SessionAnswer, NetError>>,
) -> Result<SessionAnswer, NetError> {
    timeout(limit, asking)
        .await
        .unwrap_or(Err(NetError::Deadline { what, limit }))
}

fn unexpected(answer: &SessionAnswer) -> NetError {
    NetError::Fault(format!("it answered another question: {answer:?}"))
}
