//! Why connections end.

use std::io;
use std::time::Duration;

use crate::domain::{AttachRefusal, Incarnation, Rank};
use crate::wire::{FrameError, HelloError, MessageError, SessionError};

/// Why a connection, or the attempt at one, came to its end.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address as configured.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// There is no connection to the address.
    #[error("cannot connect to {address}")]
    Connect {
        /// The address as configured.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The system ended the connection.
    #[error("the connection broke")]
    Broken(#[from] io::Error),
    /// The other end closed it.
    #[error("the other end closed the connection")]
    Closed,
    /// The other end closed it in the middle of the key exchange.
    #[error("the other end closed the connection before the session began; its log says why")]
    Rejected,
    /// Something took longer than it may.
    #[error("{what} took more than {limit:?}")]
    Deadline {
        /// What it was.
        what: &'static str,
        /// How long it may take.
        limit: Duration,
    },
    /// Nothing was received for too long.
    #[error("nothing was received for {silence:?}")]
    Silent {
        /// How long.
        silence: Duration,
    },
    /// The session did not come to be.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The session's bytes were not what the other end sealed.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// The other end sent what no correct process sends.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// The other end broke the rules that messages follow.
    #[error("a fault of the other end: {0}")]
    Fault(String),
    /// A newer session of the same process took its place.
    #[error("a newer session of process {0} took its place")]
    Superseded(Rank),
    /// A session of an incarnation of which a later one was seen.
    #[error(
        "process {rank} connected as incarnation {}, but {} was there before: a copy of its store?",
        theirs.0, seen.0
    )]
    Outdated {
        /// The process.
        rank: Rank,
        /// Its incarnation.
        theirs: Incarnation,
        /// The latest that was seen.
        seen: Incarnation,
    },
    /// As many clients are connected as may be.
    #[error("as many clients are connected as may be")]
    TooManyClients,
    /// Somebody holds the disk for himself, and the classic protocol cannot say so.
    #[error("classic clients are not served now: {0}")]
    Held(AttachRefusal),
    /// Its place was given to a newer connection.
    #[error("its place was given to a newer connection")]
    NoRoom,
    /// This process stops.
    #[error("this process stops")]
    Stopped,
}

impl From<HelloError> for NetError {
    fn from(error: HelloError) -> Self {
        Self::Session(error.into())
    }
}

impl NetError {
    /// Whether connections end so because processes, machines and networks come and go; everything
    /// else is somebody's mistake.
    pub(super) fn is_ordinary(&self) -> bool {
        matches!(
            self,
            Self::Broken(_)
                | Self::Closed
                | Self::Rejected
                | Self::Silent { .. }
                | Self::Superseded(_)
                | Self::Stopped
        )
    }

    /// The error with all its causes, for a line in the log.
    pub(crate) fn chain(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            line.push_str(": ");
            line.push_str(&error.to_string());
            cause = error.source();
        }
        line
    }
}
