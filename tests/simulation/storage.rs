//! What a process's disk is asked for, and when it answers.

use std::collections::VecDeque;

use atdd::domain::{Content, Extent, Held, Incarnation, Runs, SectorRange, Vote};
use atdd::register::{Input, LoadToken, StoreToken};

use crate::bug::Bug;
use crate::world::{Event, World, rank};

impl World {
    /// Begins to store values.
    pub(crate) fn store(
        &mut self,
        place: usize,
        token: StoreToken,
        mut extents: Vec<Extent>,
        inputs: &mut VecDeque<Input>,
    ) -> Result<(), String> {
        self.note_stored(place, &mut extents)?;
        let life = self.processes[place].life;
        self.processes[place].disk.accept(token.0, extents);
        let delay = self.dice.between(1, self.scenario.sync_max);
        let process = place;
        self.schedule(
            delay,
            Event::Sync {
                process,
                life,
                token,
            },
        );
        if self.bug == Some(Bug::AcknowledgeBeforeStore) {
            inputs.push_back(Input::Stored { token });
        }
        Ok(())
    }

    /// Learns the stamps of discards from what their coordinator stores.
    pub(crate) fn note_stored(
        &mut self,
        place: usize,
        extents: &mut [Extent],
    ) -> Result<(), String> {
        let incarnation = self.processes[place].incarnation;
        for extent in extents {
            let own = extent.stamp.rank == Some(rank(place));
            let tombstone = extent.content == Content::Zeroes;
            if own && extent.stamp.incarnation == incarnation && tombstone && self.bug.is_none() {
                self.history.tombstone(place, extent)?;
            }
            if self.bug == Some(Bug::RankNotCompared) {
                extent.stamp.rank = Some(rank(0));
                extent.stamp.incarnation = Incarnation(1);
            }
        }
        Ok(())
    }

    /// A store becomes stable: a crash no longer undoes it, though nobody has been told.
    pub(crate) fn sync(&mut self, place: usize, life: u64, token: StoreToken) {
        let process = &mut self.processes[place];
        if process.life != life || !process.is_up() {
            return;
        }
        let extents = process.disk.sync(token.0);
        self.trace(|_| format!("{} holds {extents:?}", rank(place)));
        if self.bug != Some(Bug::AcknowledgeBeforeStore) {
            let process = place;
            let delay = self.dice.between(0, self.scenario.sync_max);
            self.schedule(
                delay,
                Event::Stored {
                    process,
                    life,
                    token,
                },
            );
        }
    }

    /// The register learns that a store is stable.
    pub(crate) fn stored(
        &mut self,
        place: usize,
        life: u64,
        token: StoreToken,
    ) -> Result<(), String> {
        if self.processes[place].life != life {
            return Ok(());
        }
        self.step(place, Input::Stored { token })
    }

    /// Reads stable state now, and says so now or later.
    pub(crate) fn load(
        &mut self,
        place: usize,
        token: LoadToken,
        range: SectorRange,
        newer_than: Option<&Runs<Vote>>,
        inputs: &mut VecDeque<Input>,
    ) {
        let short = self.dice.chance(self.scenario.short_votes);
        let sectors = if short {
            u32::try_from(self.dice.between(1, range.count().into())).unwrap()
        } else {
            range.count()
        };
        let process = &self.processes[place];
        let life = process.life;
        let held = process.disk.load(range, sectors, newer_than);
        if self.dice.chance(self.scenario.loads_at_once) {
            inputs.push_back(Input::Loaded { token, held });
            return;
        }
        let process = place;
        let delay = self.dice.between(1, self.scenario.sync_max);
        self.schedule(
            delay,
            Event::Loaded {
                process,
                life,
                token,
                held,
            },
        );
    }

    /// The register learns what was read.
    pub(crate) fn loaded(
        &mut self,
        place: usize,
        life: u64,
        token: LoadToken,
        held: Held,
    ) -> Result<(), String> {
        if self.processes[place].life != life {
            return Ok(());
        }
        self.step(place, Input::Loaded { token, held })
    }
}
