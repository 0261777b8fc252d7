//! One connection of a link, from its introduction to its end.

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio::time::timeout;

use super::transport::{BATCH_BYTES_MAX, Quiet, SealedReader, SealedWriter};
use super::{NetError, PeerEvents, RegisterClient};
use crate::domain::{Rank, Reply};
use crate::wire::{
    Asker, Credit, Established, Introduction, MessageError, PeerMessage, Process, encode_request,
};

/// The connector's end of a session between processes.
///
/// Both directions run in one task: whichever ends first ends the connection.
pub(super) struct LinkConnection<'a, R, W> {
    link: &'a RegisterClient,
    peer: Process,
    reader: SealedReader<R>,
    writer: SealedWriter<W>,
    introduction: watch::Receiver<Introduction>,
}

impl<'a, R: AsyncRead + Unpin, W: AsyncWrite + Unpin> LinkConnection<'a, R, W> {
    pub(super) fn new(
        link: &'a RegisterClient,
        (read, write): (R, W),
        established: Established,
        introduction: watch::Receiver<Introduction>,
    ) -> Self {
        Self {
            link,
            peer: established.listener,
            reader: SealedReader::new(read, established.opener),
            writer: SealedWriter::new(write, established.sealer),
            introduction,
        }
    }

    /// Introduces this process, and then asks and hears until the connection ends; says why.
    pub(super) async fn run(mut self, events: &dyn PeerEvents) -> NetError {
        let limit = self.link.settings().handshake_deadline;
        let introduced = timeout(limit, self.introduce()).await;
        let introduced = introduced.unwrap_or(Err(NetError::Deadline {
            what: "the introduction",
            limit,
        }));
        let (introduction, credit, mut rest) = match introduced {
            Ok(introduced) => introduced,
            Err(error) => return error,
        };
        let Process {
            rank, incarnation, ..
        } = self.peer;
        // Only then the event: what it makes the process send must find the link up.
        self.link.connect(incarnation, credit);
        events.connected(rank, incarnation, introduction);
        let link = self.link;
        tracing::info!(
            "connected to process {rank} at {}, incarnation {}",
            link.address(),
            incarnation.0
        );
        if let Err(error) = take_messages(link, rank, &mut rest, events) {
            return error;
        }
        // In no fixed order: neither direction may take all turns.
        let ended = tokio::select! {
            fault = fault(link) => Err(NetError::Fault(fault)),
            ended = hear(link, rank, &mut self.reader, events) => ended,
            ended = ask(link, &mut self.writer, &mut self.introduction) => ended,
        };
        ended.err().unwrap_or(NetError::Closed)
    }

    /// Introduces both ends to one another. A listener waits for nothing after its introduction,
    /// so that more of its messages may have come along: they are returned too.
    async fn introduce(&mut self) -> Result<(Introduction, Credit, Vec<Bytes>), NetError> {
        put_introduction(&mut self.writer, &mut self.introduction, self.link.asker());
        self.writer.flush().await?;
        // The listener has proven itself in the key exchange.
        self.reader.trust();
        let mut messages = Vec::new();
        while messages.is_empty() {
            match self.reader.read(&mut messages).await {
                Err(NetError::Closed) => return Err(NetError::Rejected),
                read => read?,
            }
        }
        match PeerMessage::decode(messages.remove(0), self.link.asker())? {
            PeerMessage::Introduction {
                introduction,
                credit,
            } => Ok((introduction, credit, messages)),
            other => Err(unexpected(&other)),
        }
    }
}

/// Returns once the process wants the connection closed.
async fn fault(link: &RegisterClient) -> String {
    loop {
        link.fault.notified().await;
        if let Some(fault) = link.take_fault() {
            return fault;
        }
    }
}

async fn hear(
    link: &RegisterClient,
    from: Rank,
    reader: &mut SealedReader<impl AsyncRead + Unpin>,
    events: &dyn PeerEvents,
) -> Result<(), NetError> {
    let mut quiet = Quiet::new(link.settings().dead_after);
    let mut messages = Vec::new();
    loop {
        tokio::select! {
            // What has arrived is looked at first: this process may have been the one that slept.
            biased;
            received = reader.read(&mut messages) => received?,
            () = quiet.elapsed() => {
                return Err(NetError::Silent { silence: link.settings().dead_after });
            }
        }
        quiet.interrupt();
        take_messages(link, from, &mut messages, events)?;
    }
}

fn take_messages(
    link: &RegisterClient,
    from: Rank,
    messages: &mut Vec<Bytes>,
    events: &dyn PeerEvents,
) -> Result<(), NetError> {
    if messages.is_empty() {
        return Ok(());
    }
    let mut replies: Vec<Reply> = Vec::with_capacity(messages.len());
    let mut declined = Vec::new();
    let mut news = None;
    for message in messages.drain(..) {
        match PeerMessage::decode(message, link.asker())? {
            PeerMessage::Heartbeat => {}
            PeerMessage::Reply(reply) => replies.push(reply),
            PeerMessage::Declined(id) => declined.push(id),
            PeerMessage::Introduction {
                introduction,
                credit,
            } => news = Some((introduction, credit)),
            other @ PeerMessage::Request(_) => return Err(unexpected(&other)),
        }
    }
    let ready = link.with_queue(|queue| {
        replies.iter().try_for_each(|reply| queue.answered(reply))?;
        declined.iter().try_for_each(|&id| queue.declined(id))?;
        if let Some((_, credit)) = news {
            queue.grant(credit);
        }
        Ok(queue.is_ready())
    })?;
    if ready {
        link.wake.notify_one();
    }
    if !replies.is_empty() {
        events.replies(from, replies);
    }
    if let Some((introduction, _)) = news {
        events.introduced(from, introduction);
    }
    Ok(())
}

async fn ask(
    link: &RegisterClient,
    writer: &mut SealedWriter<impl AsyncWrite + Unpin>,
    introduction: &mut watch::Receiver<Introduction>,
) -> Result<(), NetError> {
    let asker = link.asker();
    let bytes_max = u64::try_from(BATCH_BYTES_MAX).expect("a batch is small");
    let mut quiet = Quiet::new(link.settings().heartbeat_after);
    loop {
        if introduction.has_changed().is_ok_and(|changed| changed) {
            put_introduction(writer, introduction, asker);
        }
        for request in link.with_queue(|queue| Ok(queue.take(bytes_max)))? {
            encode_request(&request, asker, &mut writer.encoder);
        }
        if !writer.encoder.is_empty() {
            writer.flush().await?;
            quiet.interrupt();
            continue;
        }
        tokio::select! {
            () = link.wake.notified() => {}
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

fn put_introduction(
    writer: &mut SealedWriter<impl AsyncWrite + Unpin>,
    introduction: &mut watch::Receiver<Introduction>,
    asker: Asker,
) {
    // A listener asks nothing on this connection, so that there is no credit to grant it.
    let credit = Credit {
        requests: 0,
        bytes: 0,
    };
    let introduction = introduction.borrow_and_update().clone();
    let message = PeerMessage::Introduction {
        introduction,
        credit,
    };
    message.encode(asker, &mut writer.encoder);
}

pub(super) fn unexpected(message: &PeerMessage) -> NetError {
    MessageError::Type(message.code()).into()
}
