//! Listening sockets and what they accept.
//!
//! A unix socket is a file: one that nobody answers on is left over from a server that was killed,
//! and is replaced; one that is answered, and anything that is not a socket, is left alone. The
//! file goes when the listener is dropped, unless another server has put its own there meanwhile.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener, UnixStream, lookup_host};
use tokio::time::timeout;
use tracing::{debug, warn};

use crate::address::Address;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// How long the server that may be behind a socket file has to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest path of a socket: `sun_path` without its final NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// Why there is no listening socket.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The host's name means nothing here.
    #[error("cannot find the host {host:?}: check its name, or write a number")]
    Host {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// Another program listens there.
    #[error("{address} is in use by another program: stop that program, or choose another port")]
    PortInUse {
        /// Where it was tried.
        address: SocketAddr,
    },
    /// The system does not let this program listen there.
    #[error("not permitted to listen on {address}: choose a port from 1024 on")]
    NotPermitted {
        /// Where it was tried.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The system does not let this program make the socket.
    #[error(
        "not permitted to make the socket {path}: \
         choose a directory that this user may write to, for example /tmp"
    )]
    SocketNotPermitted {
        /// The socket's path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A server answers on the socket.
    #[error("a server listens on {path} already: stop it, or choose another path")]
    SocketInUse {
        /// The socket's path.
        path: PathBuf,
    },
    /// Something other than a socket is in the way.
    #[error("{path} exists and is not a socket: remove it, or choose another path")]
    NotASocket {
        /// What is in the way.
        path: PathBuf,
    },
    /// The path does not fit a socket's address.
    #[error("{path} is too long for a socket, which has at most 107 bytes: choose a shorter path")]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// Anything else.
    #[error("cannot listen on {address}")]
    Other {
        /// Where it was tried.
        address: String,
        /// What the system said.
        source: io::Error,
    },
}

/// A listening socket.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    Unix {
        listener: UnixListener,
        #[expect(dead_code, reason = "removes the file when dropped")]
        file: SocketFile,
    },
}

/// A connection that was accepted.
#[derive(Debug)]
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Who is at the other end, for the log.
#[derive(Clone, Debug)]
pub(crate) enum Peer {
    Tcp(SocketAddr),
    Process(i32),
    Unknown,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Process(pid) => write!(f, "process {pid}"),
            Self::Unknown => f.write_str("a local process"),
        }
    }
}

impl Listener {
    /// Listens at the address; the address returned is the one that clients connect to, with the
    /// port that the system chose for port 0.
    pub(crate) async fn bind(address: &Address) -> Result<(Self, Address), ListenError> {
        match address {
            Address::Tcp { host, port } => {
                let listener = bind_tcp(host, *port).await?;
                let other = |source| ListenError::Other {
                    address: address.to_string(),
                    source,
                };
                let bound = listener.local_addr().map_err(other)?;
                Ok((Self::Tcp(listener), bound.into()))
            }
            Address::Unix(path) => {
                let other = |source| ListenError::Other {
                    address: address.to_string(),
                    source,
                };
                // The absolute path, for clients that start elsewhere; the path as given for the
                // socket, which takes 107 bytes of it.
                let absolute = std::path::absolute(path).map_err(other)?;
                let listener = bind_unix(path).await?;
                let file = SocketFile::new(&absolute).map_err(other)?;
                Ok((Self::Unix { listener, file }, Address::Unix(absolute)))
            }
        }
    }

    /// The next connection.
    pub(crate) async fn accept(&self) -> io::Result<(Socket, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                Ok((Socket::Tcp(stream), Peer::Tcp(address)))
            }
            Self::Unix { listener, .. } => {
                let (stream, _) = listener.accept().await?;
                let pid = stream.peer_cred().ok().and_then(|peer| peer.pid());
                Ok((
                    Socket::Unix(stream),
                    pid.map_or(Peer::Unknown, Peer::Process),
                ))
            }
        }
    }
}

async fn bind_tcp(host: &str, port: u16) -> Result<TcpListener, ListenError> {
    let unknown = |source| ListenError::Host {
        host: host.to_owned(),
        source,
    };
    let mut addresses = lookup_host((host, port)).await.map_err(unknown)?;
    let Some(first) = addresses.next() else {
        return Err(unknown(io::Error::from(io::ErrorKind::NotFound)));
    };
    let failed = match listen_tcp(first) {
        Ok(listener) => return Ok(listener),
        Err(error) => tcp_error(first, error),
    };
    // A name may stand for several addresses, not all of which need be this machine's.
    addresses
        .find_map(|address| listen_tcp(address).ok())
        .ok_or(failed)
}

fn listen_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit these two: replies go out at once, and a client that died without a
    // word is noticed some day.
    socket.set_nodelay(true)?;
    socket.set_keepalive(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

fn tcp_error(address: SocketAddr, source: io::Error) -> ListenError {
    match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::PortInUse { address },
        io::ErrorKind::PermissionDenied => ListenError::NotPermitted {
            address: address.to_string(),
            source,
        },
        _ => ListenError::Other {
            address: address.to_string(),
            source,
        },
    }
}

async fn bind_unix(path: &Path) -> Result<UnixListener, ListenError> {
    let path_bytes = path.as_os_str().len();
    if path_bytes > SOCKET_PATH_BYTES_MAX {
        return Err(ListenError::PathTooLong {
            path: path.to_owned(),
        });
    }
    match UnixListener::bind(path) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
            remove_abandoned(path).await?;
            UnixListener::bind(path).map_err(|error| unix_error(path, error))
        }
        result => result.map_err(|error| unix_error(path, error)),
    }
}

/// Removes a socket that nobody answers on, and nothing else.
async fn remove_abandoned(path: &Path) -> Result<(), ListenError> {
    let metadata = path
        .symlink_metadata()
        .map_err(|error| unix_error(path, error))?;
    if !metadata.file_type().is_socket() {
        return Err(ListenError::NotASocket {
            path: path.to_owned(),
        });
    }
    match timeout(ANSWER_TIMEOUT, UnixStream::connect(path)).await {
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
            debug!(path = %path.display(), "replacing a socket that nobody answers on");
            std::fs::remove_file(path).map_err(|error| unix_error(path, error))
        }
        Ok(Err(error)) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(unix_error(path, error))
        }
        // Connected, or too busy to answer: somebody is there.
        _ => Err(ListenError::SocketInUse {
            path: path.to_owned(),
        }),
    }
}

fn unix_error(path: &Path, source: io::Error) -> ListenError {
    match source.kind() {
        io::ErrorKind::AddrInUse => ListenError::SocketInUse {
            path: path.to_owned(),
        },
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            ListenError::SocketNotPermitted {
                path: path.to_owned(),
                source,
            }
        }
        _ => ListenError::Other {
            address: path.display().to_string(),
            source,
        },
    }
}

/// The file of a listening socket, removed when dropped if it is still ours.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    fn new(path: &Path) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            identity: identity(path)?,
        })
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    path.symlink_metadata()
        .map(|metadata| (metadata.dev(), metadata.ino()))
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).ok() != Some(self.identity) {
            return;
        }
        if let Err(error) = std::fs::remove_file(&self.path) {
            warn!(path = %self.path.display(), %error, "cannot remove the socket: remove it by hand");
        }
    }
}
