//! A cluster of keepers over a network, disks and registers that are simulated, and what must hold
//! of it at every step.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::attachment::{AttachmentId, AttachmentKeeper, Config, Input, Output};
use crate::domain::{
    Attach, AttachKind, AttachRefusal, Fence, Generation, Holder, Incarnation, JoinKey, Mode,
    OwnerId, Rank, Reply, Request,
};

const SHARDS: u8 = 2;

/// How the gateways of the one device of the histories attach.
pub(super) const KEYED: AttachKind = AttachKind::Exclusive {
    join: Some(JoinKey([7; 32])),
};

/// Everything that is random, from one seed.
pub(super) struct Dice(ChaCha8Rng);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(ChaCha8Rng::seed_from_u64(seed))
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.0.next_u64() % u64::try_from(limit).unwrap()).unwrap()
    }

    /// True so many times out of a hundred.
    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// A register as the keeper sees it: late to drain, and with fences of its own from its peers.
#[derive(Debug)]
struct Shard {
    accepted: Fence,
    stable: Fence,
    /// From the keeper, in order.
    inbox: VecDeque<ShardInput>,
    /// A drain that is not yet complete.
    draining: Option<Generation>,
    /// To the keeper, in order.
    outbox: VecDeque<Input>,
}

#[derive(Debug)]
enum ShardInput {
    Raise(Fence),
    Stable(Fence),
}

impl Shard {
    fn new(fence: Fence) -> Self {
        Self {
            accepted: fence,
            stable: fence,
            inbox: VecDeque::new(),
            draining: None,
            outbox: VecDeque::new(),
        }
    }

    /// Older generations are refused from now on; as they were before if the number is the same.
    fn accept(&mut self, fence: Fence) {
        if fence.generation > self.accepted.generation {
            self.draining = Some(fence.generation);
        }
        self.accepted = fence;
    }

    /// A peer's word for a newer fence.
    fn hear(&mut self, fence: Fence) {
        self.accept(fence);
        self.outbox.push_back(Input::Raise { fence });
    }

    fn take(&mut self) {
        match self.inbox.pop_front() {
            Some(ShardInput::Raise(fence))
                if fence.generation >= self.accepted.generation && fence != self.accepted =>
            {
                self.accept(fence);
            }
            Some(ShardInput::Stable(fence)) if fence == self.accepted => {
                assert_eq!(self.draining, None, "a fence is stable once all is drained");
                self.stable = fence;
            }
            _ => {}
        }
    }

    fn drain(&mut self) {
        if let Some(generation) = self.draining.take() {
            let shard = 0;
            self.outbox.push_back(Input::Drained { shard, generation });
        }
    }
}

#[derive(Clone, Debug)]
enum Message {
    Request(Request),
    Reply(Reply),
    /// Whatever the sender has published by the time that it arrives.
    Holders,
    /// An operation's request under this authority.
    Data(u8, Fence),
    /// Its refusal.
    DataRefused(u8, Fence),
}

#[derive(Clone, Debug)]
struct Envelope {
    from: usize,
    to: usize,
    message: Message,
}

/// An attach of a client, from its beginning on.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) place: usize,
    pub(super) attach: Attach,
    pub(super) state: State,
    /// The newest generation that was open when it began.
    since: Generation,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum State {
    Waiting,
    Granted(Fence),
    Refused(AttachRefusal),
    Fenced(Fence),
    /// Its client or its process has gone.
    Gone,
}

struct Process {
    keeper: Option<AttachmentKeeper>,
    incarnation: u32,
    durable: Fence,
    /// On their way to be durable, in order.
    records: VecDeque<Fence>,
    shards: Vec<Shard>,
    published: Vec<Holder>,
    /// Every fence that was ever stable here.
    stable: BTreeSet<(Generation, Option<OwnerId>, u64)>,
}

