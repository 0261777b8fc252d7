//! The clients of each process, and what they ask for.

use atdd::domain::SectorRange;
use atdd::register::{Command, Input, Ticket};

use crate::history::Kind;
use crate::world::{Event, World, rank, sector};

/// Asks for one thing after another.
pub(crate) struct Client {
    left: u64,
    /// The operation that it waits for.
    waits_for: Option<usize>,
}

impl Client {
    pub(crate) fn new(operations: u64) -> Self {
        Self {
            left: operations,
            waits_for: None,
        }
    }
}

impl World {
    /// The next operation of a client, if its process is up.
    pub(crate) fn think(&mut self, place: usize, client: usize) -> Result<(), String> {
        let process = &mut self.processes[place];
        let up = process.is_up();
        let state = &mut process.clients[client];
        if !up || state.left == 0 || state.waits_for.is_some() {
            return Ok(());
        }
        state.left -= 1;
        let dice = &mut self.dice;
        let count = dice.between(1, self.scenario.range_max);
        let first = dice.below(self.scenario.sectors - count + 1);
        let range = SectorRange::new(sector(first), u32::try_from(count).unwrap()).unwrap();
        let what = dice.below(1000);
        let kind = if what < self.scenario.reads {
            Kind::Read
        } else if what < self.scenario.reads + self.scenario.discards {
            Kind::Discard
        } else {
            Kind::Write
        };
        let number = self.history.begin(place, kind, range);
        self.processes[place].clients[client].waits_for = Some(number);
        self.command(place, number)
    }

    /// Passes an operation to its process.
    pub(crate) fn command(&mut self, place: usize, number: usize) -> Result<(), String> {
        let record = self.history.record(number);
        let (kind, range) = (record.kind, record.range);
        self.trace(|_| format!("{}: {kind:?} {number} of {range:?}", rank(place)));
        let command = match kind {
            Kind::Read => Command::Read { range },
            Kind::Discard => Command::Discard { range },
            Kind::Write => Command::Write {
                range,
                data: self.history.data(number),
            },
        };
        let ticket = Ticket(u64::try_from(number).unwrap());
        self.step(place, Input::Command { ticket, command })
    }

    /// An operation is answered; its client goes on.
    pub(crate) fn answered(&mut self, place: usize, number: usize) {
        let clients = &mut self.processes[place].clients;
        let waiting = clients
            .iter()
            .position(|client| client.waits_for == Some(number));
        if let Some(client) = waiting {
            clients[client].waits_for = None;
            self.think_soon(place, client);
        }
    }

    /// The clients of a process that has crashed will never know. Returns their writes.
    pub(crate) fn forget_clients(&mut self, place: usize) -> Result<Vec<usize>, String> {
        let mut writes = Vec::new();
        for client in &mut self.processes[place].clients {
            if let Some(number) = client.waits_for.take() {
                self.history.cut_off(number)?;
                if self.history.record(number).kind == Kind::Write {
                    writes.push(number);
                }
            }
        }
        Ok(writes)
    }

    pub(crate) fn think_soon(&mut self, process: usize, client: usize) {
        let delay = self.dice.between(1, self.scenario.think_max);
        self.schedule(delay, Event::Think { process, client });
    }

    /// With all faults over, nothing may be left undone.
    pub(crate) fn everything_was_answered(&self) -> Result<(), String> {
        for (place, process) in self.processes.iter().enumerate() {
            let register = process.register.as_ref();
            let register = register.ok_or("every process is up at the end")?;
            let hangs = process.clients.iter().find_map(|client| client.waits_for);
            if let Some(number) = hangs {
                return Err(format!("operation {number} at {} hangs", rank(place)));
            }
            let left = register.in_flight() + register.queued() + register.answering();
            if self.bug.is_none() && left > 0 {
                return Err(format!("{} is never done: {register:?}", rank(place)));
            }
        }
        Ok(())
    }

    /// Reads every sector through every process; what each has read, as far as it can be read.
    pub(crate) fn read_everywhere(&mut self) -> Result<Vec<Vec<Option<u64>>>, String> {
        let mut all = Vec::new();
        for place in 0..self.processes.len() {
            let mut values = Vec::new();
            for index in 0..self.scenario.sectors {
                let range = SectorRange::single(sector(index));
                let number = self.history.begin(place, Kind::Read, range);
                self.command(place, number)?;
                self.run_dry()?;
                let value = self.history.values(number).map(|values| values[0]);
                if value.is_none() && !self.scenario.rot_of_majorities {
                    return Err(format!("the last read, {number}, hangs"));
                }
                values.push(value);
            }
            all.push(values);
        }
        Ok(all)
    }
}
