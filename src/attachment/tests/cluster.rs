//! A cluster of keepers over a network, disks and registers that are simulated, and what must hold
//! of it at every step.

mod checks;
mod faults;
mod shard;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use self::checks::name;
use self::shard::{Shard, ShardInput};
use super::dice::Dice;
use crate::attachment::{AttachmentId, AttachmentKeeper, Config, Input, Output};
use crate::domain::{
    Attach, AttachKind, AttachRefusal, Fence, Generation, Holder, Incarnation, JoinKey, OwnerId,
    Rank, Reply, Request,
};

const SHARDS: u8 = 2;

/// How the gateways of the one device of the histories attach.
pub(super) const KEYED: AttachKind = AttachKind::Exclusive {
    join: Some(JoinKey([7; 32])),
};

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
}

pub(super) fn rank(place: usize) -> Rank {
    Rank::new(u8::try_from(place + 1).unwrap()).unwrap()
}

fn place_of(rank: Rank) -> usize {
    rank.place()
}
