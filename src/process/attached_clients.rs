//! The clients of this process that attach or are attached, as the keeper's task knows them.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::attachment::{AttachmentId, Input};
use crate::domain::{
    Attach, AttachKind, AttachRefusal, AttachmentReport, Fence, Mode, ReportedKind,
};

/// How long an attach waits for the answer of a process that others say is alive; and again.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// A client's attachment, granted.
#[derive(Debug)]
pub(crate) struct Granted {
    /// The authority of its operations.
    pub(crate) fence: Fence,
    /// The newer fence, once the attachment has ended; its own if it was released.
    pub(crate) ended: watch::Receiver<Option<Fence>>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct AttachedClients {
    asking: BTreeMap<AttachmentId, Asking>,
    attached: BTreeMap<AttachmentId, Attached>,
    /// When each of those that ask has waited long enough, ascending; some may have gone.
    waits: VecDeque<(Instant, AttachmentId)>,
    /// How many attachments were ended by a newer fence or an operator.
    ended: u64,
    changed: bool,
}

#[derive(Debug)]
struct Asking {
    attach: Attach,
    client: String,
    answer: oneshot::Sender<Result<Granted, AttachRefusal>>,
}

#[derive(Debug)]
struct Attached {
    attach: Attach,
    client: String,
    fence: Fence,
    /// Whether another one had the generation before.
    joined: bool,
    since: u64,
    ended: watch::Sender<Option<Fence>>,
}

impl AttachedClients {
    /// Takes a client that wants to attach; the keeper is to be told.
    pub(crate) fn ask(
        &mut self,
        id: AttachmentId,
        attach: Attach,
        client: String,
        answer: oneshot::Sender<Result<Granted, AttachRefusal>>,
    ) -> Input {
        let asking = Asking {
            attach,
            client: client.clone(),
            answer,
        };
        self.asking.insert(id, asking);
        self.waits.push_back((Instant::now() + PATIENCE, id));
        Input::Attach {
            id,
            attach,
            client,
            now: seconds_since_1970(),
        }
    }

    /// Forgets a client that has gone; whether the keeper still knows of it.
    pub(crate) fn remove(&mut self, id: AttachmentId) -> bool {
        let attached = self.attached.remove(&id).is_some();
        self.changed |= attached;
        attached || self.asking.remove(&id).is_some()
    }

    pub(crate) fn granted(&mut self, id: AttachmentId, fence: Fence) {
        let Some(Asking {
            attach,
            client,
            answer,
        }) = self.asking.remove(&id)
        else {
            return;
        };
        tracing::debug!(?id, kind = ?attach.kind, ?fence, "attached {client}");
        let (ended, watched) = watch::channel(None);
        let joined = self.attached.values().any(|other| {
            other.fence == fence && matches!(other.attach.kind, AttachKind::Exclusive { .. })
        });
        let attached = Attached {
            attach,
            client,
            fence,
            joined,
            since: seconds_since_1970(),
            ended,
        };
        self.attached.insert(id, attached);
        self.changed = true;
        // A client that has gone detaches by itself.
        drop(answer.send(Ok(Granted {
            fence,
            ended: watched,
        })));
    }

    pub(crate) fn refused(&mut self, id: AttachmentId, refusal: AttachRefusal) {
        if let Some(Asking { client, answer, .. }) = self.asking.remove(&id) {
            tracing::debug!(?id, %refusal, "did not attach {client}");
            drop(answer.send(Err(refusal)));
        }
    }

    pub(crate) fn fenced(&mut self, id: AttachmentId, by: Fence) {
        let attached = self.attached.remove(&id);
        if let Some(Attached {
            client,
            ended,
            fence,
            ..
        }) = attached
        {
            let why = ending(fence, by);
            tracing::info!("the attachment of {client} has ended: {why}");
            self.ended += 1;
            self.changed = true;
            ended.send_replace(Some(by));
        }
    }

    /// One that has waited long enough for now, as the keeper is to be told.
    pub(crate) fn stop_waiting(&mut self, now: Instant) -> Option<Input> {
        while let Some(&(due, id)) = self.waits.front()
            && due <= now
        {
            self.waits.pop_front();
            if self.asking.contains_key(&id) {
                self.waits.push_back((now + PATIENCE, id));
                return Some(Input::StopWaiting { id });
            }
        }
        None
    }

    /// When [`Self::stop_waiting`] is to be asked next.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.waits.front().map(|(due, _)| *due)
    }

