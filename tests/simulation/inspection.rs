//! What is looked at when everything is over.

use std::collections::BTreeMap;

use atdd::attachment::{AttachmentId, Input};
use atdd::domain::{Attach, AttachKind, AttachRefusal, Fence, SectorRange};

use crate::front::Asker;
use crate::history::Kind;
use crate::process::{Task, Worker};
use crate::world::{World, rank, sector};

/// Attaches that the end of the simulation asks for, and how they ended.
#[derive(Default)]
pub(crate) struct Inspection {
    /// Whether it has begun. It reads one thing after another, wherever that is.
    pub(crate) is_on: bool,
    outcomes: BTreeMap<AttachmentId, Result<Fence, AttachRefusal>>,
}

/// Attachments from this one on are of the inspection.
pub(crate) const INSPECTION: AttachmentId = AttachmentId(1 << 33);

impl Inspection {
    pub(crate) fn ended(&mut self, id: AttachmentId, outcome: Result<Fence, AttachRefusal>) {
        self.outcomes.insert(id, outcome);
    }
}

impl World {
    /// With all faults over, nothing may be left undone.
    pub(crate) fn nothing_is_left(&self) -> Result<(), String> {
        for (number, client) in self.clients.iter().enumerate() {
            if let Some(operation) = client.unanswered.first() {
                return Err(format!("operation {operation} hangs: {client:?}"));
            }
            if !client.is_finished() {
                return Err(format!("client {number} hangs: {client:?}"));
            }
        }
        for (place, process) in self.processes.iter().enumerate() {
            let running = process.running.as_ref();
            let running = running.ok_or("every process is up at the end")?;
            for register in &running.registers {
                let left = register.in_flight() + register.queued() + register.answering();
                if self.bug.is_none() && left > 0 {
                    return Err(format!("{} is never done: {register:?}", rank(place)));
                }
            }
            let keeper = &running.keeper;
            if self.bug.is_none() && keeper.fence() != keeper.accepted() {
                return Err(format!("{} is never done: {keeper:?}", rank(place)));
            }
        }
        Ok(())
    }

    /// Reads everything through every process. The first pass settles what cut-off writes left
    /// behind at single processes; from then on all agree.
    pub(crate) fn inspect(&mut self) -> Result<(), String> {
        self.inspection.is_on = true;
        self.read_everywhere()?;
        let values = self.read_everywhere()?;
        for index in 0..values[0].len() {
            let mut read = values.iter().filter_map(|values| values[index]);
            let first = read.next();
            if read.any(|value| Some(value) != first) {
                return Err(format!("processes disagree at the end: {values:?}"));
            }
        }
        Ok(())
    }

    /// Reads every sector through every process; what each has read, as far as it can be read.
    fn read_everywhere(&mut self) -> Result<Vec<Vec<Option<u64>>>, String> {
        let mut all = Vec::new();
        for place in 0..self.processes.len() {
            let mut values = Vec::new();
            for index in 0..self.scenario.sectors {
                values.push(self.read_patiently(place, index)?);
            }
            all.push(values);
        }
        Ok(all)
    }

    /// Reads a sector through a process. An open that failed may still be known to few, and be met
    /// by the read: then it is attached again.
    fn read_patiently(&mut self, place: usize, index: u64) -> Result<Option<u64>, String> {
        for _ in 0..TRIES {
            let fence = self.attach_for_inspection(place)?;
            let range = SectorRange::single(sector(index));
            let number = self.history.begin(Kind::Read, range);
            let ticket = self.command(place, number, fence);
            self.askers.insert(ticket, Asker::Inspector);
            self.run_dry()?;
            if self.history.is_open(number) {
                return Err(format!("the last read, {number}, hangs"));
            }
            if let Some(values) = self.history.values(number) {
                return Ok(Some(values[0]));
            }
            if self.running(place).keeper.accepted() == fence {
                // No majority of intact copies is left.
                return Ok(None);
            }
        }
        Err(format!("sector {index} is never read at {}", rank(place)))
    }

    /// Nobody holds the disk any more, so whoever wants to read it may do so anywhere.
    fn attach_for_inspection(&mut self, place: usize) -> Result<Fence, String> {
        let attach = Attach {
            owner: self.new_owner(),
            kind: AttachKind::ReadOnly,
            take_over: false,
            continues: None,
        };
        for _ in 0..TRIES {
            let id = AttachmentId(INSPECTION.0 + self.history.tick());
            self.ask_keeper(place, id, attach, "the inspection".to_owned());
            self.run_dry()?;
            match self.inspection.outcomes.remove(&id) {
                Some(Ok(fence)) => {
                    self.put(place, Worker::Keeper, Task::Keeper(Input::Detach { id }));
                    self.run_dry()?;
                    return Ok(fence);
                }
                Some(Err(AttachRefusal::Contended)) => {}
                outcome => {
                    return Err(format!("the last attach at {}: {outcome:?}", rank(place)));
                }
            }
        }
        Err(format!("the last attach at {} never succeeds", rank(place)))
    }
}

/// So many failures in a row mean that it never succeeds.
const TRIES: u32 = 20;