pub(super) struct Cluster {
    pub(super) dice: Dice,
    pub(super) clients: BTreeMap<AttachmentId, Client>,
    /// How often what the rules are about has happened.
    pub(super) tally: BTreeMap<&'static str, u64>,
    processes: Vec<Process>,
    network: Vec<Envelope>,
    /// Pairs that are connected, the lower place first.
    links: BTreeSet<(usize, usize)>,
    /// Every fence that was ever granted, by number.
    granted: BTreeMap<Generation, Fence>,
    /// (since, until, owner) of every grant that continued.
    continued: Vec<(Generation, Generation, OwnerId)>,
    next_id: u64,
}

impl Cluster {
    pub(super) fn new(seed: u64, processes: usize) -> Self {
        let process = || Process {
            keeper: None,
            incarnation: 0,
            durable: Fence::INITIAL,
            records: VecDeque::new(),
            shards: Vec::new(),
            published: Vec::new(),
            stable: BTreeSet::from([name(Fence::INITIAL)]),
        };
        let mut cluster = Self {
            dice: Dice::new(seed),
            clients: BTreeMap::new(),
            tally: BTreeMap::new(),
            processes: (0..processes).map(|_| process()).collect(),
            network: Vec::new(),
            links: BTreeSet::new(),
            granted: BTreeMap::from([(Generation(0), Fence::INITIAL)]),
            continued: Vec::new(),
            next_id: 0,
        };
        cluster.heal();
        cluster
    }

    pub(super) fn size(&self) -> usize {
        self.processes.len()
    }

    pub(super) fn is_up(&self, place: usize) -> bool {
        self.processes[place].keeper.is_some()
    }

    pub(super) fn fence(&self, place: usize) -> Fence {
        self.processes[place].keeper.as_ref().unwrap().fence()
    }

    pub(super) fn attachments(&self, place: usize) -> Vec<Holder> {
        self.processes[place].keeper.as_ref().unwrap().attachments()
    }

    pub(super) fn state(&self, id: AttachmentId) -> &State {
        &self.clients[&id].state
    }

    pub(super) fn attach(&mut self, place: usize, attach: Attach) -> AttachmentId {
        let id = AttachmentId(self.next_id);
        self.next_id += 1;
        let state = State::Waiting;
        let client = Client {
            place,
            attach,
            state,
            since: self.newest_open(),
        };
        self.clients.insert(id, client);
        let client = format!("client {}", id.0);
        let now = id.0;
        self.step(
            place,
            Input::Attach {
                id,
                attach,
                client,
                now,
            },
        );
        id
    }

    pub(super) fn detach(&mut self, id: AttachmentId) {
        let client = self.clients.get_mut(&id).unwrap();
        let place = client.place;
        client.state = State::Gone;
        self.step(place, Input::Detach { id });
    }

    pub(super) fn release(&mut self, place: usize, owner: OwnerId) {
        self.step(place, Input::Release { owner });
    }

    pub(super) fn stop_waiting(&mut self, id: AttachmentId) {
        self.step(self.clients[&id].place, Input::StopWaiting { id });
    }

    /// One of the things that may happen without anybody's doing; false if nothing can.
    pub(super) fn advance(&mut self) -> bool {
        let first = self.dice.below(4);
        (0..4).any(|kind| match (first + kind) % 4 {
            0 | 1 => self.deliver(),
            2 => self.advance_shard(),
            _ => self.advance_record(),
        })
    }

    /// Lets everything happen that is under way.
    pub(super) fn run_dry(&mut self) {
        for _ in 0..100_000 {
            if !self.advance() {
                return;
            }
        }
        panic!("the cluster does not come to rest");
    }

    /// An operation of this attachment asks every process.
    pub(super) fn operate(&mut self, id: AttachmentId) {
        let client = &self.clients[&id];
        let State::Granted(fence) = client.state else {
            return;
        };
        let from = client.place;
        let shard = u8::try_from(self.dice.below(usize::from(SHARDS))).unwrap();
        if self.processes[from].shards[usize::from(shard)].accepted != fence {
            return;
        }
        for to in (0..self.size()).filter(|to| *to != from) {
            self.send(from, to, Message::Data(shard, fence));
        }
    }

