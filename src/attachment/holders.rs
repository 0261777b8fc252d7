//! Who holds the volume: what runs in this process, what others say runs in theirs, and whom that
//! refuses.
//!
//! None of it matters for safety, which rests on generations alone: it only decides who is told
//! that somebody was first.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{Attach, AttachKind, AttachRefusal, Fence, Generation, Holder, OwnerId, Rank};

use super::opening::Heard;
use super::{AttachmentId, Output};

/// The attachments of this process, and what peers say of theirs.
#[derive(Debug)]
pub(super) struct Holders {
    own: Rank,
    processes: u8,
    /// In the order in which they were granted. All are of the accepted fence.
    granted: Vec<Granted>,
    /// What each connected peer says of itself.
    peers: BTreeMap<Rank, Vec<Holder>>,
    changed: bool,
}

#[derive(Debug)]
struct Granted {
    id: AttachmentId,
    fence: Fence,
    holder: Holder,
}

/// What stands between an attach and the volume.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Bar {
    None,
    /// A process that is said to run a holder may yet answer for itself.
    Unsure,
    Refused(AttachRefusal),
}

impl Holders {
    pub(super) fn new(own: Rank, processes: u8) -> Self {
        Self {
            own,
            processes,
            granted: Vec::new(),
            peers: BTreeMap::new(),
            changed: false,
        }
    }

    pub(super) fn grant(&mut self, id: AttachmentId, fence: Fence, holder: Holder) {
        self.changed |= holder.kind != AttachKind::ReadOnly;
        self.granted.push(Granted { id, fence, holder });
    }

    /// Ends an attachment, if there is one of this name.
    pub(super) fn end(&mut self, id: AttachmentId) {
        self.end_where(|granted| granted.id == id);
    }

    /// Ends the attachments of an owner, with those that joined it, and names them.
    pub(super) fn end_owner(&mut self, owner: OwnerId) -> Vec<AttachmentId> {
        self.end_where(|granted| {
            granted.holder.owner == owner || granted.fence.owner() == Some(owner)
        })
    }

    /// Ends the attachments of every other fence than this one, and names them.
    pub(super) fn end_overtaken(&mut self, by: Fence) -> Vec<AttachmentId> {
        self.end_where(|granted| granted.fence != by)
    }

    pub(super) fn connected(&mut self, peer: Rank) {
        self.peers.entry(peer).or_default();
    }

    pub(super) fn disconnected(&mut self, peer: Rank) {
        self.peers.remove(&peer);
    }

    /// What a peer says of itself; of others it knows nothing first hand.
    pub(super) fn told(&mut self, peer: Rank, mut holders: Vec<Holder>) {
        holders.retain(|holder| holder.process == peer);
        self.peers.insert(peer, holders);
    }

    /// Tells the peers, if there is anything new.
    pub(super) fn publish(&mut self, out: &mut Vec<Output>) {
        if std::mem::take(&mut self.changed) {
            let holders = self.own_holders().cloned().collect();
            out.push(Output::Holders { holders });
        }
    }

    /// Everything that runs here, oldest first.
    pub(super) fn attachments(&self) -> Vec<Holder> {
        let holders = self.granted.iter().map(|granted| granted.holder.clone());
        holders.collect()
    }

    /// What an asker is told: who holds the volume under this generation or a later one, here and
    /// at the connected peers. What is bounded of each process (its introduction) bounds it.
    pub(super) fn known(&self, from: Generation) -> Vec<Holder> {
        let own = self.own_holders().take(OWN_MAX);
        let known = own.chain(self.peers.values().flatten());
        known
            .filter(|holder| holder.generation >= from)
            .cloned()
            .collect()
    }

    pub(super) fn own(&self) -> Rank {
        self.own
    }

    /// Whether there is a connection to this peer.
    pub(super) fn is_connected(&self, peer: Rank) -> bool {
        self.peers.contains_key(&peer)
    }

    pub(super) fn majority(&self) -> usize {
        usize::from(self.processes / 2 + 1)
    }

    /// The fence of the exclusive attachment here that this attach joins: with the same key, or to
    /// read only. It opens nothing, since this process coordinates that generation already.
    pub(super) fn joined(&self, attach: &Attach) -> Option<Fence> {
        let joins = |granted: &&Granted| match (granted.holder.kind, attach.kind) {
            (AttachKind::Exclusive { .. }, AttachKind::ReadOnly) => true,
            _ => is_joined(&granted.holder, attach),
        };
        self.granted.iter().find(joins).map(|granted| granted.fence)
    }

