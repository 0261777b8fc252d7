//! What an attachment has under way, over all its sessions: pure, without time or sockets.
//!
//! What it guarantees, by the numbers of `ATTACHMENTS.md`:
//!
//! - A change that was sent and not answered is sent again only under a generation that this owner
//!   opened, and that is newer than the one it was sent under; then before every later change of
//!   its sectors (rule 5). Otherwise its outcome is unknown, and it is never sent again.
//! - No two changes of one sector are under way at once, whatever their callers do: a later one
//!   waits until the earlier one is answered, also when nobody waits for that answer any more
//!   (rule 11).
//! - Never more is under way than the session's credit allows.
//!
//! A read changes nothing and is sent as often as need be; it waits for no change.

use std::collections::{BTreeMap, BTreeSet};

use super::ClientError;
use super::overlaps::Overlaps;
use super::work::{BYTES_MAX, Work};
use crate::domain::{Attach, AttachKind, AttachRefusal, Fence, Rank};
use crate::wire::{Credit, RequestNumber, STATUS_BYTES_MAX, SectorValues, SessionQuestion};

#[cfg(test)]
mod tests;

/// What an attachment has under way; `T` is whatever the answer to a request goes to.
#[derive(Debug)]
pub(super) struct Failover<T> {
    wanted: Attach,
    /// The fence that was granted last.
    fence: Option<Fence>,
    /// What the credit of the attached session leaves; `None` while there is no such session.
    room: Option<Credit>,
    requests: BTreeMap<RequestNumber, Request<T>>,
    /// Those that may be sent.
    ready: BTreeSet<RequestNumber>,
    /// Those that were sent in this session or, until the next is attached, in the one before.
    sent: BTreeSet<RequestNumber>,
    changes: Overlaps,
    next_number: u64,
}

#[derive(Debug)]
struct Request<T> {
    work: Work,
    /// Whether it was sent in any session, and may have happened.
    tried: bool,
    ticket: T,
}

/// What to do after an attach was refused.
#[derive(Debug)]
pub(super) enum AfterRefusal {
    /// Ask again after a random pause.
    Again,
    /// Ask another process.
    Another,
    /// Ask this one.
    At(Rank),
    /// Nothing: the attachment has ended, or never came to be.
    Over(ClientError),
}

/// What the driver may ask on its own account, beside requests: how the process stands, and to be
/// detached.
const SET_ASIDE: Credit = Credit {
    requests: 2,
    bytes: STATUS_BYTES_MAX as u64,
};

/// The process answered what it was not asked, or in a way that does not fit.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unfitting;

impl<T> Failover<T> {
    pub(super) fn new(wanted: Attach) -> Self {
        Self {
            wanted,
            fence: None,
            room: None,
            requests: BTreeMap::new(),
            ready: BTreeSet::new(),
            sent: BTreeSet::new(),
            changes: Overlaps::default(),
            next_number: 0,
        }
    }

    /// What a new session asks for.
    pub(super) fn attach(&self) -> Attach {
        let Some(fence) = self.fence else {
            return self.wanted;
        };
        Attach {
            // Whoever took the disk over since then is not fenced in turn.
            take_over: false,
            continues: (self.wanted.kind != AttachKind::ReadOnly).then_some(fence.generation),
            ..self.wanted
        }
    }

    /// A session is attached. Returns the tickets of the changes that must not be sent again.
    pub(super) fn granted(&mut self, fence: Fence, credit: Credit) -> Result<Vec<T>, Unfitting> {
        let room = Credit {
            requests: credit.requests.saturating_sub(SET_ASIDE.requests),
            bytes: credit.bytes.saturating_sub(SET_ASIDE.bytes),
        };
        if room.requests == 0 || room.bytes < BYTES_MAX {
            return Err(Unfitting);
        }
        let before = self.fence.replace(fence);
        self.room = Some(room);
        // One that joined shares its generation with others, and with its own earlier session, whose
        // requests may still be carried out.
        let alone = before
            .is_none_or(|before| fence.generation > before.generation && !self.joins())
            && fence.owner() == Some(self.wanted.owner);
        let unknown = if alone { Vec::new() } else { self.give_up() };
        self.ready.append(&mut self.sent);
        Ok(unknown)
    }

    /// The session is gone. Returns the tickets of the changes of which nobody knows whether they
    /// have happened, if that is certain already.
    pub(super) fn lost(&mut self) -> Vec<T> {
        self.room = None;
        match self.wanted.kind {
            AttachKind::Shared => self.give_up(),
            AttachKind::Exclusive { .. } | AttachKind::ReadOnly => Vec::new(),
        }
    }

    /// What to do about a refusal; `Held` by an earlier attempt of this very owner goes away.
    pub(super) fn refused(&self, refusal: AttachRefusal) -> AfterRefusal {
        let first = self.fence.is_none() && self.wanted.continues.is_none();
        match refusal {
            AttachRefusal::Held(holder) if first && holder.owner != self.wanted.owner => {
                AfterRefusal::Over(ClientError::Held(holder))
            }
            AttachRefusal::Fenced { by } if !first && self.writes() => {
                // A refusal does not say whose the generation is.
                AfterRefusal::Over(ClientError::Fenced { by, owner: None })
            }
            AttachRefusal::Held(_) | AttachRefusal::Fenced { .. } | AttachRefusal::Contended => {
                AfterRefusal::Again
            }
            AttachRefusal::Elsewhere { process } => AfterRefusal::At(process),
            AttachRefusal::ShuttingDown => AfterRefusal::Another,
        }
    }

