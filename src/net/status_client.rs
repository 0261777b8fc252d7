//! Asking a process how it stands.

use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::transport::{SealedReader, SealedWriter};
use super::{NetError, handshake, socket};
use crate::domain::{ClusterId, Rank};
use crate::wire::{ClientKey, Connector, SessionAnswer, SessionKey, SessionQuestion};

/// Asks the process at this address (`host:port`), of this rank if one is given, how it stands:
/// the JSON of [`Host::status`](super::Host::status). Takes no longer than `limit`.
pub async fn fetch_status(
    address: &str,
    rank: Option<Rank>,
    cluster: ClusterId,
    key: &ClientKey,
    limit: Duration,
) -> Result<Bytes, NetError> {
    let asking = ask(address, rank, cluster, key, limit);
    timeout(limit, asking)
        .await
        .unwrap_or(Err(NetError::Deadline {
            what: "asking for the status",
            limit,
        }))
}

async fn ask(
    address: &str,
    rank: Option<Rank>,
    cluster: ClusterId,
    key: &ClientKey,
    limit: Duration,
) -> Result<Bytes, NetError> {
    let mut stream = TcpStream::connect(address)
        .await
        .map_err(|source| NetError::Connect {
            address: address.to_owned(),
            source,
        })?;
    socket::prepare_session(&stream, limit)?;
    let connector = Connector::new(None, cluster, SessionKey::client(key), rank);
    let established = handshake::connect(&mut stream, connector).await?;
    let (read, write) = stream.into_split();
    let mut reader = SealedReader::new(read, established.opener);
    reader.trust();
    let mut writer = SealedWriter::new(write, established.sealer);
    SessionQuestion::Status.encode(&mut writer.encoder);
    writer.flush().await?;
    let mut messages = Vec::new();
    loop {
        for message in messages.drain(..) {
            match SessionAnswer::decode(message)? {
                SessionAnswer::Heartbeat => {}
                SessionAnswer::Status(json) => return Ok(json),
                _ => todo!("net"),
            }
        }
        reader.read(&mut messages).await?;
    }
}