    /// Sometimes a message arrives twice, and sometimes its connection breaks instead.
    pub(super) fn disturb(&mut self) {
        if self.network.is_empty() {
            return;
        }
        let place = self.dice.below(self.network.len());
        let envelope = self.network[place].clone();
        if self.dice.chance(80) {
            self.network.push(envelope);
        } else {
            self.disconnect(envelope.from, envelope.to);
        }
    }

    /// Breaks a connection. What is under way on it is lost, but for what the other connection of
    /// the two had.
    pub(super) fn disconnect(&mut self, one: usize, other: usize) {
        let pair = (one.min(other), one.max(other));
        if !self.links.remove(&pair) {
            return;
        }
        let mut kept = Vec::new();
        for envelope in std::mem::take(&mut self.network) {
            let between = (envelope.from, envelope.to) == pair;
            let between = between || (envelope.to, envelope.from) == pair;
            if !between || self.dice.chance(10) {
                kept.push(envelope);
            }
        }
        self.network = kept;
        for (place, peer) in [(one, other), (other, one)] {
            self.step(place, Input::PeerDisconnected { rank: rank(peer) });
        }
    }

    pub(super) fn connect(&mut self, one: usize, other: usize) {
        let pair = (one.min(other), one.max(other));
        if one == other || !self.is_up(one) || !self.is_up(other) || !self.links.insert(pair) {
            return;
        }
        for (place, peer) in [(one, other), (other, one)] {
            self.step(place, Input::PeerConnected { rank: rank(peer) });
            self.send(place, peer, Message::Holders);
        }
    }

    /// A process stops; some of its records may have become durable.
    pub(super) fn crash(&mut self, place: usize) {
        if !self.is_up(place) {
            return;
        }
        for other in 0..self.size() {
            self.disconnect(place, other);
        }
        let process = &mut self.processes[place];
        let survive = self.dice.below(process.records.len() + 1);
        if let Some(fence) = process.records.drain(..).take(survive).next_back() {
            process.durable = fence;
        }
        process.keeper = None;
        process.shards.clear();
        process.published.clear();
        for client in self.clients.values_mut() {
            if client.place == place && matches!(client.state, State::Waiting | State::Granted(_)) {
                client.state = State::Gone;
            }
        }
    }

    pub(super) fn start(&mut self, place: usize) {
        let processes = u8::try_from(self.size()).unwrap();
        let process = &mut self.processes[place];
        if process.keeper.is_some() {
            return;
        }
        process.incarnation += 1;
        let fence = process.durable;
        process.keeper = Some(AttachmentKeeper::new(Config {
            own: rank(place),
            processes,
            incarnation: Incarnation(process.incarnation),
            fence,
            shards: SHARDS,
        }));
        process.shards = (0..SHARDS).map(|_| Shard::new(fence)).collect();
        process.stable.insert(name(fence));
    }

    /// Everything is up and connected.
    pub(super) fn heal(&mut self) {
        for place in 0..self.size() {
            self.start(place);
        }
        for one in 0..self.size() {
            for other in 0..one {
                self.connect(one, other);
            }
        }
    }

    fn deliver(&mut self) -> bool {
        if self.network.is_empty() {
            return false;
        }
        let picked = self.dice.below(self.network.len());
        let Envelope { from, to, message } = self.network.swap_remove(picked);
        if !self.is_up(to) {
            return true;
        }
        let rank = rank(from);
        match message {
            Message::Request(request) => {
                self.step(
                    to,
                    Input::Request {
                        from: rank,
                        request,
                    },
                );
            }
            Message::Reply(reply) => self.step(to, Input::Reply { from: rank, reply }),
            Message::Holders => {
                let holders = self.processes[from].published.clone();
                if self.links.contains(&(from.min(to), from.max(to))) {
                    self.step(to, Input::PeerHolders { rank, holders });
                }
            }
            Message::Data(number, fence) => {
                let shard = &mut self.processes[to].shards[usize::from(number)];
                let accepted = shard.accepted;
                if fence.generation < accepted.generation {
                    self.send(to, from, Message::DataRefused(number, accepted));
                } else if fence != accepted {
                    shard.hear(fence);
                } else if fence == shard.stable {
                    let durable = self.processes[to].durable;
                    assert!(
                        durable.generation >= fence.generation,
                        "served and forgotten"
                    );
                }
            }
            Message::DataRefused(shard, fence) => {
                let shard = &mut self.processes[to].shards[usize::from(shard)];
                if fence.generation > shard.accepted.generation {
                    shard.hear(fence);
                }
            }
        }
        true
    }

