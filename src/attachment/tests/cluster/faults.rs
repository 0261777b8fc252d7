//! Processes and connections come and go, and messages come twice.

use super::*;

impl Cluster {
    /// Sometimes a message arrives twice, and sometimes its connection breaks instead.
    pub(in crate::attachment::tests) fn disturb(&mut self) {
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
    pub(in crate::attachment::tests) fn disconnect(&mut self, one: usize, other: usize) {
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

    pub(in crate::attachment::tests) fn connect(&mut self, one: usize, other: usize) {
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
    pub(in crate::attachment::tests) fn crash(&mut self, place: usize) {
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

    pub(in crate::attachment::tests) fn start(&mut self, place: usize) {
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
    pub(in crate::attachment::tests) fn heal(&mut self) {
        for place in 0..self.size() {
            self.start(place);
        }
        for one in 0..self.size() {
            for other in 0..one {
                self.connect(one, other);
            }
        }
    }
}
