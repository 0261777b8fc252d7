//! Random histories: clients that attach, fail over and leave, among crashes, lost and repeated
//! messages and connections that break.

use std::collections::BTreeMap;

use super::cluster::{Cluster, KEYED, State, rank};
use crate::attachment::AttachmentId;
use crate::domain::{Attach, AttachKind, AttachRefusal, Generation, OwnerId};

/// A client over all of its sessions.
struct Person {
    owner: OwnerId,
    kind: AttachKind,
    /// The generation that it was told.
    known: Option<Generation>,
    last: Option<AttachmentId>,
}

const KINDS: [AttachKind; 5] = [
    AttachKind::Exclusive { join: None },
    AttachKind::Exclusive { join: None },
    KEYED,
    AttachKind::Shared,
    AttachKind::ReadOnly,
];

struct Run {
    cluster: Cluster,
    people: Vec<Person>,
    people_max: usize,
    /// Of a hundred attaches.
    take_overs: usize,
    /// No connection breaks, and nobody is impatient.
    calm: bool,
}

impl Run {
    fn new(seed: u64) -> Self {
        let processes = [3, 3, 5, 1][usize::try_from(seed % 4).unwrap()];
        let mut cluster = Cluster::new(seed, processes);
        Self {
            people: Vec::new(),
            people_max: 1 + cluster.dice.below(6),
            take_overs: cluster.dice.below(60),
            calm: false,
            cluster,
        }
    }

    fn person(&mut self, kind: AttachKind) -> usize {
        let mut owner = [0; 16];
        owner[0] = match kind {
            KEYED => u8::MAX,
            _ => u8::try_from(self.people.len()).unwrap(),
        };
        self.people.push(Person {
            owner: OwnerId(owner),
            kind,
            known: None,
            last: None,
        });
        self.people.len() - 1
    }

    fn attach(&mut self, person: usize, place: usize, take_over: bool) -> AttachmentId {
        let person = &mut self.people[person];
        let attach = Attach {
            owner: person.owner,
            kind: person.kind,
            take_over,
            continues: person.known,
        };
        let id = self.cluster.attach(place, attach);
        person.last = Some(id);
        id
    }

    /// A client does something.
    fn act(&mut self) {
        let size = self.cluster.size();
        let place = self.cluster.dice.below(size);
        let count = self.people.len();
        if count == 0 || (count < self.people_max && self.cluster.dice.chance(20)) {
            let kind = KINDS[self.cluster.dice.below(KINDS.len())];
            self.person(kind);
        }
        let person = self.cluster.dice.below(self.people.len());
        match self.people[person].last {
            Some(id) if self.cluster.dice.chance(60) => match self.cluster.state(id).clone() {
                State::Waiting if !self.calm && self.cluster.dice.chance(10) => {
                    self.cluster.stop_waiting(id);
                }
                State::Waiting if self.cluster.dice.chance(5) => self.cluster.detach(id),
                State::Granted(fence) if self.cluster.dice.chance(70) => {
                    self.people[person].known = Some(fence.generation);
                    self.cluster.operate(id);
                }
                State::Granted(_) if self.cluster.dice.chance(20) => self.cluster.detach(id),
                State::Granted(_) if self.cluster.dice.chance(5) => {
                    let owner = self.people[person].owner;
                    self.cluster.release(place, owner);
                }
                State::Refused(AttachRefusal::Fenced { .. }) => self.people[person].known = None,
                _ => {}
            },
            _ if self.cluster.is_up(place) => {
                let take_over = self.cluster.dice.chance(self.take_overs);
                self.attach(person, place, take_over);
            }
            _ => {}
        }
    }

    fn fault(&mut self) {
        let size = self.cluster.size();
        let (one, other) = (self.cluster.dice.below(size), self.cluster.dice.below(size));
        match self.cluster.dice.below(12) {
            0 => self.cluster.crash(one),
            1..3 => self.cluster.start(one),
            3 => self.cluster.disconnect(one, other),
            4..8 => self.cluster.connect(one, other),
            _ => self.cluster.disturb(),
        }
    }

