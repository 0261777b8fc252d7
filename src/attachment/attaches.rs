//! The attaches of this process that are under way, and what they ask of whom.

use std::collections::BTreeMap;

use crate::domain::{
    ATTACH_SHARD, Attach, AttachKind, AttachRefusal, Fence, OperationId, OwnerId, Rank, Request,
    RequestId, Tag,
};

use super::opening::Opening;
use super::{AttachmentId, Config, Output};

/// As many attaches as there are clients that wait for theirs, each with its name.
#[derive(Debug)]
pub(super) struct Attaches {
    config: Config,
    under_way: BTreeMap<AttachmentId, Opening>,
    /// Names the next attach in its requests and in the tag of what it opens.
    next_sequence: u64,
}

impl Attaches {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            under_way: BTreeMap::new(),
            next_sequence: 0,
        }
    }

    /// An attach that has not begun to ask.
    pub(super) fn create(&mut self, attach: Attach, client: String, now: u64) -> Opening {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        Opening::new(sequence, attach, client, now)
    }

    /// Begins to ask the peers; this process is to be asked under the name that it gives back.
    pub(super) fn ask(
        &mut self,
        id: AttachmentId,
        opening: Opening,
        out: &mut Vec<Output>,
    ) -> RequestId {
        let request = self.request_id(&opening);
        let before = self.under_way.insert(id, opening);
        assert!(before.is_none(), "an attachment's name is used once");
        self.broadcast(id, out);
        request
    }

    /// Has the peers open this fence; so has this process under the name that it gives back.
    pub(super) fn open(
        &mut self,
        id: AttachmentId,
        target: Fence,
        out: &mut Vec<Output>,
    ) -> RequestId {
        let opening = self.under_way.get_mut(&id).expect("it asks");
        opening.open(target);
        self.broadcast(id, out);
        self.request_id(&self.under_way[&id])
    }

    /// Ends an attach: nothing more is sent for it, and what is answered to it is not heard.
    pub(super) fn remove(&mut self, id: AttachmentId) -> Option<Opening> {
        self.under_way.remove(&id)
    }

    pub(super) fn get_mut(&mut self, id: AttachmentId) -> Option<&mut Opening> {
        self.under_way.get_mut(&id)
    }

    /// In the order of their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (AttachmentId, &Opening)> {
        self.under_way.iter().map(|(&id, opening)| (id, opening))
    }

    /// Whose present round this request is.
    pub(super) fn asked(&mut self, request: RequestId) -> Option<(AttachmentId, &mut Opening)> {
        let RequestId { operation, round } = request;
        if operation != self.operation_id(operation.sequence) {
            return None;
        }
        let mut under_way = self.under_way.iter_mut();
        let (&id, opening) = under_way.find(|(_, it)| it.sequence == operation.sequence)?;
        (opening.round() == round).then_some((id, opening))
    }

    /// Those that open another fence than the one that has been accepted, and what their clients
    /// are told.
    pub(super) fn overtaken(&self, by: Fence) -> Vec<(AttachmentId, AttachRefusal)> {
        let opens_another = |opening: &Opening| opening.target().is_some_and(|target| target != by);
        let overtaken = self.iter().filter(|(_, opening)| opens_another(opening));
        overtaken
            .map(|(id, opening)| (id, opening.refused_by(by)))
            .collect()
    }

    /// Whether another owner is about to write alone.
    pub(super) fn others_open(&self, owner: OwnerId) -> bool {
        self.exclusive().any(|(other, _)| other != owner)
    }

    /// Whether another gateway of the same device is about to be what this attach could join.
    pub(super) fn is_joinable(&self, opening: &Opening) -> bool {
        let kind = opening.attach.kind;
        let is_keyed = matches!(kind, AttachKind::Exclusive { join: Some(_) });
        let mut others = self.under_way.values();
        is_keyed
            && others.any(|other| {
                other.sequence != opening.sequence
                    && other.attach.kind == kind
                    && other.target().is_some()
            })
    }

    /// Asks a peer whatever it has not answered.
    pub(super) fn resend(&self, peer: Rank, out: &mut Vec<Output>) {
        for opening in self.under_way.values() {
            self.ask_peer(peer, opening, out);
        }
    }

    /// The tag of a generation that this attach opens.
    pub(super) fn tag(&self, opening: &Opening) -> Tag {
        Tag {
            coordinator: self.config.own,
            incarnation: self.config.incarnation,
            sequence: opening.sequence,
        }
    }

    /// What names the present round of an attach that is under way.
    pub(super) fn request(&self, id: AttachmentId) -> Option<RequestId> {
        let opening = self.under_way.get(&id)?;
        Some(self.request_id(opening))
    }

    fn request_id(&self, opening: &Opening) -> RequestId {
        RequestId {
            operation: self.operation_id(opening.sequence),
            round: opening.round(),
        }
    }

    /// The exclusive ones in their second round: whose, and what they open.
    fn exclusive(&self) -> impl Iterator<Item = (OwnerId, Fence)> {
        let exclusive = |it: &&Opening| matches!(it.attach.kind, AttachKind::Exclusive { .. });
        let openings = self.under_way.values().filter(exclusive);
        openings.filter_map(|it| it.target().map(|target| (it.attach.owner, target)))
    }

    fn broadcast(&self, id: AttachmentId, out: &mut Vec<Output>) {
        for rank in Rank::all(self.config.processes).filter(|&rank| rank != self.config.own) {
            self.ask_peer(rank, &self.under_way[&id], out);
        }
    }

    fn ask_peer(&self, to: Rank, opening: &Opening, out: &mut Vec<Output>) {
        if let Some(question) = opening.owed(to) {
            let request = Request {
                id: self.request_id(opening),
                authority: opening.target().unwrap_or(Fence::INITIAL),
                question,
            };
            out.push(Output::Request { to, request });
        }
    }

    fn operation_id(&self, sequence: u64) -> OperationId {
        OperationId {
            coordinator: self.config.own,
            incarnation: self.config.incarnation,
            shard: ATTACH_SHARD,
            sequence,
        }
    }
}
