//! The ATTACH of a classic connection: waiting for its outcome, and putting that into words.

use tokio::sync::watch;

use super::classic_stream::ClassicStream;
use super::stage::reached;
use super::{Attached, NetError, Settings, Stage};
use crate::domain::{Attach, AttachRefusal, Generation, OperationError, Rank};
use crate::wire::{
    AttachAnswer, ClientKind, ClientResponse, ClientStatus, ConnectionSession, DATA_SECTORS_MAX,
    DISCARD_SECTORS_MAX,
};

/// What a client asked for.
pub(super) struct Asked {
    pub(super) number: u64,
    pub(super) attach: Attach,
    /// Drawn for it.
    pub(super) session: ConnectionSession,
}

/// Waits for the outcome of an attach. It is given up when the connection ends first, and refused
/// when the process goes away.
pub(super) async fn wait_for<A>(
    attach: impl Future<Output = Result<A, AttachRefusal>>,
    stream: &mut ClassicStream,
    stage: &mut watch::Receiver<Stage>,
) -> Result<Result<A, AttachRefusal>, NetError> {
    let mut to_stop = stage.clone();
    tokio::select! {
        biased;
        () = reached(&mut to_stop, Stage::Stopped) => Err(NetError::Stopped),
        () = reached(stage, Stage::Draining) => Ok(Err(AttachRefusal::ShuttingDown)),
        ended = stream.end() => Err(ended),
        outcome = attach => Ok(outcome),
    }
}

/// The answer of a process that has not attached the client, of a disk of so many sectors.
pub(super) fn unattached(settings: &Settings, process: Rank, sectors: u64) -> AttachAnswer {
    let heartbeat = settings.client_heartbeat_after.as_millis();
    AttachAnswer {
        generation: Generation(0),
        sectors,
        data_sectors_max: DATA_SECTORS_MAX,
        discard_sectors_max: DISCARD_SECTORS_MAX,
        heartbeat_ms: u32::try_from(heartbeat).unwrap_or(u32::MAX),
        process,
        holder: String::new(),
    }
}

/// What the client is told of its attachment.
pub(super) fn granted(
    number: u64,
    attached: &impl Attached,
    unattached: &AttachAnswer,
) -> ClientResponse {
    let answer = AttachAnswer {
        generation: attached.fence().generation,
        sectors: attached.sectors(),
        ..unattached.clone()
    };
    response(number, ClientStatus::Ok, &answer)
}

/// What the client is told instead.
pub(super) fn refused(
    number: u64,
    refusal: &AttachRefusal,
    unattached: &AttachAnswer,
) -> ClientResponse {
    let mut answer = unattached.clone();
    match refusal {
        AttachRefusal::Held(holder) => {
            answer.generation = holder.generation;
            answer.process = holder.process;
            answer.holder.clone_from(&holder.client);
        }
        AttachRefusal::Fenced { by } => answer.generation = *by,
        AttachRefusal::Elsewhere { process } => answer.process = *process,
        AttachRefusal::Contended | AttachRefusal::ShuttingDown => {}
    }
    response(number, refusal_status(refusal), &answer)
}

/// What the client is told of an ATTACH that cannot be one, or not here.
pub(super) fn invalid(number: u64, unattached: &AttachAnswer) -> ClientResponse {
    response(number, ClientStatus::Invalid, unattached)
}

pub(super) fn refusal_status(refusal: &AttachRefusal) -> ClientStatus {
    match refusal {
        AttachRefusal::Held(_) => ClientStatus::Held,
        AttachRefusal::Fenced { .. } => ClientStatus::Fenced,
        AttachRefusal::Elsewhere { .. } => ClientStatus::Elsewhere,
        AttachRefusal::Contended => ClientStatus::Contended,
        AttachRefusal::ShuttingDown => ClientStatus::ShuttingDown,
    }
}

pub(super) fn error_status(error: &OperationError) -> ClientStatus {
    match error {
        OperationError::Unreadable => ClientStatus::Unreadable,
        OperationError::PastEnd { .. } => ClientStatus::InvalidSectorIndex,
        OperationError::ReadOnly => ClientStatus::ReadOnly,
        OperationError::Fenced { .. } => ClientStatus::Fenced,
        OperationError::TimedOut => ClientStatus::TimedOut,
        OperationError::ShuttingDown => ClientStatus::ShuttingDown,
    }
}

fn response(number: u64, status: ClientStatus, answer: &AttachAnswer) -> ClientResponse {
    ClientResponse {
        number,
        kind: ClientKind::Attach,
        status,
        content: answer.encode(),
    }
}
