//! A medium that remembers how it came to be, so that a crash can be put anywhere.

use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::Rng;

use crate::store::block::{BLOCK_SIZE, Block, Run};
use crate::store::medium::Medium;

/// The unit that is written whole or not at all.
const PIECE: usize = 512;

/// Something that was done to the medium.
#[derive(Clone)]
pub(crate) enum Operation {
    Write { first: u64, blocks: Vec<Arc<Block>> },
    Sync,
    Allocate(Run),
    Release(Run),
}

/// A medium's contents, cheap to copy.
#[derive(Clone, Default)]
pub(crate) struct Contents {
    blocks: Vec<Option<Arc<Block>>>,
}

/// What survives of the pieces that were not synced.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Survival {
    None,
    All,
    /// Each with a chance of so many in 256.
    Some(u8),
    /// All but one.
    AllButOne,
    /// One alone.
    OnlyOne,
    /// Each with an even chance, and what does not survive may be neither old nor new.
    Garbage,
}

/// What became of a piece that was not synced.
#[derive(Copy, Clone, PartialEq, Eq)]
enum Fate {
    Old,
    New,
    Garbage,
}

type Hook = Box<dyn FnMut() + Send>;

#[derive(Default)]
pub(crate) struct CrashMedium {
    state: Mutex<State>,
    hook: Mutex<Option<Hook>>,
}

#[derive(Default)]
struct State {
    contents: Contents,
    log: Vec<Operation>,
    /// The file can not grow beyond so many backed blocks.
    limit: Option<usize>,
    /// Syncs fail.
    broken: bool,
    /// Blocks that were read from the medium itself.
    stable_reads: Vec<Run>,
}

impl Contents {
    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Write { first, blocks } => {
                for (place, block) in (*first..).zip(blocks) {
                    *self.block_mut(place) = Some(Arc::clone(block));
                }
            }
            Operation::Sync => {}
            Operation::Allocate(run) => self.allocate(*run),
            Operation::Release(run) => {
                for place in run.first..run.end().min(self.blocks.len() as u64) {
                    *self.block_mut(place) = None;
                }
            }
        }
    }

    fn allocate(&mut self, run: Run) {
        for place in run.first..run.end() {
            if self.blocks.len() as u64 <= place {
                self.blocks.resize(place as usize + 1, None);
            }
            // Space that was never written reads as anything.
            let _ = self
                .block_mut(place)
                .get_or_insert_with(|| Arc::new(Block([0xa5; BLOCK_SIZE])));
        }
    }

    fn block_mut(&mut self, place: u64) -> &mut Option<Arc<Block>> {
        &mut self.blocks[place as usize]
    }

    fn backed(&self) -> usize {
        self.blocks.iter().flatten().count()
    }

    /// Applies what was not synced as far as it survives.
    fn apply_torn(
        &mut self,
        operations: &[Operation],
        survival: Survival,
        random: &mut ChaCha8Rng,
    ) {
        let pieces: usize = operations
            .iter()
            .map(|operation| match operation {
                Operation::Write { blocks, .. } => blocks.len() * BLOCK_SIZE / PIECE,
                _ => 1,
            })
            .sum();
        let chosen = random.next_u64() as usize % pieces.max(1);
        let mut number = 0;
        let mut fate = || {
            number += 1;
            let survives = match survival {
                Survival::None => false,
                Survival::All => true,
                Survival::Some(chance) => (random.next_u32() & 0xff) < u32::from(chance),
                Survival::AllButOne => number - 1 != chosen,
                Survival::OnlyOne => number - 1 == chosen,
                Survival::Garbage => match random.next_u32() % 4 {
                    0 => return Fate::Garbage,
                    other => other == 1,
                },
            };
            if survives { Fate::New } else { Fate::Old }
        };
        for operation in operations {
            let Operation::Write { first, blocks } = operation else {
                if fate() == Fate::New {
                    self.apply(operation);
                }
                continue;
            };
            for (place, block) in (*first..).zip(blocks) {
                for piece in (0..BLOCK_SIZE).step_by(PIECE) {
                    let fate = fate();
                    if fate == Fate::Old || place as usize >= self.blocks.len() {
                        continue;
                    }
                    let old = self
                        .block_mut(place)
                        .get_or_insert_with(|| Arc::new(Block::ZERO));
                    let into = &mut Arc::make_mut(old).0[piece..piece + PIECE];
                    match fate {
                        Fate::New => into.copy_from_slice(&block.0[piece..piece + PIECE]),
                        _ => into.fill(0xdb),
                    }
                }
            }
        }
    }

    /// Changes a bit.
    pub(crate) fn rot(&mut self, block: u64, random: &mut ChaCha8Rng) {
        let bit = random.next_u64() as usize % (BLOCK_SIZE * 8);
        let block = self.block_mut(block).as_mut().expect("it is backed");
        Arc::make_mut(block).0[bit / 8] ^= 1 << (bit % 8);
    }

    /// Takes a block from elsewhere.
    pub(crate) fn copy_block(&mut self, from: &Self, block: u64) {
        *self.block_mut(block) = from.blocks[block as usize].clone();
    }

    /// Overwrites a whole block.
    pub(crate) fn wreck(&mut self, block: u64) {
        *self.block_mut(block) = Some(Arc::new(Block([0x77; BLOCK_SIZE])));
    }
}

