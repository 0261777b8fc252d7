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
    /// read only. It opens nothing, since this process coordinates that generation already. One
    /// that runs here under the same owner is the client's own earlier session: a new session has
    /// a generation of its own (rule 6), and so has one that continues.
    pub(super) fn joined(&self, attach: &Attach) -> Option<Fence> {
        let joins = |granted: &&Granted| match (granted.holder.kind, attach.kind) {
            (AttachKind::Exclusive { .. }, AttachKind::ReadOnly) => true,
            (AttachKind::Exclusive { join: theirs }, AttachKind::Exclusive { join: ours }) => {
                ours.is_some() && ours == theirs
            }
            _ => false,
        };
        let again = attach.continues.is_some() || self.runs(attach.owner);
        if again && attach.kind != AttachKind::ReadOnly {
            return None;
        }
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
    /// that does not answer, by every one.
    pub(super) fn bar(
        &self,
        attach: &Attach,
        generation: Generation,
        answers: &BTreeMap<Rank, Heard>,
        patient: bool,
    ) -> Bar {
        let reads = attach.kind == AttachKind::ReadOnly;
        let insists = attach.take_over || attach.continues.is_some() || self.runs(attach.owner);
        if insists && !reads {
            return Bar::None;
        }
        let mut bar = Bar::None;
        for holder in self.claims(generation, answers) {
            if !refuses(&holder, attach) {
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
    let process = holder.process;
    match (attach.kind, holder.kind) {
        (AttachKind::ReadOnly, _) => AttachRefusal::Elsewhere { process },
        (AttachKind::Exclusive { join: ours }, AttachKind::Exclusive { join: theirs })
            if ours.is_some() && ours == theirs =>
        {
            AttachRefusal::Elsewhere { process }
        }
        _ => AttachRefusal::Held(Box::new(holder)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attachment::tests::{exclusive, holder, rank, shared};
    use crate::domain::JoinKey;

    const EXCLUSIVE: AttachKind = AttachKind::Exclusive { join: None };
    const KEYED: AttachKind = AttachKind::Exclusive {
        join: Some(JoinKey([1; 32])),
    };

    /// What owner 1 asks for.
    fn attach(kind: AttachKind) -> Attach {
        Attach {
            owner: OwnerId([1; 16]),
            kind,
            take_over: false,
            continues: None,
        }
    }

    /// Owner 9's attachment at process 3.
    fn held(generation: u64) -> Holder {
        holder(3, 9, exclusive(generation, 3, 9))
    }

    /// Process 1 of so many, and what processes have answered.
    struct Bench {
        holders: Holders,
        answers: BTreeMap<Rank, Heard>,
    }

    impl Bench {
        fn new(processes: u8) -> Self {
            Self {
                holders: Holders::new(rank(1), processes),
                answers: BTreeMap::new(),
            }
        }

        fn answered(&mut self, process: u8, holders: &[Holder]) -> &mut Self {
            let fence = shared(4);
            let holders = holders.to_vec();
            self.answers.insert(rank(process), Heard { fence, holders });
            self
        }

        fn told(&mut self, process: u8, holders: &[Holder]) -> &mut Self {
            self.holders.told(rank(process), holders.to_vec());
            self
        }

        /// An attachment of this process, under generation 4.
        fn runs(&mut self, id: u64, owner: u8, kind: AttachKind) -> &mut Self {
            let fence = match kind {
                AttachKind::Exclusive { .. } => exclusive(4, 1, owner),
                AttachKind::Shared | AttachKind::ReadOnly => shared(4),
            };
            let holder = Holder {
                kind,
                ..holder(1, owner, fence)
            };
            self.holders.grant(AttachmentId(id), fence, holder);
            self
        }

        /// What stands in the way under generation 4.
        fn bar(&self, attach: Attach) -> Bar {
            self.holders
                .bar(&attach, Generation(4), &self.answers, true)
        }
    }

    fn is_held(bar: &Bar) -> bool {
        matches!(bar, Bar::Refused(AttachRefusal::Held(_)))
    }

    #[test]
    fn a_holder_that_says_so_itself_refuses() {
        let mut bench = Bench::new(3);
        bench.answered(1, &[]).answered(3, &[held(4)]);
        let bar = bench.bar(attach(EXCLUSIVE));
        assert_eq!(bar, Bar::Refused(AttachRefusal::Held(Box::new(held(4)))));
        assert!(is_held(&bench.bar(attach(AttachKind::Shared))));
        assert!(is_held(&bench.bar(attach(KEYED))));
        let process = rank(3);
        assert_eq!(
            bench.bar(attach(AttachKind::ReadOnly)),
            Bar::Refused(AttachRefusal::Elsewhere { process })
        );
    }

    #[test]
    fn its_own_word_overrides_what_others_say() {
        let mut bench = Bench::new(3);
        bench.told(3, &[held(4)]).answered(2, &[held(4)]);
        assert_eq!(bench.bar(attach(EXCLUSIVE)), Bar::Unsure);
        bench.answered(3, &[]);
        assert_eq!(bench.bar(attach(EXCLUSIVE)), Bar::None);
    }

    #[test]
    fn a_holder_out_of_reach_refuses_if_a_majority_reaches_it() {
        let mut bench = Bench::new(5);
        bench.answered(1, &[]).answered(2, &[held(4)]);
        bench.answered(4, &[]);
        assert_eq!(bench.bar(attach(EXCLUSIVE)), Bar::None);
        bench.answered(4, &[held(4)]);
        assert!(is_held(&bench.bar(attach(EXCLUSIVE))));
        bench.holders.connected(rank(3));
        assert_eq!(bench.bar(attach(EXCLUSIVE)), Bar::Unsure);
        let (wanted, generation) = (attach(EXCLUSIVE), Generation(4));
        let bar = bench
            .holders
            .bar(&wanted, generation, &bench.answers, false);
        assert!(is_held(&bar), "it decides with what it knows");
        bench.holders.disconnected(rank(3));
        assert!(is_held(&bench.bar(attach(EXCLUSIVE))));
    }

    #[test]
    fn a_holder_of_an_older_generation_has_been_fenced() {
        let mut bench = Bench::new(3);
        bench.answered(3, &[held(3)]).answered(2, &[held(5)]);
        assert_eq!(bench.bar(attach(EXCLUSIVE)), Bar::None);
    }

    #[test]
    fn shared_attachments_refuse_exclusive_ones_only() {
        let mut bench = Bench::new(3);
        bench.runs(0, 9, AttachKind::Shared);
        bench.runs(1, 8, AttachKind::ReadOnly);
        assert!(!is_held(&bench.bar(attach(EXCLUSIVE))), "nobody reaches it");
        bench.answered(2, &[holder(1, 9, shared(4))]);
        assert!(is_held(&bench.bar(attach(EXCLUSIVE))));
        assert_eq!(bench.bar(attach(AttachKind::Shared)), Bar::None);
        assert_eq!(bench.bar(attach(AttachKind::ReadOnly)), Bar::None);
    }

    #[test]
    fn who_insists_is_not_refused() {
        let mut bench = Bench::new(3);
        bench.answered(1, &[]).answered(3, &[held(4)]);
        for kind in [EXCLUSIVE, KEYED, AttachKind::Shared] {
            let mut insisting = attach(kind);
            insisting.take_over = true;
            assert_eq!(bench.bar(insisting), Bar::None);
            let mut continuing = attach(kind);
            continuing.continues = Some(Generation(2));
            assert_eq!(bench.bar(continuing), Bar::None);
        }
        let mut reading = attach(AttachKind::ReadOnly);
        reading.take_over = true;
        assert_ne!(bench.bar(reading), Bar::None, "it would have to fence");
    }

    /// The client's first attach was granted, but it never heard of it.
    #[test]
    fn a_client_is_not_refused_by_its_own_earlier_session() {
        let mut bench = Bench::new(3);
        let own = Holder {
            owner: OwnerId([1; 16]),
            ..held(4)
        };
        bench.answered(1, &[]).answered(3, &[own]);
        assert_eq!(bench.bar(attach(EXCLUSIVE)), Bar::None);
        bench.runs(0, 1, KEYED).runs(1, 2, KEYED);
        bench.answered(2, &bench.holders.known(Generation(4)));
        assert_eq!(bench.bar(attach(KEYED)), Bar::None);
        assert_eq!(bench.holders.joined(&attach(KEYED)), None, "rule 6");
    }

    #[test]
    fn the_gateways_of_one_device_go_where_the_first_is() {
        let keyed = Holder {
            kind: KEYED,
            ..held(4)
        };
        let mut bench = Bench::new(3);
        bench.answered(1, &[]).answered(3, &[keyed]);
        let process = rank(3);
        assert_eq!(
            bench.bar(attach(KEYED)),
            Bar::Refused(AttachRefusal::Elsewhere { process })
        );
        let other = AttachKind::Exclusive {
            join: Some(JoinKey([2; 32])),
        };
        assert!(is_held(&bench.bar(attach(other))));
        assert!(is_held(&bench.bar(attach(EXCLUSIVE))));
    }

    #[test]
    fn what_runs_here_is_joined_here() {
        let mut bench = Bench::new(3);
        bench.runs(0, 9, AttachKind::Shared);
        assert_eq!(bench.holders.joined(&attach(AttachKind::ReadOnly)), None);
        assert_eq!(bench.holders.joined(&attach(KEYED)), None);
        bench.holders.end(AttachmentId(0));
        bench.runs(1, 9, KEYED);
        let fence = Some(exclusive(4, 1, 9));
        assert_eq!(bench.holders.joined(&attach(AttachKind::ReadOnly)), fence);
        assert_eq!(bench.holders.joined(&attach(KEYED)), fence);
        assert_eq!(bench.holders.joined(&attach(EXCLUSIVE)), None);
        assert_eq!(bench.holders.joined(&attach(AttachKind::Shared)), None);
        let mut continuing = attach(KEYED);
        continuing.continues = Some(Generation(4));
        assert_eq!(bench.holders.joined(&continuing), None, "rule 6");
        bench.holders.end(AttachmentId(1));
        assert_eq!(bench.holders.joined(&attach(KEYED)), None);
    }

    #[test]
    fn peers_are_told_of_changes_and_askers_of_what_counts() {
        let mut bench = Bench::new(3);
        let mut out = Vec::new();
        bench.runs(0, 9, AttachKind::ReadOnly);
        bench.holders.publish(&mut out);
        assert_eq!(out, [], "it holds nothing");
        bench.runs(1, 9, EXCLUSIVE);
        bench.holders.publish(&mut out);
        bench.holders.publish(&mut out);
        let holders = vec![holder(1, 9, exclusive(4, 1, 9))];
        assert_eq!(
            out,
            [Output::Holders {
                holders: holders.clone()
            }]
        );
        assert_eq!(bench.holders.attachments().len(), 2);

        bench.told(3, &[held(4), held(3), holder(2, 9, shared(4))]);
        let known = bench.holders.known(Generation(4));
        assert_eq!(known, [holders, vec![held(4)]].concat());
        bench.holders.disconnected(rank(3));
        assert_eq!(bench.holders.known(Generation(4)).len(), 1);

        let ended = bench.holders.end_overtaken(exclusive(4, 1, 9));
        assert_eq!(ended, [AttachmentId(0)]);
        bench.runs(2, 9, KEYED);
        let joined = Holder {
            kind: KEYED,
            ..holder(1, 8, exclusive(4, 1, 9))
        };
        let fence = exclusive(4, 1, 9);
        bench.holders.grant(AttachmentId(3), fence, joined);
        let ended = bench.holders.end_owner(OwnerId([9; 16]));
        assert_eq!(ended, [1, 2, 3].map(AttachmentId), "and who joined it");
        out.clear();
        bench.holders.publish(&mut out);
        let holders = Vec::new();
        assert_eq!(out, [Output::Holders { holders }]);
    }
}