    /// How many attachments have been ended so far.
    pub(crate) fn ended(&self) -> u64 {
        self.ended
    }

    /// The newest generation under which a client of this process writes.
    pub(crate) fn runs(&self) -> Option<Fence> {
        let writing = |attached: &&Attached| attached.attach.kind != AttachKind::ReadOnly;
        let fences = self.attached.values().filter(writing).map(|it| it.fence);
        fences.max_by_key(|fence| fence.generation)
    }

    /// All attachments, oldest first, if there is news of them.
    pub(crate) fn take_changes(&mut self) -> Option<Vec<AttachmentReport>> {
        let report = |attached: &Attached| AttachmentReport {
            owner: attached.fence.owner().unwrap_or(attached.attach.owner),
            kind: reported_kind(attached),
            generation: attached.fence.generation,
            client: attached.client.clone(),
            since: attached.since,
        };
        std::mem::take(&mut self.changed).then(|| self.attached.values().map(report).collect())
    }
}

fn reported_kind(attached: &Attached) -> ReportedKind {
    match attached.attach.kind {
        AttachKind::Exclusive { .. } if attached.joined => ReportedKind::Joined,
        AttachKind::Exclusive { .. } => ReportedKind::Exclusive,
        AttachKind::Shared => ReportedKind::Shared,
        AttachKind::ReadOnly => ReportedKind::ReadOnly,
    }
}

/// Why an attachment has ended, for whoever reads the log.
fn ending(of: Fence, by: Fence) -> String {
    if by == of {
        return "an operator released it".to_owned();
    }
    let generation = by.generation.0;
    match by.mode {
        Mode::Exclusive { tag, .. } => format!(
            "generation {generation} was opened through process {}",
            tag.coordinator
        ),
        Mode::Shared => format!("generation {generation} was opened, for shared use"),
        Mode::Reading { .. } => {
            format!("generation {generation} was opened, to read while this process was away")
        }
    }
}

fn seconds_since_1970() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Generation, Incarnation, OwnerId, Rank, Tag};

    #[test]
    fn the_log_says_who_ended_an_attachment() {
        let exclusive = |generation, coordinator| Fence {
            generation: Generation(generation),
            mode: Mode::Exclusive {
                owner: OwnerId([coordinator; 16]),
                tag: Tag {
                    coordinator: Rank::new(coordinator).unwrap(),
                    incarnation: Incarnation(1),
                    sequence: 1,
                },
            },
        };
        let own = exclusive(4, 2);
        assert_eq!(ending(own, own), "an operator released it");
        assert_eq!(
            ending(own, exclusive(5, 3)),
            "generation 5 was opened through process 3"
        );
        let shared = Fence {
            generation: Generation(6),
            mode: Mode::Shared,
        };
        assert_eq!(
            ending(own, shared),
            "generation 6 was opened, for shared use"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_attach_is_told_again_and_again_that_it_has_waited_long_enough() {
        let mut clients = AttachedClients::default();
        let attach = Attach {
            owner: OwnerId([1; 16]),
            kind: AttachKind::Shared,
            take_over: false,
            continues: None,
        };
        let mut answers = Vec::new();
        for id in 1..=2 {
            let (answer, answered) = oneshot::channel();
            clients.ask(AttachmentId(id), attach, "a test".to_owned(), answer);
            answers.push(answered);
            tokio::time::sleep(PATIENCE / 2).await;
        }
        let waited = |clients: &mut AttachedClients| match clients.stop_waiting(Instant::now()) {
            Some(Input::StopWaiting { id }) => Some(id),
            _ => None,
        };
        for _ in 0..2 {
            assert_eq!(waited(&mut clients), Some(AttachmentId(1)));
            assert_eq!(waited(&mut clients), None, "the second began later");
            tokio::time::sleep_until(clients.due().unwrap()).await;
            assert_eq!(waited(&mut clients), Some(AttachmentId(2)));
            tokio::time::sleep_until(clients.due().unwrap()).await;
        }
        clients.granted(AttachmentId(1), Fence::INITIAL);
        assert!(answers.remove(0).await.unwrap().is_ok());
        assert_eq!(waited(&mut clients), None, "it is attached");
        assert!(clients.remove(AttachmentId(2)), "it asked");
        assert!(!clients.remove(AttachmentId(2)), "it has gone");
        tokio::time::sleep(PATIENCE).await;
        assert_eq!(waited(&mut clients), None);
        assert_eq!(clients.due(), None);
    }
}
