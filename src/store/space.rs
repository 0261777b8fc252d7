//! The allocator: which blocks of the file are free.
//!
//! It lives in memory; what the root names is a copy of it as of a moment between two batches, and
//! every batch says what it takes and frees, so replaying the batches gives the rest.
//!
//! A block is in one of these states:
//! - *in use*, by a sector, a page, the journal, the free map or the fixed area;
//! - *free*: it may be written, and its space is there;
//! - *released*: in use by nothing, and its space may not be there: it was given back to the file
//!   system, or the file has never reached it. It becomes free by growth;
//! - *growing*: taken out of the released ones until the file system has answered.

use super::block::{Run, push_run, total};
use super::block_set::{BlockSet, Rule};

/// A batch of so few sectors is slowed down by writing to a block for the first time, which changes
/// the file system's own metadata; a larger one is better off with blocks that lie together.
const SMALL: u64 = 64;

/// What to leave for others as long as there is something else.
#[derive(Copy, Clone, Default)]
struct Sweep {
    /// Blocks that were never written.
    spares_fresh: bool,
    /// Blocks that only a checkpoint under way can use.
    spares_untouched: bool,
}

/// The most runs that one checkpoint gives back.
const RELEASED_RUNS_MAX: usize = 4096;

/// The free blocks, and during a checkpoint also those of the moment that it stands for.
pub(crate) struct Space {
    now: FreeBlocks,
    frozen: Option<Frozen>,
    /// Free blocks that were never written since their space was got.
    fresh: BlockSet,
    /// Released blocks that are being backed, and free ones that are being written for the first
    /// time or whose space is being given back.
    changing: Vec<Run>,
    /// Where the search for the next blocks begins: it sweeps over the file, so that what is
    /// written together lies together, as far as that is free.
    rover: u64,
}

/// The moment that a checkpoint stands for.
struct Frozen {
    /// The blocks as the next root will name them.
    blocks: FreeBlocks,
    /// Blocks that are free now and that no batch used since. Only these are for the checkpoint to
    /// take: where a later batch put a sector, or freed one, the root must leave that to the replay
    /// of the batch.
    untouched: BlockSet,
    /// How many the checkpoint took so far.
    taken: u64,
}

/// Free and released blocks of one moment.
#[derive(Clone, Default)]
pub(crate) struct FreeBlocks {
    pub(crate) free: BlockSet,
    pub(crate) released: BlockSet,
    /// Blocks from here on were never used.
    pub(crate) end: u64,
}

impl Space {
    pub(crate) fn new(now: FreeBlocks) -> Self {
        Self {
            now,
            frozen: None,
            fresh: BlockSet::default(),
            changing: Vec::new(),
            rover: 0,
        }
    }

    /// Blocks that can be taken.
    pub(crate) const fn free(&self) -> u64 {
        self.now.free.len()
    }

    /// Blocks that hold something.
    pub(crate) fn used(&self) -> u64 {
        self.backed() - self.now.free.len()
    }

    /// Blocks that take space, used or not.
    pub(crate) fn backed(&self) -> u64 {
        self.now.end - self.now.released.len() - total(&self.changing)
    }

    /// Takes `wanted` free blocks, or as many as there are, in as few runs as the sweep meets.
    pub(crate) fn take(&mut self, wanted: u64) -> Vec<Run> {
        self.take_from(wanted, false)
    }

    /// As [`Self::take`] for what the next root names: only blocks that were free at its moment and
    /// that no batch used since.
    pub(crate) fn take_for_root(&mut self, wanted: u64) -> Vec<Run> {
        let runs = self.take_from(wanted, true);
        let frozen = self.frozen.as_mut().expect("a checkpoint is under way");
        for run in &runs {
            frozen.blocks.free.remove(*run);
            frozen.taken += run.count;
        }
        runs
    }

    /// How many blocks the checkpoint that is under way took so far.
    pub(crate) fn taken_for_root(&self) -> u64 {
        self.frozen.as_ref().map_or(0, |frozen| frozen.taken)
    }

    fn take_from(&mut self, wanted: u64, for_root: bool) -> Vec<Run> {
        let mut taken = Vec::new();
        let mut left = wanted;
        for sweep in [
            Sweep {
                spares_fresh: wanted <= SMALL,
                spares_untouched: true,
            },
            Sweep {
                spares_fresh: false,
                spares_untouched: true,
            },
            Sweep::default(),
        ] {
            left -= self.sweep(left, for_root, sweep, &mut taken);
        }
        taken
    }

    /// Takes up to `wanted` blocks on one way around the file. How many they are.
    fn sweep(&mut self, wanted: u64, for_root: bool, sweep: Sweep, taken: &mut Vec<Run>) -> u64 {
        let mut left = wanted;
        let mut wrapped = false;
        while left > 0 {
            let untouched = self.frozen.as_ref().map(|frozen| &frozen.untouched);
            let rule = Rule {
                inside: untouched.filter(|_| for_root),
                outside: [
                    sweep.spares_fresh.then_some(&self.fresh),
                    untouched.filter(|_| sweep.spares_untouched && !for_root),
                ],
            };
            match self.now.free.find(self.rover, left, rule) {
                Some(run) => {
                    self.now.free.remove(run);
                    self.fresh.remove_present(run);
                    if let Some(frozen) = &mut self.frozen {
                        frozen.untouched.remove_present(run);
                    }
                    push_run(taken, run);
                    left -= run.count;
                    self.rover = run.end();
                }
                None if !wrapped => {
                    wrapped = true;
                    self.rover = 0;
                }
                None => break,
            }
        }
        wanted - left
    }

