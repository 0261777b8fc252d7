//! Finding out which shared generation is open, for clients without an attachment of their own.
//!
//! It is a shared attach of the process itself, one for all who ask at the time. It ends as soon as
//! it is granted: a generation that was opened stays open, and whoever runs under it holds nothing.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::attached_clients::PATIENCE;
use crate::attachment::{AttachmentId, Input};
use crate::domain::{Attach, AttachKind, AttachRefusal, Fence, OwnerId};

/// The longest rest before another try, when others attach at the same time.
const REST_MAX: Duration = Duration::from_millis(50);

/// Who waits for it, and how far it is.
#[derive(Debug, Default)]
pub(crate) struct Confirmation {
    waiting: Vec<oneshot::Sender<Result<Fence, AttachRefusal>>>,
    phase: Phase,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Idle,
    /// The keeper is at it.
    Asking {
        id: AttachmentId,
        /// When it has waited long enough for now.
        due: Instant,
    },
    /// Another attach was under way.
    Resting { until: Instant },
}

impl Confirmation {
    /// Takes one who wants to know; if nothing is under way, an attach of this name begins.
    pub(crate) fn ask(
        &mut self,
        answer: oneshot::Sender<Result<Fence, AttachRefusal>>,
        id: AttachmentId,
    ) -> Option<Input> {
        self.waiting.push(answer);
        matches!(self.phase, Phase::Idle).then(|| self.begin(id))
    }

    /// Whether the attach of this name is its.
    pub(crate) fn is(&self, id: AttachmentId) -> bool {
        matches!(self.phase, Phase::Asking { id: own, .. } if own == id)
    }

    pub(crate) fn granted(&mut self, fence: Fence) {
        self.phase = Phase::Idle;
        for waiting in self.waiting.drain(..) {
            // Whoever has gone needs no answer.
            drop(waiting.send(Ok(fence)));
        }
    }

    pub(crate) fn refused(&mut self, refusal: &AttachRefusal) {
        if *refusal == AttachRefusal::Contended {
            let rest = REST_MAX.mul_f64(rand::random_range(0.1..=1.0));
            let until = Instant::now() + rest;
            self.phase = Phase::Resting { until };
            return;
        }
        self.phase = Phase::Idle;
        for waiting in self.waiting.drain(..) {
            drop(waiting.send(Err(refusal.clone())));
        }
    }

    /// When [`Self::time_passed`] is to be called next.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self.phase {
            Phase::Idle => None,
            Phase::Asking { due: at, .. } | Phase::Resting { until: at } => Some(at),
        }
    }

    /// What follows, if it is due: an attach of this name after a rest; an end of waiting; or the
    /// end of an attach that nobody waits for any more.
    pub(crate) fn time_passed(&mut self, now: Instant, new: AttachmentId) -> Option<Input> {
        if self.due().is_none_or(|due| due > now) {
            return None;
        }
        self.waiting.retain(|waiting| !waiting.is_closed());
        let wanted = !self.waiting.is_empty();
        match &mut self.phase {
            Phase::Asking { id, due } if wanted => {
                *due = now + PATIENCE;
                Some(Input::StopWaiting { id: *id })
            }
            Phase::Asking { id, .. } => {
                let id = *id;
                self.phase = Phase::Idle;
                Some(Input::Detach { id })
            }
            Phase::Resting { .. } if wanted => Some(self.begin(new)),
            Phase::Resting { .. } | Phase::Idle => {
                self.phase = Phase::Idle;
                None
            }
        }
    }

    fn begin(&mut self, id: AttachmentId) -> Input {
        let due = Instant::now() + PATIENCE;
        self.phase = Phase::Asking { id, due };
        Input::Attach {
            id,
            attach: Attach {
                owner: OwnerId(rand::random()),
                kind: AttachKind::Shared,
                take_over: false,
                continues: None,
            },
            client: "clients without an attachment".to_owned(),
            now: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Generation;

    type Answered = oneshot::Receiver<Result<Fence, AttachRefusal>>;

    fn ask(confirmation: &mut Confirmation, id: u64) -> (Answered, Option<Input>) {
        let (answer, answered) = oneshot::channel();
        let begun = confirmation.ask(answer, AttachmentId(id));
        (answered, begun)
    }

    #[tokio::test(start_paused = true)]
    async fn one_attach_is_for_all_who_ask() {
        let mut confirmation = Confirmation::default();
        let (first, begun) = ask(&mut confirmation, 1);
        let (second, again) = ask(&mut confirmation, 2);
        let Some(Input::Attach { id, attach, .. }) = begun else {
            panic!("an attach begins");
        };
        assert_eq!((id, attach.kind), (AttachmentId(1), AttachKind::Shared));
        assert!(again.is_none(), "it is under way already");
        assert!(confirmation.is(id) && !confirmation.is(AttachmentId(2)));
        let fence = Fence {
            generation: Generation(4),
            ..Fence::INITIAL
        };
        confirmation.granted(fence);
        assert_eq!(first.await.unwrap(), Ok(fence));
        assert_eq!(second.await.unwrap(), Ok(fence));
        assert!(!confirmation.is(id));
        assert!(ask(&mut confirmation, 3).1.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_contended_attach_is_tried_again_and_another_refusal_is_final() {
        let mut confirmation = Confirmation::default();
        let (answered, _) = ask(&mut confirmation, 1);
        confirmation.refused(&AttachRefusal::Contended);
        let early = confirmation.time_passed(Instant::now(), AttachmentId(2));
        assert!(early.is_none(), "it rests");
        let (_, begun) = ask(&mut confirmation, 3);
        assert!(begun.is_none(), "it rests");
        tokio::time::sleep(REST_MAX).await;
        let again = confirmation.time_passed(Instant::now(), AttachmentId(4));
        assert!(matches!(
            again,
            Some(Input::Attach {
                id: AttachmentId(4),
                ..
            })
        ));
        confirmation.refused(&AttachRefusal::ShuttingDown);
        assert_eq!(answered.await.unwrap(), Err(AttachRefusal::ShuttingDown));
        assert_eq!(confirmation.due(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_for_as_long_as_somebody_waits() {
        let mut confirmation = Confirmation::default();
        let (answered, _) = ask(&mut confirmation, 1);
        for _ in 0..3 {
            tokio::time::sleep(PATIENCE).await;
            let stopped = confirmation.time_passed(Instant::now(), AttachmentId(2));
            let own = AttachmentId(1);
            assert!(matches!(stopped, Some(Input::StopWaiting { id }) if id == own));
        }
        drop(answered);
        tokio::time::sleep(PATIENCE).await;
        let ended = confirmation.time_passed(Instant::now(), AttachmentId(2));
        assert!(matches!(
            ended,
            Some(Input::Detach {
                id: AttachmentId(1)
            })
        ));
        assert_eq!(confirmation.due(), None);
    }
}
