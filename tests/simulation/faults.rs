//! What goes wrong, and how it is mended.

use atdd::attachment;
use atdd::domain::{Fence, Incarnation};
use atdd::register;

use crate::bug::Bug;
use crate::client::State;
use crate::history::Kind;
use crate::sessions::Question;
use crate::world::{Event, Fault, World, rank, sector};

impl World {
    /// Everything that happens by itself is going to.
    pub(crate) fn begin(&mut self) {
        let count = self.processes.len();
        for b in 0..count {
            for a in 0..b {
                self.connect_soon(a, b);
            }
        }
        for client in 0..self.clients.len() {
            self.think_soon(client);
        }
        for fault in [
            Fault::Crash,
            Fault::Blackout,
            Fault::Pause,
            Fault::Cut,
            Fault::Loss,
            Fault::Rot,
        ] {
            self.again(fault);
        }
    }

    /// Something goes wrong, unless it is over with that.
    pub(crate) fn strike(&mut self, fault: Fault) -> Result<(), String> {
        if !self.is_stormy() {
            return Ok(());
        }
        self.again(fault);
        let place = self.some_process();
        match fault {
            Fault::Crash if self.processes[place].is_up() => return self.crash(place),
            Fault::Crash => {}
            Fault::Blackout => return self.black_out(),
            Fault::Pause => self.pause_for_a_while(place),
            Fault::Cut => self.cut_some_connection(place),
            Fault::Loss => return self.lose_some_session(),
            Fault::Rot => self.rot_some_copy(place),
        }
        Ok(())
    }

    /// The process loses all but its disk, and all connections.
    pub(crate) fn crash(&mut self, place: usize) -> Result<(), String> {
        self.trace(|_| format!("{} crashes", rank(place)));
        self.tally.count("crash");
        self.hang_up(place);
        for other in (0..self.processes.len()).filter(|&other| other != place) {
            self.disconnect(place, other, 0);
        }
        let process = &mut self.processes[place];
        process.running = None;
        process.paused = false;
        process.life += 1;
        process.lies.crash();
        process.disk.crash(&mut self.dice, self.scenario.survive);
        let mut cut_off = self.forget_classic(place)?;
        if self.bug == Some(Bug::RestartedWrite) {
            let history = &self.history;
            cut_off.retain(|&number| history.record(number).kind == Kind::Write);
            self.processes[place].lies.unanswered_writes = cut_off;
        }
        let down = self.dice.between(1, self.scenario.down_max);
        self.schedule(down, Event::Start { process: place });
        Ok(())
    }

    /// The process starts again, with its incarnation raised before anything else.
    pub(crate) fn start(&mut self, place: usize) {
        let process = &mut self.processes[place];
        if self.bug != Some(Bug::IncarnationNotRaised) {
            process.incarnation = Incarnation(process.incarnation.0 + 1);
        }
        if self.bug == Some(Bug::FenceNotDurable) {
            process.disk.forget_fence();
        }
        let mut fence = process.disk.fence();
        self.forge(place, &mut fence);
        let process = &mut self.processes[place];
        process.boot(place, fence, &self.scenario);
        let writes = std::mem::take(&mut process.lies.unanswered_writes);
        self.trace(|_| format!("{} starts", rank(place)));
        for other in (0..self.processes.len()).filter(|&other| other != place) {
            self.connect_soon(place, other);
        }
        for client in 0..self.clients.len() {
            if self.clients[client].is_classic_at(place) {
                self.think_soon(client);
            }
        }
        for number in writes {
            self.command(place, number, Fence::INITIAL);
        }
    }

    /// All processes crash, and start again one by one.
    fn black_out(&mut self) -> Result<(), String> {
        for place in 0..self.processes.len() {
            if self.processes[place].is_up() {
                self.crash(place)?;
            }
        }
        Ok(())
    }

    /// The process does nothing for a while. Others may believe that it is gone.
    fn pause_for_a_while(&mut self, place: usize) {
        if !self.processes[place].is_awake() {
            return;
        }
        let length = self.dice.between(1, self.scenario.pause_max);
        self.pause(place);
        let (process, life) = (place, self.processes[place].life);
        self.schedule(length, Event::Wake { process, life });
        self.lose_patience(place, length);
        for other in (0..self.processes.len()).filter(|&other| other != place) {
            if self.dice.chance(500) {
                let delay = self.dice.between(1, 2 * length);
                let (a, b, length) = (place, other, 1);
                self.schedule(delay, Event::Break { a, b, length });
            }
        }
    }

