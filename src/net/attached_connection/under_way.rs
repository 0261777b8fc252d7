//! An operation of an attached classic client, of which is known what it will be answered to.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use crate::wire::{ClientKind, SessionAnswer};

/// An operation that runs.
pub(super) struct UnderWay {
    pub(super) number: u64,
    pub(super) kind: ClientKind,
    cost: u64,
    work: Pin<Box<dyn Future<Output = SessionAnswer> + Send>>,
}

/// An operation that is done, or has failed.
pub(super) struct Ended {
    pub(super) number: u64,
    pub(super) kind: ClientKind,
    /// The bytes that it counted for.
    pub(super) cost: u64,
    pub(super) answer: SessionAnswer,
}

impl UnderWay {
    pub(super) fn new(
        number: u64,
        kind: ClientKind,
        cost: u64,
        work: impl Future<Output = SessionAnswer> + Send + 'static,
    ) -> Self {
        Self {
            number,
            kind,
            cost,
            work: Box::pin(work),
        }
    }
}

impl Future for UnderWay {
    type Output = Ended;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ended> {
        let answer = ready!(self.work.as_mut().poll(context));
        Poll::Ready(Ended {
            number: self.number,
            kind: self.kind,
            cost: self.cost,
            answer,
        })
    }
}
