//! Listens, says that it serves, and keeps a lock: no register behind it.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener as StdListener;

use rustix::fs::{FlockOperation, flock};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{Configuration, NbdAddress};
use crate::domain::{Incarnation, PeerStatus, ProcessState, StatusReport};

/// Why a process ended.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// The address is taken or not of this machine.
    #[error("cannot listen on {address}; end the program that does, or change the address")]
    Listen {
        /// Where.
        address: String,
        /// What the system says.
        source: io::Error,
    },
    /// The storage directory cannot be used.
    #[error("the storage directory cannot be used")]
    Storage(#[from] io::Error),
}

/// Runs until SIGTERM or SIGINT.
pub async fn run_register_process(configuration: Configuration) -> Result<(), ProcessError> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    fs::create_dir_all(&configuration.storage_dir)?;
    let lock = File::create(configuration.storage_dir.join("lock"))?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(io::Error::from)?;
    let (_nbd_tcp, _nbd_unix) = match &configuration.nbd {
        None => (None, None),
        Some(NbdAddress::Tcp(address)) => (
            Some(StdListener::bind(address.to_string()).map_err(|source| listen(address, source))?),
            None,
        ),
        Some(NbdAddress::Unix(path)) => {
            if path.exists() {
                fs::remove_file(path)?;
            }
            (None, Some(tokio::net::UnixListener::bind(path)?))
        }
    };
    let address = configuration.address();
    let listener = TcpListener::bind(address.to_string())
        .await
        .map_err(|source| listen(address, source))?;
    let report = serde_json::to_vec(&report(&configuration)).expect("a report is plain data");
    loop {
        tokio::select! {
            _ = term.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
            accepted = listener.accept() => {
                let (mut stream, _) = accepted?;
                if let Err(error) = stream.write_all(&report).await {
                    tracing::debug!(%error, "the client left");
                }
            }
        }
    }
}

fn listen(address: &impl ToString, source: io::Error) -> ProcessError {
    ProcessError::Listen {
        address: address.to_string(),
        source,
    }
}

fn report(configuration: &Configuration) -> StatusReport {
    let processes = &configuration.cluster().processes;
    let others = processes
        .ranks()
        .filter(|rank| *rank != configuration.rank());
    StatusReport {
        rank: configuration.rank(),
        incarnation: Incarnation(1),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        state: ProcessState::Serving,
        sectors_stored: 0,
        disk_sectors: configuration.cluster().size.sectors(),
        operations_in_flight: 0,
        peers: others
            .map(|rank| PeerStatus {
                rank,
                connected: true,
            })
            .collect(),
        waiting_for_space: false,
        nbd: configuration.nbd.as_ref().map(ToString::to_string),
    }
}
