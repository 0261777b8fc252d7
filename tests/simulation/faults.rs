//! What goes wrong, and how it is mended.

use atdd::domain::Incarnation;
use atdd::register::Input;

use crate::bug::Bug;
use crate::world::{Event, World, rank, sector};

impl World {
    /// Everything that happens by itself is going to.
    pub(crate) fn begin(&mut self) {
        let count = self.processes.len();
        for b in 0..count {
            for a in 0..b {
                self.connect_soon(a, b);
            }
            for client in 0..self.scenario.clients_per_process {
                self.think_soon(b, client);
            }
        }
        self.again(self.scenario.crash_every, Event::Crash);
        self.again(self.scenario.cut_every, Event::Cut);
        if self.scenario.rot_every > 0 {
            self.again(self.scenario.rot_every, Event::Rot);
        }
    }

    /// A crash at any time.
    pub(crate) fn crash_someone(&mut self) -> Result<(), String> {
        if !self.is_stormy() {
            return Ok(());
        }
        self.again(self.scenario.crash_every, Event::Crash);
        let place = self.some_process();
        if self.processes[place].is_up() {
            self.crash(place)
        } else {
            Ok(())
        }
    }

    /// The process loses all but its disk, and all connections.
    pub(crate) fn crash(&mut self, place: usize) -> Result<(), String> {
        self.trace(|_| format!("{} crashes", rank(place)));
        let process = &mut self.processes[place];
        process.register = None;
        process.life += 1;
        process.disk.crash(&mut self.dice, self.scenario.survive);
        let writes = self.forget_clients(place)?;
        if self.bug == Some(Bug::RestartedWrite) {
            self.processes[place].unanswered_writes = writes;
        }
        for other in (0..self.processes.len()).filter(|&other| other != place) {
            self.network.cut(place, other, 0);
        }
        let down = self.dice.between(1, self.scenario.down_max);
        self.schedule(down, Event::Start { process: place });
        Ok(())
    }

    /// The process starts again, with its incarnation raised before anything else.
    pub(crate) fn start(&mut self, place: usize) -> Result<(), String> {
        let process = &mut self.processes[place];
        if self.bug != Some(Bug::IncarnationNotRaised) {
            process.incarnation = Incarnation(process.incarnation.0 + 1);
        }
        process.boot(place, &self.scenario);
        let life = process.life;
        let writes = std::mem::take(&mut process.unanswered_writes);
        self.trace(|_| format!("{} starts", rank(place)));
        for other in (0..self.processes.len()).filter(|&other| other != place) {
            self.connect_soon(place, other);
        }
        for client in 0..self.scenario.clients_per_process {
            self.think_soon(place, client);
        }
        for number in writes {
            if self.processes[place].life == life {
                self.command(place, number)?;
            }
        }
        Ok(())
    }

    /// A connection is made, if both are there and nothing keeps them apart.
    pub(crate) fn connect(&mut self, a: usize, b: usize) -> Result<(), String> {
        let both_up = self.processes[a].is_up() && self.processes[b].is_up();
        if !both_up || !self.network.connect(a, b, self.now) {
            return Ok(());
        }
        self.trace(|_| format!("{} and {} are connected", rank(a), rank(b)));
        self.step(a, Input::PeerConnected { rank: rank(b) })?;
        if self.processes[b].is_up() {
            self.step(b, Input::PeerConnected { rank: rank(a) })?;
        }
        Ok(())
    }

    /// One connection, or all of one process, are interrupted; or one direction swallows all.
    pub(crate) fn cut_some_connection(&mut self) {
        if !self.is_stormy() {
            return;
        }
        self.again(self.scenario.cut_every, Event::Cut);
        let length = self.dice.between(1, self.scenario.cut_max);
        let one = self.some_process();
        let other = self.some_process();
        let partition = self.dice.chance(300);
        let one_way = self.dice.chance(300);
        for place in (0..self.processes.len()).filter(|&place| place != one) {
            if !partition && place != other {
                continue;
            }
            self.trace(|_| format!("{one} is cut from {place}, one way: {one_way}"));
            if one_way {
                self.network.swallow(one, place);
                self.schedule(length, Event::Break { a: one, b: place });
            } else {
                self.interrupt(one, place, length);
            }
        }
    }

    /// A connection breaks, and is made again after that time.
    pub(crate) fn interrupt(&mut self, a: usize, b: usize, length: u64) {
        self.network.cut(a, b, self.now + length);
        self.schedule(length, Event::Connect { a, b });
    }

    /// A copy rots. Of each sector only some copies ever do, unless the scenario is merciless, so
    /// that a majority is never found damaged, not even one process after another.
    pub(crate) fn rot_some_copy(&mut self) {
        if !self.is_stormy() {
            return;
        }
        self.again(self.scenario.rot_every, Event::Rot);
        let count = self.processes.len();
        let index = self.dice.below(self.scenario.sectors);
        let place = self.some_process();
        let minority = count - (count / 2 + 1);
        let weak = (place + usize::try_from(index).unwrap()) % count < minority;
        let address = sector(index);
        if (weak || self.scenario.rot_of_majorities) && self.processes[place].disk.rot(address) {
            self.trace(|_| format!("{address} rots at {}", rank(place)));
        }
    }

    fn connect_soon(&mut self, a: usize, b: usize) {
        let delay = self.dice.between(1, 2 * self.scenario.delay_max);
        self.schedule(delay, Event::Connect { a, b });
    }

    fn again(&mut self, mean: u64, event: Event) {
        let delay = self.dice.between(1, 2 * mean);
        self.schedule(delay, event);
    }

    fn some_process(&mut self) -> usize {
        let count = u64::try_from(self.processes.len()).unwrap();
        usize::try_from(self.dice.below(count)).unwrap()
    }
}
