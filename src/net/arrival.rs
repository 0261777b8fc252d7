//! What a new connection is, found out at the least cost.
//!
//! Nothing that arrives is taken out of the system's buffer before it is known what it is: bytes
//! are looked at there, into a buffer on the stack, so that a connection that is silent, or sends
//! half a request, keeps nothing here but its socket and its task. A connection whose first 8
//! bytes are a session hello's is a session; at the first byte that differs it is classic, and
//! becomes a client with its first authenticated request.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::classic::ClassicConnection;
use super::client_session;
use super::connections::Place;
use super::failures::Failures;
use super::listener::Shared;
use super::peer_connection::PeerConnection;
use super::transport::{SealedReader, SealedWriter};
use super::{Disk, Host, NetError, PeerSession, handshake, socket};
use crate::wire::{
    Asker, ClientResponse, ClientStatus, Glance, PeerMessage, SESSION_MAGIC, WRITE_REQUEST_BYTES,
    glance,
};

/// Enough to see the longest request whole.
const GLANCE_BYTES: usize = 8 << 10;
const _: () = assert!(GLANCE_BYTES >= WRITE_REQUEST_BYTES);

/// Serves a new connection to its end, and notes why it was refused if it was.
pub(super) async fn serve<H: Host, D: Disk>(
    stream: TcpStream,
    address: SocketAddr,
    place: Place,
    shared: Arc<Shared<H, D>>,
) {
    // The later stages are boxed: a silent connection must not pay for their size.
    let ended = match is_session(&stream).await {
        Ok(true) => Box::pin(session(stream, place, &shared)).await,
        Ok(false) => classic(stream, place, &shared).await,
        Err(error) => Err(error),
    };
    match ended {
        Ok(()) | Err(NetError::Stopped | NetError::Closed) => {}
        // A client that resets its connection instead of closing it is no news.
        Err(NetError::Broken(error)) => tracing::debug!(%address, %error, "the connection broke"),
        Err(error) => shared.refusals.note(address, &error),
    }
}

/// Whether the connection begins as a session does.
async fn is_session(stream: &TcpStream) -> Result<bool, NetError> {
    look(stream, |bytes| {
        let compared = bytes.len().min(SESSION_MAGIC.len());
        if bytes[..compared] != SESSION_MAGIC[..compared] {
            Some(false)
        } else if compared == SESSION_MAGIC.len() {
            Some(true)
        } else {
            None
        }
    })
    .await
}

async fn classic<H: Host, D: Disk>(
    stream: TcpStream,
    place: Place,
    shared: &Shared<H, D>,
) -> Result<(), NetError> {
    // Whatever comes before the process serves waits in the system's buffers.
    let mut serving = shared.serving.clone();
    if serving.wait_for(|&serving| serving).await.is_err() {
        return Err(NetError::Stopped);
    }
    let mut failures = Failures::new(&shared.settings);
    authenticate(&stream, shared, &mut failures).await?;
    place.become_client()?;
    socket::prepare_classic(&stream)?;
    let key = &shared.identity.client_key;
    let connection = ClassicConnection::new(stream, &*shared.disk, key, &shared.settings, failures);
    let ended = Box::pin(connection.run(shared.stage.clone())).await;
    drop(place);
    ended
}

/// Returns when the next bytes to be read are an authenticated request. What is before it is taken
/// off and answered by the rules of the classic protocol.
async fn authenticate<H, D>(
    stream: &TcpStream,
    shared: &Shared<H, D>,
    failures: &mut Failures,
) -> Result<(), NetError> {
    let key = &shared.identity.client_key;
    loop {
        let seen = look(stream, |bytes| match glance(key, bytes) {
            Glance::Incomplete => None,
            seen => Some(seen),
        });
        match seen.await? {
            Glance::Request => return Ok(()),
            Glance::Incomplete => {}
            Glance::Garbage(bytes) => take(stream, bytes)?,
            Glance::WrongTag {
                number,
                kind,
                bytes,
            } => {
                take(stream, bytes)?;
                let response = ClientResponse::bare(number, kind, ClientStatus::AuthFailure);
                let response = response.encode(key);
                write_all(stream, &response.head).await?;
                write_all(stream, &response.tag).await?;
                failures.note();
                if failures.are_too_many() {
                    failures.pause().await;
                }
            }
        }
    }
}

async fn session<H: Host, D: Disk>(
    mut stream: TcpStream,
    place: Place,
    shared: &Shared<H, D>,
) -> Result<(), NetError> {
    let limit = shared.settings.handshake_deadline;
    socket::prepare_session(&stream, shared.settings.dead_after)?;
    let proof = async {
        let unproven = handshake::accept(&mut stream, &shared.acceptor).await?;
        let (read, write) = stream.into_split();
        let mut reader = SealedReader::new(read, unproven.opener);
        let writer = SealedWriter::new(write, unproven.sealer);
        // Only whoever can seal this is more than a recording. A hello with a sender is a peer's,
        // and was refused if its key was not.
        let first = reader.first().await?;
        Ok::<_, NetError>((unproven.connector, first, reader, writer))
    };
    let proof = timeout(limit, proof).await.map_err(|_| NetError::Deadline {
        what: "the key exchange",
        limit,
    });
    let (hello, first, reader, writer) = proof??;
    let Some(peer) = hello.sender else {
        place.become_client()?;
        let stage = shared.stage.clone();
        let (host, settings) = (&*shared.host, &shared.settings);
        return client_session::run(host, settings, stage, first, reader, writer).await;
    };
    place.become_peer()?;
    let asker = Asker {
        rank: peer.rank,
        incarnation: peer.incarnation,
    };
    let PeerMessage::Introduction { introduction, .. } = PeerMessage::decode(first, asker)? else {
        return Err(NetError::Fault("it did not introduce itself".into()));
    };
    let session = Arc::new(PeerSession::new(
        asker,
        shared.settings.credit,
        introduction,
    ));
    let connection = PeerConnection {
        host: &*shared.host,
        peers: &shared.peers,
        settings: &shared.settings,
        introduction: shared.introduction.clone(),
        stage: shared.stage.clone(),
    };
    Err(connection.run(session, reader, writer).await)
}

/// Waits until `judge` can tell something from the bytes that have arrived. They stay where they
/// are.
async fn look<T>(
    stream: &TcpStream,
    mut judge: impl FnMut(&[u8]) -> Option<T>,
) -> Result<T, NetError> {
    loop {
        let ready = stream.ready(Interest::READABLE).await?;
        let looked = stream.try_io(Interest::READABLE, || {
            let mut bytes = [0; GLANCE_BYTES];
            let (seen, _) = rustix::net::recv(stream, &mut bytes, RecvFlags::PEEK)?;
            // As far as this is concerned there is nothing new until more arrives.
            judge(&bytes[..seen]).ok_or(io::ErrorKind::WouldBlock.into())
        });
        match looked {
            Ok(judged) => return Ok(judged),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error.into()),
            Err(_) if ready.is_read_closed() => return Err(NetError::Closed),
            Err(_) => {}
        }
    }
}

/// Takes bytes off that were seen before.
fn take(stream: &TcpStream, mut bytes: usize) -> Result<(), NetError> {
    let mut scratch = [0; GLANCE_BYTES];
    while bytes > 0 {
        match stream.try_read(&mut scratch[..bytes.min(GLANCE_BYTES)]) {
            Ok(0) => return Err(NetError::Closed),
            Ok(read) => bytes -= read,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> Result<(), NetError> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