    fn advance_shard(&mut self) -> bool {
        let busy = |process: &Process| {
            let busy = |shard: &Shard| {
                !shard.inbox.is_empty() || !shard.outbox.is_empty() || shard.draining.is_some()
            };
            let shards = 0..process.shards.len();
            let busy = shards.filter(|shard| busy(&process.shards[*shard]));
            busy.collect::<Vec<_>>()
        };
        let places = self.processes.iter().enumerate();
        let all: Vec<(usize, usize)> = places
            .flat_map(|(place, process)| busy(process).into_iter().map(move |shard| (place, shard)))
            .collect();
        if all.is_empty() {
            return false;
        }
        let (place, number) = all[self.dice.below(all.len())];
        let shard = &mut self.processes[place].shards[number];
        match self.dice.below(3) {
            0 => shard.take(),
            1 => shard.drain(),
            _ => {
                if let Some(mut input) = shard.outbox.pop_front() {
                    if let Input::Drained { shard, .. } = &mut input {
                        *shard = u8::try_from(number).unwrap();
                    }
                    self.step(place, input);
                }
            }
        }
        true
    }

    fn advance_record(&mut self) -> bool {
        let busy = (0..self.size()).filter(|place| !self.processes[*place].records.is_empty());
        let busy: Vec<usize> = busy.collect();
        if busy.is_empty() {
            return false;
        }
        let place = busy[self.dice.below(busy.len())];
        let process = &mut self.processes[place];
        let fence = process.records.pop_front().unwrap();
        process.durable = fence;
        self.step(place, Input::Recorded { fence });
        true
    }

    fn send(&mut self, from: usize, to: usize, message: Message) {
        if self.links.contains(&(from.min(to), from.max(to))) {
            self.network.push(Envelope { from, to, message });
        }
    }

    fn step(&mut self, place: usize, input: Input) {
        let Some(keeper) = &mut self.processes[place].keeper else {
            return;
        };
        let mut out = Vec::new();
        keeper.step(input, &mut out);
        for output in out {
            self.take(place, output);
        }
    }

    fn take(&mut self, place: usize, output: Output) {
        match output {
            Output::Request { to, request } => {
                self.send(place, place_of(to), Message::Request(request));
            }
            Output::Reply { to, reply } => self.send(place, place_of(to), Message::Reply(reply)),
            Output::Raise { fence } => {
                for shard in &mut self.processes[place].shards {
                    shard.inbox.push_back(ShardInput::Raise(fence));
                }
            }
            Output::Record { fence } => self.processes[place].records.push_back(fence),
            Output::Stable { fence } => self.became_stable(place, fence),
            Output::Granted { id, fence } => self.was_granted(place, id, fence),
            Output::Refused { id, refusal } => self.end(id, State::Refused(refusal)),
            Output::Fenced { id, by } => self.end(id, State::Fenced(by)),
            Output::Holders { holders } => {
                self.processes[place].published = holders;
                for to in 0..self.size() {
                    self.send(place, to, Message::Holders);
                }
            }
        }
    }

    fn end(&mut self, id: AttachmentId, state: State) {
        let client = self.clients.get_mut(&id).unwrap();
        let before = std::mem::replace(&mut client.state, state);
        let what = match &client.state {
            State::Refused(AttachRefusal::Held(_)) => "held",
            State::Refused(AttachRefusal::Elsewhere { .. }) => "elsewhere",
            State::Refused(AttachRefusal::Contended) => "contended",
            State::Refused(AttachRefusal::Fenced { .. }) => "came between",
            State::Fenced(by) if matches!(before, State::Granted(fence) if fence == *by) => {
                "released"
            }
            State::Fenced(_) => "fenced",
            _ => "",
        };
        *self.tally.entry(what).or_default() += 1;
        match client.state {
            State::Fenced(_) => assert!(matches!(before, State::Granted(_)), "{before:?}"),
            _ => assert_eq!(before, State::Waiting),
        }
    }