    /// Everyone who is said to hold the volume under this generation. What a process answered of
    /// itself overrides what others say of it.
    pub(super) fn claims(
        &self,
        generation: Generation,
        answers: &BTreeMap<Rank, Heard>,
    ) -> Vec<Holder> {
        let others = answers.values().flat_map(|heard| &heard.holders);
        let said = self.own_holders().chain(self.peers.values().flatten());
        let mut claims: Vec<Holder> = Vec::new();
        for holder in said.chain(others) {
            let is_new = claims.iter().all(|claim| !same(claim, holder));
            if holder.generation == generation && is_new && self.stands(holder, answers) {
                claims.push(holder.clone());
            }
        }
        claims
    }

    /// Whether somebody who holds the volume under this generation refuses the attach. While it is
    /// patient it waits for connected processes to answer for themselves. Whoever is refused for
    /// others' sake is so only by a holder that a majority can reach; a reader, which fences nobody
    /// that does not answer, by every one. Who insists overtakes everybody but the other gateways of
    /// the same device, which are to be joined where they are.
    pub(super) fn bar(
        &self,
        attach: &Attach,
        generation: Generation,
        answers: &BTreeMap<Rank, Heard>,
        patient: bool,
    ) -> Bar {
        let reads = attach.kind == AttachKind::ReadOnly;
        let insists = attach.take_over || attach.continues.is_some() || self.runs(attach.owner);
        let overtakes = insists && !reads;
        let mut bar = Bar::None;
        for holder in self.claims(generation, answers) {
            let stands = !overtakes && refuses(&holder, attach);
            if !stands && !is_joined(&holder, attach) {
                continue;
            }
            let process = holder.process;
            let first_hand = process == self.own || answers.contains_key(&process);
            if patient && !first_hand && self.is_connected(process) {
                bar = Bar::Unsure;
            } else if reads || self.reporters(&holder, answers) >= self.majority() {
                return Bar::Refused(refusal(holder, attach));
            }
        }
        bar
    }

    fn runs(&self, owner: OwnerId) -> bool {
        self.own_holders().any(|holder| holder.owner == owner)
    }

    fn own_holders(&self) -> impl Iterator<Item = &Holder> {
        let holders = self.granted.iter().map(|granted| &granted.holder);
        holders.filter(|holder| holder.kind != AttachKind::ReadOnly)
    }

    /// Whether the holder's own process, as far as it has answered, says so too.
    fn stands(&self, holder: &Holder, answers: &BTreeMap<Rank, Heard>) -> bool {
        if holder.process == self.own {
            return self.own_holders().any(|own| same(own, holder));
        }
        let answer = answers.get(&holder.process);
        answer.is_none_or(|heard| heard.holders.iter().any(|own| same(own, holder)))
    }

    /// How many processes reach the holder: its own, and those that have answered and report it.
    /// This process reaches whoever has answered it.
    fn reporters(&self, holder: &Holder, answers: &BTreeMap<Rank, Heard>) -> usize {
        let mut reporters = BTreeSet::from([holder.process]);
        let told = self.peers.values().flatten().any(|told| same(told, holder));
        if told || answers.contains_key(&holder.process) {
            reporters.insert(self.own);
        }
        for (rank, heard) in answers {
            if *rank != self.own && heard.holders.iter().any(|told| same(told, holder)) {
                reporters.insert(*rank);
            }
        }
        reporters.len()
    }

    fn end_where(&mut self, ends: impl Fn(&Granted) -> bool) -> Vec<AttachmentId> {
        let mut ended = Vec::new();
        for granted in self.granted.extract_if(.., |granted| ends(granted)) {
            self.changed |= granted.holder.kind != AttachKind::ReadOnly;
            ended.push(granted.id);
        }
        ended
    }
}

/// The most own holders that an answer names: as many as an introduction does.
const OWN_MAX: usize = 16;

fn same(one: &Holder, other: &Holder) -> bool {
    let name = |holder: &Holder| (holder.process, holder.owner, holder.generation);
    name(one) == name(other)
}

/// Whether the two are gateways of one device.
fn is_joined(holder: &Holder, attach: &Attach) -> bool {
    match (attach.kind, holder.kind) {
        (AttachKind::Exclusive { join: ours }, AttachKind::Exclusive { join: theirs }) => {
            ours.is_some() && ours == theirs
        }
        _ => false,
    }
}

/// Whether the holder stands in the way of the attach. The same owner's are its earlier session's.
fn refuses(holder: &Holder, attach: &Attach) -> bool {
    let stands = match attach.kind {
        AttachKind::Exclusive { .. } => holder.kind != AttachKind::ReadOnly,
        AttachKind::Shared | AttachKind::ReadOnly => {
            matches!(holder.kind, AttachKind::Exclusive { .. })
        }
    };
    stands && holder.owner != attach.owner
}

/// What the client of an attach is told that this holder refuses.
fn refusal(holder: Holder, attach: &Attach) -> AttachRefusal {
    if attach.kind == AttachKind::ReadOnly || is_joined(&holder, attach) {
        let process = holder.process;
        return AttachRefusal::Elsewhere { process };
    }
    AttachRefusal::Held(Box::new(holder))
}
