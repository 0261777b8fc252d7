//! The listener's end of a session between processes, from its introduction to its end.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

use super::link_connection::unexpected;
use super::stage::reached;
use super::transport::{Quiet, SealedReader, SealedWriter};
use super::{Host, NetError, PeerSession, PeerSessions, Settings, Stage};
use crate::domain::Request;
use crate::wire::{Introduction, PeerMessage, encode_reply};

/// What the listener's end needs besides its session.
pub(super) struct PeerConnection<'a, H> {
    pub(super) host: &'a H,
    pub(super) peers: &'a PeerSessions,
    pub(super) settings: &'a Settings,
    pub(super) introduction: watch::Receiver<Introduction>,
    pub(super) stage: watch::Receiver<Stage>,
}

impl<H: Host> PeerConnection<'_, H> {
    /// Takes the session, whose connector has proven itself and introduced its process, and serves
    /// it until its end; says why it ended.
    pub(super) async fn run<R, W>(
        mut self,
        session: Arc<PeerSession>,
        mut reader: SealedReader<R>,
        mut writer: SealedWriter<W>,
    ) -> NetError
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        if let Err(error) = self.peers.enter(&session) {
            return error;
        }
        self.host.introduced(&session, session.introduction());
        // In no fixed order: neither direction may take all turns.
        let ended = tokio::select! {
            fault = closed(&session) => Err(fault),
            () = reached(&mut self.stage, Stage::Stopped) => Err(NetError::Stopped),
            ended = hear(self.host, self.settings, &session, &mut reader) => ended,
            ended = answer(self.settings, &session, &mut self.introduction, &mut writer) => ended,
        };
        self.peers.leave(&session);
        session.end(NetError::Closed);
        ended.err().unwrap_or(NetError::Closed)
    }
}

/// Returns once the session is to be closed.
async fn closed(session: &PeerSession) -> NetError {
    loop {
        session.closing.notified().await;
        if let Some(fault) = session.take_fault() {
            return fault;
        }
    }
}

/// Reads without ever waiting for what is to be written: the credit bounds what may come.
async fn hear<H: Host>(
    host: &H,
    settings: &Settings,
    session: &Arc<PeerSession>,
    reader: &mut SealedReader<impl AsyncRead + Unpin>,
) -> Result<(), NetError> {
    let mut quiet = Quiet::new(settings.dead_after);
    let mut messages = Vec::new();
    loop {
        tokio::select! {
            // What has arrived is looked at first: this process may have been the one that slept.
            // (Not so for clients: `client_session` says why.)
            biased;
            received = reader.read(&mut messages) => received?,
            () = quiet.elapsed() => {
                return Err(NetError::Silent { silence: settings.dead_after });
            }
        }
        quiet.interrupt();
        take_messages(host, session, &mut messages)?;
    }
}

fn take_messages<H: Host>(
    host: &H,
    session: &Arc<PeerSession>,
    messages: &mut Vec<Bytes>,
) -> Result<(), NetError> {
    let mut requests: Vec<Request> = Vec::with_capacity(messages.len());
    let mut news = None;
    for message in messages.drain(..) {
        match PeerMessage::decode(message, session.asker())? {
            PeerMessage::Heartbeat => {}
            PeerMessage::Request(request) => requests.push(request),
            PeerMessage::Introduction { introduction, .. } => news = Some(introduction),
            other @ (PeerMessage::Reply(_) | PeerMessage::Declined(_)) => {
                return Err(unexpected(&other));
            }
        }
    }
    if let Some(introduction) = news {
        session.introduced(introduction.clone());
        host.introduced(session, introduction);
    }
    if !requests.is_empty() {
        session.admit(&requests)?;
        host.requests(session, requests);
    }
    Ok(())
}

async fn answer(
    settings: &Settings,
    session: &PeerSession,
    introduction: &mut watch::Receiver<Introduction>,
    writer: &mut SealedWriter<impl AsyncWrite + Unpin>,
) -> Result<(), NetError> {
    let asker = session.asker();
    let mut quiet = Quiet::new(settings.heartbeat_after);
    // The first message is this process's introduction; from then on its news are.
    introduction.mark_changed();
    loop {
        if introduction.has_changed().is_ok_and(|changed| changed) {
            let message = PeerMessage::Introduction {
                introduction: introduction.borrow_and_update().clone(),
                credit: session.credit(),
            };
            message.encode(asker, &mut writer.encoder);
            writer.flush().await?;
        }
        let outgoing = session.take_outgoing();
        for id in outgoing.declined {
            PeerMessage::Declined(id).encode(asker, &mut writer.encoder);
        }
        for reply in outgoing.replies {
            encode_reply(&reply, asker, &mut writer.encoder);
            if writer.is_full() {
                writer.flush().await?;
            }
        }
        if !writer.encoder.is_empty() {
            writer.flush().await?;
            quiet.interrupt();
            continue;
        }
        tokio::select! {
            () = session.wake.notified() => {}
            changed = introduction.changed() => match changed {
                // Waiting for it took note of it, but only sending it is enough.
                Ok(()) => introduction.mark_changed(),
                Err(_) => return Err(NetError::Stopped),
            },
            () = quiet.elapsed() => {
                writer.rest();
                PeerMessage::Heartbeat.encode(asker, &mut writer.encoder);
            }
        }
    }
}
