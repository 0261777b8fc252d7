//! What a new connection is, found out at the least cost.
//!
//! What arrives first is looked at in the system's buffer before it is taken out of it, into a
//! buffer on the stack, so that a connection that is silent, or has sent half a request, keeps
//! nothing here but its socket and its task. A connection whose first 8
//! bytes are a session hello's is a session; at the first byte that differs it is classic, and
//! becomes a client with its first authenticated request.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Poll, ready};

use bytes::{Buf, BytesMut};
use rustix::net::RecvFlags;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::attaching::wait_for;
use super::classic::ClassicConnection;
use super::client_session::ClientSession;
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
///
/// What comes after the arrival is boxed: a silent connection must not pay for its size. (Async
/// blocks in place of functions, here and below: a function's future keeps its arguments twice.)
#[expect(clippy::manual_async_fn, reason = "smaller, as said above")]
pub(super) fn serve<H: Host, D: Disk>(
    stream: TcpStream,
    place: Place,
    shared: Arc<Shared<H, D>>,
) -> impl Future<Output = ()> + Send {
    async move {
        let arrival = arrive(&stream, &place, &shared).await;
        Box::pin(stay(arrival, stream, place, &shared)).await;
    }
}

async fn stay<H: Host, D: Disk>(
    arrival: Result<Arrival, NetError>,
    stream: TcpStream,
    place: Place,
    shared: &Shared<H, D>,
) {
    let Some(address) = place.address() else {
        // Closed to make room, a moment ago.
        return;
    };
    let ended = match arrival {
        Ok(Arrival::Session) => session(stream, address, place, shared).await,
        Ok(Arrival::Client(failures)) => classic(stream, address, &place, shared, failures).await,
        Err(error) => Err(error),
    };
    match ended {
        Ok(()) => {}
        // A client that goes is no news, and a peer that does is news of the link to it.
        Err(error) if error.is_ordinary() => {
            tracing::debug!("the connection of {address} ended: {}", error.chain());
        }
        Err(error) => shared.refusals.closed(address, &error),
    }
}

enum Arrival {
    /// The next bytes to be read are a session's magic.
    Session,
    /// A classic client.
    Client(Newcomer),
}

/// A classic client that has just sent its first authenticated request.
#[derive(Default)]
pub(super) struct Newcomer {
    /// What was read of it already, from that request on.
    pub(super) received: BytesMut,
    pub(super) failures: Failures,
}

/// Finds out what the connection is.
#[expect(clippy::manual_async_fn, reason = "smaller, as said above")]
fn arrive<H: Host, D: Disk>(
    stream: &TcpStream,
    place: &Place,
    shared: &Shared<H, D>,
) -> impl Future<Output = Result<Arrival, NetError>> + Send {
    async move {
        if look(stream, is_session).await? {
            return Ok(Arrival::Session);
        }
        // Whatever comes before the process serves waits in the system's buffers.
        if !*shared.serving.borrow() {
            Box::pin(served(shared)).await?;
        }
        let begins_well = look(stream, |bytes| {
            match glance(&shared.identity.client_key, bytes) {
                Glance::Incomplete => None,
                seen => Some(seen == Glance::Request),
            }
        });
        if begins_well.await? {
            Ok(Arrival::Client(Newcomer::default()))
        } else {
            Box::pin(sift(stream, place, shared))
                .await
                .map(Arrival::Client)
        }
    }
}

/// Takes off what is before a client's first authenticated request, and answers it by the rules of
/// the protocol. Returns with that request.
///
/// From here on bytes are kept in a buffer of our own, the beginning of a request at most: left
/// behind garbage in the system's buffer, it may keep that so full that the rest never comes.
async fn sift<H: Host, D: Disk>(
    stream: &TcpStream,
    place: &Place,
    shared: &Shared<H, D>,
) -> Result<Newcomer, NetError> {
    let key = &shared.identity.client_key;
    let mut newcomer = Newcomer::default();
    loop {
        let Newcomer { received, failures } = &mut newcomer;
        match glance(key, received) {
            Glance::Request => return Ok(newcomer),
            Glance::Garbage(bytes) => received.advance(bytes),
            Glance::WrongTag {
                number,
                kind,
                bytes,
            } => {
                received.advance(bytes);
                if let Some(address) = place.address() {
                    failures.note(&shared.settings, &shared.refusals, address);
                }
                let response = ClientResponse::bare(number, kind, ClientStatus::AuthFailure);
                let response = response.encode(key);
                write_all(stream, &[&response.head[..], &response.tag].concat()).await?;
                if failures.are_too_many() {
                    failures.pause().await;
                }
            }
            Glance::Incomplete => {
                if received.is_empty() {
                    *received = BytesMut::new();
                }
                stream.readable().await?;
                received.reserve(GLANCE_BYTES - received.len());
                match stream.try_read_buf(received) {
                    Ok(0) => return Err(NetError::Closed),
                    Ok(_) => {}
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}

/// Whether these first bytes are a session's, as soon as that can be told.
fn is_session(bytes: &[u8]) -> Option<bool> {
    let compared = bytes.len().min(SESSION_MAGIC.len());
    if bytes[..compared] != SESSION_MAGIC[..compared] {
        Some(false)
    } else if compared == SESSION_MAGIC.len() {
        Some(true)
    } else {
        None
    }
}

async fn served<H, D>(shared: &Shared<H, D>) -> Result<(), NetError> {
    let mut serving = shared.serving.clone();
    let served = serving.wait_for(|&serving| serving).await;
    served.map(|_| ()).map_err(|_| NetError::Stopped)
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

async fn classic<H: Host, D: Disk>(
    stream: TcpStream,
    address: SocketAddr,
    place: &Place,
    shared: &Shared<H, D>,
    newcomer: Newcomer,
) -> Result<(), NetError> {
    place.become_client()?;
    socket::prepare_classic(&stream)?;
    let mut connection = ClassicConnection::new(stream, address, shared, newcomer);
    let mut stage = shared.stage.clone();
    while let Some(asked) = connection.run(&stage).await? {
        let attach = shared.host.attach(asked.attach, address.to_string());
        let outcome = wait_for(attach, &mut connection.stream, &mut stage);
        match outcome.await? {
            Ok(attached) => {
                let connection = connection.attached(&asked, attached);
                return Box::pin(connection.run(stage)).await;
            }
            Err(refusal) => connection.refuse(&asked, &refusal),
        }
    }
    Ok(())
}

async fn session<H: Host, D: Disk>(
    mut stream: TcpStream,
    address: SocketAddr,
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
        let session = ClientSession {
            host: &*shared.host,
            settings: &shared.settings,
            client: address.to_string(),
            stage: shared.stage.clone(),
        };
        return session.run(first, reader, writer).await;
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
fn look<T>(
    stream: &TcpStream,
    mut judge: impl FnMut(&[u8]) -> Option<T>,
) -> impl Future<Output = Result<T, NetError>> {
    let mut look = move || {
        let mut bytes = [0; GLANCE_BYTES];
        let (seen, _) = rustix::net::recv(stream, &mut bytes, RecvFlags::PEEK)?;
        match judge(&bytes[..seen]) {
            Some(judged) => Ok(Some(judged)),
            None if socket::nothing_follows(stream)? => Ok(None),
            // As far as this is concerned there is nothing new until more arrives.
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    };
    poll_fn(move |context| {
        loop {
            ready!(stream.poll_read_ready(context))?;
            return match stream.try_io(Interest::READABLE, &mut look) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                looked => Poll::Ready(looked?.ok_or(NetError::Closed)),
            };
        }
    })
}
