//! The listener's end of a client's session.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;

use super::stage::reached;
use super::transport::{SealedReader, SealedWriter};
use super::{Host, NetError, Settings, Stage};
use crate::wire::{SessionAnswer, SessionQuestion};

/// Answers a client, whose first message has proven that it holds the client key, until it goes.
pub(super) async fn run<H: Host>(
    host: &H,
    settings: &Settings,
    mut stage: watch::Receiver<Stage>,
    first: Bytes,
    mut reader: SealedReader<impl AsyncRead + Unpin>,
    mut writer: SealedWriter<impl AsyncWrite + Unpin>,
) -> Result<(), NetError> {
    let mut messages = vec![first];
    let limit = settings.dead_after;
    let answering = async {
        loop {
            for message in messages.drain(..) {
                match SessionQuestion::decode(message)? {
                    SessionQuestion::Heartbeat => SessionAnswer::Heartbeat,
                    SessionQuestion::Status => SessionAnswer::Status(host.status().await),
                    _ => todo!("net"),
                }
                .encode(&mut writer.encoder);
                writer.flush().await?;
            }
            let read = timeout(limit, reader.read(&mut messages));
            read.await
                .map_err(|_| NetError::Silent { silence: limit })??;
        }
    };
    tokio::select! {
        ended = answering => ended,
        () = reached(&mut stage, Stage::Draining) => Ok(()),
    }
}