impl CrashMedium {
    /// Overwrites every block that has these bytes.
    pub(crate) fn wreck_content(&self, bytes: &[u8]) {
        let contents = &mut self.state().contents;
        for place in 0..contents.blocks.len() as u64 {
            if matches!(contents.block_mut(place), Some(block) if block.0[..] == *bytes) {
                contents.wreck(place);
            }
        }
    }

    pub(crate) fn new(contents: Contents) -> Arc<Self> {
        let medium = Self::default();
        medium.state().contents = contents;
        Arc::new(medium)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic leaves it poisoned")
    }

    pub(crate) fn contents(&self) -> Contents {
        self.state().contents.clone()
    }

    /// How many things were done so far.
    pub(crate) fn operations(&self) -> usize {
        self.state().log.len()
    }

    pub(crate) fn take_log(&self) -> Vec<Operation> {
        std::mem::take(&mut self.state().log)
    }

    pub(crate) fn backed(&self) -> usize {
        self.state().contents.backed()
    }

    pub(crate) fn limit(&self, blocks: Option<usize>) {
        self.state().limit = blocks;
    }

    pub(crate) fn break_syncs(&self, broken: bool) {
        self.state().broken = broken;
    }

    pub(crate) fn take_stable_reads(&self) -> Vec<Run> {
        std::mem::take(&mut self.state().stable_reads)
    }

    /// Calls this at every write, but not for those that it makes itself.
    pub(crate) fn at_writes(&self, hook: Option<Hook>) {
        *self.hook.lock().expect("no panic leaves it poisoned") = hook;
    }

    fn interrupt(&self) {
        let hook = self
            .hook
            .lock()
            .expect("no panic leaves it poisoned")
            .take();
        if let Some(mut hook) = hook {
            hook();
            self.at_writes(Some(hook));
        }
    }
}

/// The medium after a crash behind the first `cut` operations.
pub(crate) fn crashed(
    start: &Contents,
    log: &[Operation],
    cut: usize,
    survival: Survival,
    random: &mut ChaCha8Rng,
) -> Contents {
    let is_sync = |operation: &Operation| matches!(operation, Operation::Sync);
    let synced = log[..cut].iter().rposition(is_sync).map_or(0, |at| at + 1);
    let mut contents = start.clone();
    log[..synced]
        .iter()
        .for_each(|operation| contents.apply(operation));
    contents.apply_torn(&log[synced..cut], survival, random);
    contents
}

impl Medium for CrashMedium {
    fn read(&self, first: u64, into: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        for (place, into) in (first..).zip(into.chunks_exact_mut(BLOCK_SIZE)) {
            match state.contents.blocks.get(place as usize) {
                Some(Some(block)) => into.copy_from_slice(&block.0),
                _ => into.fill(0),
            }
        }
        Ok(())
    }

    fn read_at_once(&self, first: u64, into: &mut [u8]) -> io::Result<bool> {
        self.read(first, into).map(|()| true)
    }

    fn read_stable(&self, first: u64, into: &mut [Block]) -> io::Result<()> {
        let run = Run::new(first, into.len() as u64);
        self.state().stable_reads.push(run);
        self.read(first, bytemuck::cast_slice_mut(into))
    }

    fn write(&self, first: u64, pieces: &[IoSlice<'_>]) -> io::Result<()> {
        self.interrupt();
        let bytes: Vec<u8> = pieces
            .iter()
            .flat_map(|piece| piece.iter().copied())
            .collect();
        assert_eq!(bytes.len() % BLOCK_SIZE, 0, "only whole blocks are written");
        let blocks: Vec<Arc<Block>> = bytes
            .chunks_exact(BLOCK_SIZE)
            .map(|bytes| Arc::new(Block(bytes.try_into().unwrap())))
            .collect();
        let mut state = self.state();
        for place in first..first + blocks.len() as u64 {
            let backed = state.contents.blocks.get(place as usize);
            assert!(
                matches!(backed, Some(Some(_))),
                "block {place} is not backed"
            );
        }
        let operation = Operation::Write { first, blocks };
        state.contents.apply(&operation);
        state.log.push(operation);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        if state.broken {
            return Err(io::Error::from_raw_os_error(5));
        }
        state.log.push(Operation::Sync);
        Ok(())
    }

    fn allocate(&self, run: Run) -> io::Result<()> {
        let mut state = self.state();
        let mut grown = state.contents.clone();
        grown.allocate(run);
        if state.limit.is_some_and(|limit| grown.backed() > limit) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.contents = grown;
        state.log.push(Operation::Allocate(run));
        Ok(())
    }

    fn release(&self, run: Run) -> io::Result<()> {
        let operation = Operation::Release(run);
        let mut state = self.state();
        state.contents.apply(&operation);
        state.log.push(operation);
        Ok(())
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.state().contents.blocks.len() as u64)
    }
}
