//! The attachment of a session, from its attach to its end, and the operations that run under it.

use std::future::pending;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;

use super::super::{Attached, Host};
use super::outbox::Place;
use crate::domain::{
    Attach, AttachKind, AttachRefusal, Content, Extent, Fence, OperationError, SECTOR_SIZE,
    SECTOR_SIZE_U64,
};
use crate::wire::{RequestNumber, SectorValues, SessionAnswer};

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// How far the one attachment of a session is.
pub(super) enum Binding<'a, A> {
    /// Nobody has attached.
    Free,
    /// The process looks for a majority.
    Attaching {
        kind: AttachKind,
        place: Place,
        outcome: Boxed<'a, Result<A, AttachRefusal>>,
    },
    /// Operations run.
    Attached(Bound<A>),
    /// What was asked before the detach is waited for.
    Detaching(Bound<A>),
    /// It was given back, or has ended: there is no second one.
    Over,
}

/// An attachment that was granted.
pub(in crate::net) struct Bound<A> {
    attached: Arc<A>,
    read_only: bool,
    fenced: Boxed<'static, Fence>,
}

/// What becomes of an attachment by itself.
pub(super) enum News<A> {
    Attach(Result<A, AttachRefusal>),
    Fenced(Fence),
}

/// What is to be done with sectors.
pub(in crate::net) enum Operation {
    Read { first: u64, count: u32 },
    Write { first: u64, data: Bytes },
    Discard { first: u64, count: u32 },
}

impl<'a, A: Attached> Binding<'a, A> {
    pub(super) fn attaching<H: Host<Attached = A>>(
        host: &'a H,
        attach: Attach,
        client: String,
        place: Place,
    ) -> Self {
        Self::Attaching {
            kind: attach.kind,
            place,
            outcome: Box::pin(host.attach(attach, client)),
        }
    }

    /// Waits for news; nothing is lost when the future is dropped.
    pub(super) async fn news(&mut self) -> News<A> {
        match self {
            Self::Free | Self::Over => pending().await,
            Self::Attaching { outcome, .. } => News::Attach(outcome.await),
            Self::Attached(bound) | Self::Detaching(bound) => News::Fenced(bound.fenced().await),
        }
    }
}

impl<A: Attached> Bound<A> {
    pub(in crate::net) fn new(attached: A, kind: AttachKind) -> Self {
        let attached = Arc::new(attached);
        let watched = Arc::clone(&attached);
        Self {
            attached,
            read_only: kind == AttachKind::ReadOnly,
            fenced: Box::pin(async move { watched.fenced().await }),
        }
    }

    /// Returns once a newer generation has ended it; not to be asked again then. Nothing is lost
    /// when the future is dropped.
    pub(in crate::net) async fn fenced(&mut self) -> Fence {
        self.fenced.as_mut().await
    }

    /// The operation of this request, to its answer; or why the process is not even asked for it.
    pub(in crate::net) fn operate(
        &self,
        number: RequestNumber,
        operation: Operation,
    ) -> Result<impl Future<Output = SessionAnswer> + Send + use<A>, OperationError> {
        if self.read_only && operation.is_change() {
            return Err(OperationError::ReadOnly);
        }
        let sectors = self.attached.sectors();
        if operation.end().is_none_or(|end| end > sectors) {
            return Err(OperationError::PastEnd { sectors });
        }
        let attached = Arc::clone(&self.attached);
        Ok(async move {
            let answer = operation.run(&*attached, number).await;
            answer.unwrap_or_else(|error| SessionAnswer::Failed { number, error })
        })
    }
}

impl Operation {
    async fn run(
        self,
        attached: &impl Attached,
        number: RequestNumber,
    ) -> Result<SessionAnswer, OperationError> {
        match self {
            Self::Read { first, count } => {
                let values = values(attached.read(first, count).await?);
                return Ok(SessionAnswer::Values { number, values });
            }
            Self::Write { first, data } => attached.write(first, data).await?,
            Self::Discard { first, count } => attached.discard(first, count).await?,
        }
        Ok(SessionAnswer::Done { number })
    }

    /// The bytes that it carries, or is answered with.
    pub(in crate::net) fn cost(&self) -> u64 {
        match self {
            Self::Read { count, .. } => u64::from(*count) * SECTOR_SIZE_U64,
            Self::Write { data, .. } => u64::try_from(data.len()).expect("memory is below 2^64"),
            Self::Discard { .. } => 0,
        }
    }

    fn is_change(&self) -> bool {
        match self {
            Self::Read { .. } => false,
            Self::Write { .. } | Self::Discard { .. } => true,
        }
    }

    /// The index after its last sector, if there can be one.
    fn end(&self) -> Option<u64> {
        match self {
            Self::Read { first, count } | Self::Discard { first, count } => {
                first.checked_add(u64::from(*count))
            }
            Self::Write { first, data } => {
                let sectors = u64::try_from(data.len() / SECTOR_SIZE);
                first.checked_add(sectors.expect("memory is below 2^64"))
            }
        }
    }
}

/// The values without their stamps; zeroes that follow one another are one part.
fn values(extents: Vec<Extent>) -> Vec<SectorValues> {
    let mut values: Vec<SectorValues> = Vec::with_capacity(extents.len());
    for extent in extents {
        match (extent.content, values.last_mut()) {
            (Content::Zeroes, Some(SectorValues::Zeroes(count))) => *count += extent.range.count(),
            (Content::Zeroes, _) => values.push(SectorValues::Zeroes(extent.range.count())),
            (Content::Data(data), _) => values.push(SectorValues::Data(data)),
            (Content::Unchanged, _) => unreachable!("only stores carry it"),
        }
    }
    values
}