    /// Whether the attachment is over when a session is lost under which it was granted. One that
    /// joined others is: whoever uses the device may have sent everything that this client has,
    /// answered or not, over another gateway since, and something newer after it. That nobody else
    /// opened a generation says nothing, since they all write under one.
    pub(super) fn ends_with_its_session(&self) -> bool {
        self.joins() && self.fence.is_some()
    }

    fn joins(&self) -> bool {
        matches!(self.wanted.kind, AttachKind::Exclusive { join: Some(_) })
    }

    /// Whether the attachment is over when a session ends by this fence. One that is read-only
    /// follows it. So does the owner of the newer generation: it was opened by an older session that
    /// had been given up, or for readers while the process was out of reach. A fence that is not
    /// newer means that the attachment was released.
    pub(super) fn is_fenced_for_good(&self, by: Fence) -> bool {
        let released = self.fence.is_none_or(|own| by.generation <= own.generation);
        self.writes() && (released || by.owner() != Some(self.wanted.owner))
    }

    /// What callers hear when this fence has ended the attachment.
    pub(super) fn fenced_by(&self, by: Fence) -> ClientError {
        ClientError::Fenced {
            by: by.generation,
            // The own one says that the attachment was released.
            owner: by.owner().filter(|owner| *owner != self.wanted.owner),
        }
    }

    fn writes(&self) -> bool {
        self.wanted.kind != AttachKind::ReadOnly
    }

    /// The fence that operations run under, once there was one.
    pub(super) fn fence(&self) -> Option<Fence> {
        self.fence
    }

    /// Takes in a request, later than all before.
    pub(super) fn ask(&mut self, work: Work, ticket: T) {
        let number = RequestNumber(self.next_number);
        self.next_number += 1;
        let free = match work.changed() {
            Some((first, count)) => self.changes.enter(number, first, count),
            None => true,
        };
        if free {
            self.ready.insert(number);
        }
        let request = Request {
            work,
            tried: false,
            ticket,
        };
        self.requests.insert(number, request);
    }

    /// The next request to send, as long as the credit allows one; none overtakes another.
    pub(super) fn next_question(&mut self) -> Option<SessionQuestion> {
        let room = self.room.as_mut()?;
        let number = *self.ready.first()?;
        let request = self.requests.get_mut(&number);
        let request = request.expect("what is ready has no answer yet");
        *room = Credit {
            requests: room.requests.checked_sub(1)?,
            bytes: room.bytes.checked_sub(request.work.bytes())?,
        };
        request.tried = true;
        self.ready.remove(&number);
        self.sent.insert(number);
        Some(request.work.question(number))
    }

    /// A write, discard or flush is done.
    pub(super) fn done(&mut self, number: RequestNumber) -> Result<T, Unfitting> {
        self.answered(number, |work| !matches!(work, Work::Read { .. }))
            .map(|request| request.ticket)
    }

    /// A read has its values.
    pub(super) fn values(
        &mut self,
        number: RequestNumber,
        values: &[SectorValues],
    ) -> Result<T, Unfitting> {
        self.answered(number, |work| work.is_answered_by(values))
            .map(|request| request.ticket)
    }

    /// A request failed, and nobody tries it again.
    pub(super) fn failed(&mut self, number: RequestNumber) -> Result<(Work, T), Unfitting> {
        self.answered(number, |_| true)
            .map(|request| (request.work, request.ticket))
    }

    /// Whether some request has no answer.
    pub(super) fn is_busy(&self) -> bool {
        !self.requests.is_empty()
    }

    /// Whether everything was sent that was asked for.
    pub(super) fn is_all_sent(&self) -> bool {
        self.room.is_some() && self.sent.len() == self.requests.len()
    }

    /// Ends everything: the tickets of all requests, each with whether it is a change that may have
    /// happened.
    pub(super) fn end(&mut self) -> Vec<(T, bool)> {
        self.room = None;
        self.ready.clear();
        self.sent.clear();
        self.changes = Overlaps::default();
        let requests = std::mem::take(&mut self.requests).into_values();
        let ended = requests.map(|request| {
            let unknown = request.is_change() && request.tried;
            (request.ticket, unknown)
        });
        ended.collect()
    }

    fn answered(
        &mut self,
        number: RequestNumber,
        fits: impl FnOnce(&Work) -> bool,
    ) -> Result<Request<T>, Unfitting> {
        let room = self.room.as_mut().ok_or(Unfitting)?;
        let request = self.requests.get(&number).ok_or(Unfitting)?;
        if !self.sent.contains(&number) || !fits(&request.work) {
            return Err(Unfitting);
        }
        room.requests += 1;
        room.bytes += request.work.bytes();
        Ok(self.forget(number))
    }

    /// Forgets the changes that were ever sent: their outcome is unknown.
    fn give_up(&mut self) -> Vec<T> {
        let unknown = self.requests.iter();
        let unknown = unknown.filter(|(_, request)| request.is_change() && request.tried);
        let unknown: Vec<_> = unknown.map(|(number, _)| *number).collect();
        let forgotten = unknown.into_iter().map(|number| self.forget(number).ticket);
        forgotten.collect()
    }

    fn forget(&mut self, number: RequestNumber) -> Request<T> {
        self.ready.remove(&number);
        self.sent.remove(&number);
        let request = self.requests.remove(&number);
        let request = request.expect("whoever forgets it has seen it");
        if request.is_change() {
            let ready = &mut self.ready;
            self.changes.leave(number, |freed| {
                ready.insert(freed);
            });
        }
        request
    }
}

impl<T> Request<T> {
    fn is_change(&self) -> bool {
        self.work.changed().is_some()
    }
}