    fn became_stable(&mut self, place: usize, fence: Fence) {
        let process = &mut self.processes[place];
        assert_eq!(process.durable, fence, "its record comes first");
        process.stable.insert(name(fence));
        for shard in &mut process.shards {
            shard.inbox.push_back(ShardInput::Stable(fence));
        }
        self.check_continued();
    }

    fn was_granted(&mut self, place: usize, id: AttachmentId, fence: Fence) {
        let client = self.clients.get_mut(&id).unwrap();
        assert_eq!(client.state, State::Waiting);
        client.state = State::Granted(fence);
        let (attach, since) = (client.attach, client.since);
        let joins = attach.kind == KEYED || attach.kind == AttachKind::ReadOnly;
        assert!(joins || fence.generation >= since, "it was overtaken");
        assert_eq!(self.fence(place), fence, "its own process has it stable");
        assert!(
            self.is_open(name(fence)),
            "{fence:?} is granted, but not open"
        );
        *self.tally.entry("granted").or_default() += 1;
        if self.granted.contains_key(&fence.generation) && attach.kind == KEYED {
            *self.tally.entry("joined").or_default() += 1;
        }
        let other = *self.granted.entry(fence.generation).or_insert(fence);
        assert_eq!(other, fence, "one number is granted twice");
        let may_run = match fence.mode {
            Mode::Shared => !matches!(attach.kind, AttachKind::Exclusive { .. }),
            Mode::Reading { .. } => attach.kind == AttachKind::ReadOnly,
            Mode::Exclusive { tag, .. } => {
                let incarnation = Incarnation(self.processes[place].incarnation);
                let here = (tag.coordinator, tag.incarnation) == (rank(place), incarnation);
                here && attach.kind != AttachKind::Shared
            }
        };
        assert!(may_run, "{id:?} is granted {fence:?} at {place}");
        if matches!(fence.mode, Mode::Reading { .. }) {
            *self.tally.entry("only read").or_default() += 1;
        }
        if let (AttachKind::Exclusive { .. }, Some(since)) = (attach.kind, attach.continues) {
            *self.tally.entry("continued").or_default() += 1;
            self.continued.push((since, fence.generation, attach.owner));
            self.check_continued();
        }
    }

    fn newest_open(&self) -> Generation {
        let fences = self.processes.iter().flat_map(|process| &process.stable);
        let open = fences.filter(|fence| self.is_open(**fence));
        open.map(|fence| fence.0).max().unwrap_or_default()
    }

    /// Whether a majority had the fence stable, each at some time.
    fn is_open(&self, fence: (Generation, Option<OwnerId>, u64)) -> bool {
        let stable = |process: &&Process| process.stable.contains(&fence);
        self.processes.iter().filter(stable).count() > self.size() / 2
    }

    /// No other owner's generation was ever open between the ends of a grant that continued.
    fn check_continued(&self) {
        for (since, until, owner) in &self.continued {
            for process in &self.processes {
                for fence in &process.stable {
                    let between = fence.0 > *since && fence.0 < *until;
                    let foreign = fence.1 != Some(*owner);
                    let broken = between && foreign && self.is_open(*fence);
                    assert!(!broken, "{fence:?} came between {since:?} and {until:?}");
                }
            }
        }
    }
}

fn name(fence: Fence) -> (Generation, Option<OwnerId>, u64) {
    let tag = match fence.mode {
        Mode::Shared => 0,
        Mode::Reading { .. } => u64::MAX,
        Mode::Exclusive { tag, .. } => {
            let start = u64::from(tag.coordinator.number()) << 32 | u64::from(tag.incarnation.0);
            start << 24 | tag.sequence
        }
    };
    (fence.generation, fence.owner(), tag)
}

pub(super) fn rank(place: usize) -> Rank {
    Rank::new(u8::try_from(place + 1).unwrap()).unwrap()
}

fn place_of(rank: Rank) -> usize {
    rank.place()
}
