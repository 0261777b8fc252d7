//! What a process's disk is asked for, and when it answers.

use atdd::attachment;
use atdd::domain::{Extent, Fence, Held, Runs, SectorAddress, SectorRange, Vote};
use atdd::register::{Input, LoadToken, StoreToken};

use crate::bug::Bug;
use crate::process::{Task, Worker};
use crate::world::{Event, World, rank};

impl World {
    /// Begins to store values.
    pub(crate) fn store(
        &mut self,
        place: usize,
        shard: u8,
        token: StoreToken,
        mut extents: Vec<Extent>,
    ) -> Result<(), String> {
        self.note_stored(place, &mut extents)?;
        let process = &mut self.processes[place];
        let life = process.life;
        process.disk.accept(shard, token.0, extents);
        process.lies.stores.insert((shard, token));
        let delay = self.dice.between(1, self.scenario.sync_max);
        self.schedule(
            delay,
            Event::Sync {
                process: place,
                life,
                shard,
                token,
            },
        );
        if self.bug == Some(Bug::AcknowledgeBeforeStore) {
            self.tell_stored(place, shard, token);
        }
        Ok(())
    }

    /// A register is told that a store is stable.
    pub(crate) fn tell_stored(&mut self, place: usize, shard: u8, token: StoreToken) {
        let task = Task::Register(Input::Stored { token });
        self.put(place, Worker::Register(shard), task);
    }

    /// A store becomes stable: a crash no longer undoes it, though nobody has been told.
    pub(crate) fn sync(&mut self, place: usize, life: u64, shard: u8, token: StoreToken) {
        let process = &mut self.processes[place];
        if process.life != life || !process.is_up() {
            return;
        }
        let extents = process.disk.sync(shard, token.0);
        if extents
            .iter()
            .any(|extent| extent.content == atdd::domain::Content::Unchanged)
        {
            self.tally.count("settled in place");
        }
        if extents
            .iter()
            .any(|extent| extent.stamp.settled > extent.stamp.generation)
        {
            self.tally.count("settled");
        }
        self.trace(|_| format!("{} holds {extents:?}", rank(place)));
        if self.bug != Some(Bug::AcknowledgeBeforeStore) {
            let task = Task::Register(Input::Stored { token });
            let delay = self.dice.between(0, self.scenario.sync_max);
            self.tell_later(place, Worker::Register(shard), task, delay);
        }
    }

    /// Begins to record a fence; after those that were begun before.
    pub(crate) fn record(&mut self, place: usize, fence: Fence) {
        let now = self.now;
        let delay = self.dice.between(1, self.scenario.record_max);
        let process = &mut self.processes[place];
        let life = process.life;
        process.disk.accept_fence(fence);
        let due = &mut process.recorded_by;
        *due = (*due).max(now + delay);
        let delay = *due - now;
        let process = place;
        self.schedule(delay, Event::Record { process, life });
    }

    /// A fence is on record, and the keeper is told, in order.
    pub(crate) fn recorded(&mut self, place: usize, life: u64) {
        let process = &mut self.processes[place];
        if process.life != life || !process.is_up() {
            return;
        }
        let fence = process.disk.record();
        self.trace(|_| format!("{} has recorded {fence:?}", rank(place)));
        let task = Task::Keeper(attachment::Input::Recorded { fence });
        self.put(place, Worker::Keeper, task);
    }

    /// Reads stable state now, and says so now or later.
    pub(crate) fn load(
        &mut self,
        place: usize,
        shard: u8,
        token: LoadToken,
        range: SectorRange,
        newer_than: Option<&Runs<Vote>>,
    ) -> Option<Held> {
        let short = self.dice.chance(self.scenario.short_votes);
        let sectors = if short {
            u32::try_from(self.dice.between(1, range.count().into())).unwrap()
        } else {
            range.count()
        };
        let held = self.processes[place].disk.load(range, sectors, newer_than);
        if self.dice.chance(self.scenario.loads_at_once) {
            return Some(held);
        }
        let delay = self.dice.between(1, self.scenario.sync_max);
        let task = Task::Register(Input::Loaded { token, held });
        self.tell_later(place, Worker::Register(shard), task, delay);
        None
    }

    /// Which register of a process has this sector.
    pub(crate) fn shard_of(&self, address: SectorAddress) -> u8 {
        self.scenario.shard(crate::world::index(address)).0
    }
}