    /// Frees blocks that nothing refers to any more, on disk included.
    pub(crate) fn give(&mut self, run: Run) {
        self.now.free.insert(run);
    }

    /// Takes back what [`Self::take_for_root`] gave and the root does not name.
    pub(crate) fn give_unused(&mut self, run: Run) {
        self.now.free.insert(run);
        let frozen = self.frozen.as_mut().expect("a checkpoint is under way");
        frozen.blocks.free.insert(run);
        frozen.untouched.insert(run);
        frozen.taken -= run.count;
    }

    /// Begins to make more blocks free: each run is to be backed and then told to
    /// [`Self::end_growth`].
    pub(crate) fn begin_growth(&mut self, wanted: u64) -> Vec<Run> {
        let mut runs = Vec::new();
        let mut left = wanted;
        while left > 0 {
            let run = if let Some(run) = self.now.released.find(0, left, Rule::default()) {
                self.now.released.remove(run);
                run
            } else {
                let run = Run::new(self.now.end, left);
                self.now.end = run.end();
                run
            };
            self.changing.push(run);
            left -= run.count;
            runs.push(run);
        }
        runs
    }

    /// The file system backs the run, or refused to.
    pub(crate) fn end_growth(&mut self, run: Run, backed: bool) {
        if backed {
            self.fresh.insert(run);
            self.make_free(run);
        } else {
            self.changing.retain(|known| *known != run);
            self.now.released.insert(run);
        }
    }

    /// Takes a run of up to `most` blocks that were never written, to be written for once and then
    /// given to [`Self::make_free`]; not during a checkpoint.
    pub(crate) fn take_fresh(&mut self, most: u64) -> Option<Run> {
        assert!(
            self.frozen.is_none(),
            "whoever makes checkpoints takes these"
        );
        let run = self.fresh.find(0, most, Rule::default())?;
        self.fresh.remove(run);
        self.now.free.remove(run);
        self.changing.push(run);
        Some(run)
    }

    /// Frees a run that was being changed.
    pub(crate) fn make_free(&mut self, run: Run) {
        self.changing.retain(|known| *known != run);
        self.now.free.insert(run);
        if let Some(frozen) = &mut self.frozen {
            let claimed = frozen.blocks.claim(run);
            assert!(claimed, "what grows was released before");
            frozen.blocks.free.insert(run);
            frozen.untouched.insert(run);
        }
    }

    /// Remembers this moment for the next root. No batch may be under way.
    pub(crate) fn freeze(&mut self) {
        let mut blocks = self.now.clone();
        for run in &self.changing {
            blocks.released.insert(*run);
        }
        self.frozen = Some(Frozen {
            untouched: blocks.free.clone(),
            blocks,
            taken: 0,
        });
    }

    /// The blocks as the next root names them.
    pub(crate) fn frozen_mut(&mut self) -> &mut FreeBlocks {
        let frozen = self.frozen.as_mut().expect("a checkpoint is under way");
        &mut frozen.blocks
    }

    /// The root is durable, or given up.
    pub(crate) fn thaw(&mut self) {
        self.frozen = None;
    }

    /// Picks free blocks beyond `slack` to give their space back: the next root names them as
    /// released, and when it is durable the space may go and [`Self::end_release`] is told.
    pub(crate) fn begin_release(&mut self, slack: u64) -> Vec<Run> {
        let frozen = self.frozen.as_mut().expect("a checkpoint is under way");
        let spare = frozen.untouched.len();
        let mut surplus = spare.saturating_sub(slack);
        let mut runs = Vec::new();
        let mut from = 0;
        while surplus > 0 && runs.len() < RELEASED_RUNS_MAX {
            let Some(run) = frozen.untouched.find(from, surplus, Rule::default()) else {
                break;
            };
            self.now.free.remove(run);
            self.fresh.remove_present(run);
            frozen.untouched.remove(run);
            frozen.blocks.free.remove(run);
            frozen.blocks.released.insert(run);
            self.changing.push(run);
            surplus -= run.count;
            from = run.end();
            runs.push(run);
        }
        runs
    }

    /// The run's space is given back.
    pub(crate) fn end_release(&mut self, run: Run) {
        self.changing.retain(|known| *known != run);
        self.now.released.insert(run);
    }
}

impl FreeBlocks {
    /// Puts blocks that are free, released or beyond the end in use. False when one is in use
    /// already; then nothing is changed.
    pub(crate) fn claim(&mut self, run: Run) -> bool {
        if run.end() > self.end {
            self.released
                .insert(Run::new(self.end, run.end() - self.end));
            self.end = run.end();
        }
        let blocks = || run.first..run.end();
        if self.free.contains_all(run) {
            self.free.remove(run);
            return true;
        }
        if !blocks().all(|block| self.free.contains(block) || self.released.contains(block)) {
            return false;
        }
        for block in blocks().map(Run::single) {
            if self.free.contains(block.first) {
                self.free.remove(block);
            } else {
                self.released.remove(block);
            }
        }
        true
    }

    /// Frees blocks that are in use. False when one is not, or lies in the fixed area.
    pub(crate) fn free(&mut self, run: Run) -> bool {
        let sound = run.end() <= self.end && !self.free.touches(run) && !self.released.touches(run);
        if sound {
            self.free.insert(run);
        }
        sound
    }
}
