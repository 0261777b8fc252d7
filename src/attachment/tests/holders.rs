//! Whom the holders of the volume refuse, and who is told of them.

use std::collections::BTreeMap;

use super::{exclusive, holder, rank, shared};
use crate::attachment::holders::{Bar, Holders};
use crate::attachment::opening::Heard;
use crate::attachment::{AttachmentId, Output};
use crate::domain::{
    Attach, AttachKind, AttachRefusal, Generation, Holder, JoinKey, OwnerId, Rank,
};

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
    bench.runs(0, 1, EXCLUSIVE).runs(1, 2, AttachKind::Shared);
    bench.answered(2, &bench.holders.known(Generation(4)));
    assert_eq!(bench.bar(attach(EXCLUSIVE)), Bar::None);
    assert_eq!(bench.holders.joined(&attach(EXCLUSIVE)), None, "rule 6");
}

#[test]
fn the_gateways_of_one_device_go_where_the_first_is_even_if_they_insist() {
    let keyed = Holder {
        kind: KEYED,
        owner: attach(KEYED).owner,
        ..held(4)
    };
    let mut bench = Bench::new(3);
    let process = rank(3);
    let elsewhere = Bar::Refused(AttachRefusal::Elsewhere { process });
    bench.told(3, std::slice::from_ref(&keyed)).answered(1, &[]);
    bench.holders.connected(rank(3));
    for (take_over, continues) in [(false, None), (true, None), (false, Some(Generation(2)))] {
        let attach = Attach {
            take_over,
            continues,
            ..attach(KEYED)
        };
        bench.answers.remove(&rank(3));
        assert_eq!(bench.bar(attach), Bar::Unsure);
        bench.answered(3, std::slice::from_ref(&keyed));
        assert_eq!(bench.bar(attach), elsewhere);
        bench.answered(3, &[]);
        assert_eq!(bench.bar(attach), Bar::None);
    }
    bench.answered(
        3,
        &[Holder {
            kind: KEYED,
            ..held(4)
        }],
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
    assert_eq!(bench.holders.joined(&continuing), fence, "once confirmed");
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