    /// Once everything is up and connected, every attach comes to its end, and the next ones get
    /// what they want.
    fn settle(&mut self) {
        self.cluster.heal();
        self.cluster.run_dry();
        let waiting = |run: &Self| {
            let clients = run.cluster.clients.iter();
            let waiting = clients.filter(|(_, client)| client.state == State::Waiting);
            waiting.map(|(id, _)| *id).collect::<Vec<_>>()
        };
        assert_eq!(waiting(self), [], "an attach hangs");
        for (place, kind) in [
            (0, KINDS[0]),
            (self.cluster.size() - 1, AttachKind::Shared),
            (self.cluster.size() - 1, KINDS[2]),
        ] {
            let person = self.person(kind);
            let mut attempts = 0..6;
            let fence = loop {
                assert!(
                    attempts.next().is_some(),
                    "nobody contends, but none is granted"
                );
                let id = self.attach(person, place, true);
                self.cluster.run_dry();
                if let State::Granted(fence) = self.cluster.state(id) {
                    let fence = *fence;
                    self.cluster.operate(id);
                    self.cluster.operate(id);
                    break fence;
                }
            };
            self.cluster.run_dry();
            for place in 0..self.cluster.size() {
                assert_eq!(self.cluster.fence(place), fence, "it is everybody's");
            }
        }
        self.settle_held();
    }

    /// Once it is quiet everybody knows that the last attach holds the volume.
    fn settle_held(&mut self) {
        let last = self.cluster.size() - 1;
        let holders = self.cluster.attachments(last);
        assert!(holders.iter().all(|holder| holder.kind == KEYED));
        let fence = self.cluster.fence(last);
        for (kind, place) in [
            (KINDS[0], 0),
            (AttachKind::Shared, last),
            (KEYED, 0),
            (AttachKind::ReadOnly, 0),
            (KEYED, last),
            (AttachKind::ReadOnly, last),
        ] {
            let person = self.person(kind);
            let id = self.attach(person, place, false);
            self.cluster.run_dry();
            let state = self.cluster.state(id);
            let as_expected = match state {
                State::Refused(AttachRefusal::Held(holder)) => holders.contains(holder),
                State::Refused(AttachRefusal::Elsewhere { process }) => *process == rank(last),
                State::Granted(granted) => place == last && *granted == fence,
                _ => false,
            };
            assert!(as_expected, "{kind:?} at {place}: {state:?}");
            let joins = kind == KEYED || kind == AttachKind::ReadOnly;
            let is_held = matches!(state, State::Refused(AttachRefusal::Held(_)));
            assert_eq!(is_held, !joins, "{kind:?} at {place}: {state:?}");
        }
    }
}

fn run(seed: u64) -> BTreeMap<&'static str, u64> {
    let mut run = Run::new(seed);
    let steps = 500 + 10 * run.cluster.dice.below(200);
    run.calm = run.cluster.dice.chance(20);
    let faults = if run.calm {
        0
    } else {
        run.cluster.dice.below(60)
    };
    let actions = 10 + run.cluster.dice.below(90);
    for _ in 0..steps {
        if run.cluster.dice.below(1000) < faults {
            run.fault();
        }
        if run.cluster.dice.below(1000) < actions {
            run.act();
        }
        run.cluster.advance();
    }
    run.settle();
    run.cluster.tally
}

#[test]
fn random_histories_keep_the_rules() {
    let seeds = std::env::var("ATTACHMENT_SEEDS").map_or(2_000, |seeds| seeds.parse().unwrap());
    let mut tally: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in 0..seeds {
        let outcome = std::panic::catch_unwind(|| run(seed));
        let Ok(counts) = outcome else {
            panic!("seed {seed}");
        };
        for (what, count) in counts {
            *tally.entry(what).or_insert(0) += count;
        }
    }
    for what in [
        "granted",
        "continued",
        "joined",
        "fenced",
        "held",
        "elsewhere",
        "contended",
        "came between",
        "only read",
    ] {
        let count = tally.get(what).copied().unwrap_or(0);
        assert!(count >= seeds / 20, "too little happens: {tally:?}");
    }
}