    /// Some client's session is over, or the client is.
    fn lose_some_session(&mut self) -> Result<(), String> {
        let clients = self.clients.iter().enumerate();
        let attached = clients.filter_map(|(client, state)| match state.state {
            State::Attached(session) => Some((client, session)),
            _ => None,
        });
        let attached: Vec<_> = attached.collect();
        if attached.is_empty() {
            return Ok(());
        }
        let (client, session) = self.dice.pick(&attached);
        if self.dice.chance(self.scenario.crowd.deaths) {
            let notice = self.dice.between(0, self.scenario.crowd.notice_max);
            self.say_after(session, Question::Gone, notice);
            self.die(client)
        } else {
            self.lost(client, session)
        }
    }

    /// A connection is made, if both are there and nothing keeps them apart.
    pub(crate) fn connect(&mut self, a: usize, b: usize) {
        let both = self.processes[a].is_awake() && self.processes[b].is_awake();
        if !both || !self.network.connect(a, b, self.now) {
            return;
        }
        self.trace(|_| format!("{} and {} are connected", rank(a), rank(b)));
        for (place, other) in [(a, b), (b, a)] {
            let rank = rank(other);
            let keeper = attachment::Input::PeerConnected { rank };
            let register = register::Input::PeerConnected { rank };
            self.put_to_all(place, Some(keeper), &register);
            self.introduce_to(other, place);
        }
    }

    /// One connection, or all of one process, are interrupted; or one direction swallows all.
    fn cut_some_connection(&mut self, one: usize) {
        let length = self.dice.between(1, self.scenario.cut_max);
        let other = self.some_process();
        let partition = self.dice.chance(300);
        let one_way = self.dice.chance(self.scenario.one_way);
        for place in (0..self.processes.len()).filter(|&place| place != one) {
            if !partition && place != other {
                continue;
            }
            self.trace(|_| format!("{one} is cut from {place}, one way: {one_way}"));
            if one_way {
                self.network.swallow(one, place);
                let (a, b) = (one, place);
                self.schedule(length, Event::Break { a, b, length: 1 });
            } else {
                self.interrupt(one, place, length);
            }
        }
    }

    /// A connection breaks, and is made again after that time.
    pub(crate) fn interrupt(&mut self, a: usize, b: usize, length: u64) {
        self.disconnect(a, b, self.now + length);
        self.schedule(length, Event::Connect { a, b });
    }

    /// A connection breaks, and both ends see that.
    fn disconnect(&mut self, a: usize, b: usize, until: u64) {
        if !self.network.cut(a, b, until) {
            return;
        }
        for (place, other) in [(a, b), (b, a)] {
            let rank = rank(other);
            let keeper = attachment::Input::PeerDisconnected { rank };
            let register = register::Input::PeerDisconnected { rank };
            self.put_to_all(place, Some(keeper), &register);
        }
    }

    /// A copy rots. Of each sector only some copies ever do, unless the scenario is merciless, so
    /// that a majority is never found damaged, not even one process after another.
    fn rot_some_copy(&mut self, place: usize) {
        let count = self.processes.len();
        let index = self.dice.below(self.scenario.sectors);
        let minority = count - (count / 2 + 1);
        let weak = (place + usize::try_from(index).unwrap()) % count < minority;
        let address = sector(index);
        if (weak || self.scenario.rot_of_majorities) && self.processes[place].disk.rot(address) {
            self.trace(|_| format!("{address} rots at {}", rank(place)));
        }
    }

    pub(crate) fn connect_soon(&mut self, a: usize, b: usize) {
        let delay = self.dice.between(1, 2 * self.scenario.delay_max);
        self.schedule(delay, Event::Connect { a, b });
    }

    /// The same goes wrong once more, if it ever does.
    fn again(&mut self, fault: Fault) {
        let mean = match fault {
            Fault::Crash => self.scenario.crash_every,
            Fault::Blackout => self.scenario.blackout_every,
            Fault::Pause => self.scenario.pause_every,
            Fault::Cut => self.scenario.cut_every,
            Fault::Loss => self.scenario.crowd.loss_every,
            Fault::Rot => self.scenario.rot_every,
        };
        if mean > 0 {
            let delay = self.dice.between(1, 2 * mean);
            self.schedule(delay, Event::Fault(fault));
        }
    }

    pub(crate) fn some_process(&mut self) -> usize {
        let count = u64::try_from(self.processes.len()).unwrap();
        usize::try_from(self.dice.below(count)).unwrap()
    }
}
