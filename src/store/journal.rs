//! Where in the file the journal's batches lie.
//!
//! The journal is a queue of runs of blocks. Batches are written from its head on, one behind the
//! other, across the seams between runs. A checkpoint lets the blocks before its moment go: the
//! next root names the queue without them, and with them or others appended. Until that root is
//! durable they are not written, since the root before it still needs them.

use super::block::{Run, push_run, total};

/// The queue as it may be written now. Positions count blocks since the journal began, so that they
/// mean the same before and after a checkpoint.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    runs: Vec<Run>,
    /// The position of the first block of the first run.
    head: u64,
    /// The position of the next batch.
    next: u64,
}

impl Journal {
    /// The journal of these runs, the next batch of which begins `next` blocks behind their first.
    pub(crate) fn new(runs: Vec<Run>, next: u64) -> Self {
        assert!(next <= total(&runs), "the next batch begins in the journal");
        Self {
            runs,
            head: 0,
            next,
        }
    }

    /// Blocks that can be written before a checkpoint has to let others go.
    pub(crate) fn room(&self) -> u64 {
        self.blocks() - self.filled()
    }

    /// Blocks that hold batches which the root does not cover.
    pub(crate) const fn filled(&self) -> u64 {
        self.next - self.head
    }

    /// All blocks.
    pub(crate) fn blocks(&self) -> u64 {
        total(&self.runs)
    }

    /// The position of the next batch.
    pub(crate) const fn position(&self) -> u64 {
        self.next
    }

    /// Where the next batch goes, if it takes so many blocks.
    ///
    /// # Panics
    /// When there is no room for them.
    pub(crate) fn take(&mut self, count: u64) -> Vec<Run> {
        assert!(count <= self.room(), "room was asked for");
        let place = part(&self.runs, self.next - self.head, count);
        self.next += count;
        place
    }

    /// The runs before `position`, which a checkpoint of that moment lets go, and those from it on.
    pub(crate) fn split(&self, position: u64) -> (Vec<Run>, Vec<Run>) {
        let passed = position - self.head;
        (
            part(&self.runs, 0, passed),
            part(&self.runs, passed, self.blocks() - passed),
        )
    }

    /// The root is durable that names these runs, the first block of which is at `head`.
    pub(crate) fn replace(&mut self, runs: Vec<Run>, head: u64) {
        assert!(head <= self.next, "batches behind the root's are kept");
        self.runs = runs;
        self.head = head;
        assert!(
            self.filled() <= self.blocks(),
            "the queue only loses its head"
        );
    }
}

/// The blocks from `skipped` on, `count` of them.
pub(crate) fn part(runs: &[Run], skipped: u64, count: u64) -> Vec<Run> {
    let mut skipped = skipped;
    let mut left = count;
    let mut found = Vec::new();
    for run in runs {
        let passed = skipped.min(run.count);
        skipped -= passed;
        let taken = left.min(run.count - passed);
        if taken > 0 {
            push_run(&mut found, Run::new(run.first + passed, taken));
            left -= taken;
        }
    }
    assert_eq!(left, 0, "the runs have as many blocks");
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(of: &[(u64, u64)]) -> Vec<Run> {
        of.iter()
            .map(|&(first, count)| Run::new(first, count))
            .collect()
    }

    #[test]
    fn batches_go_on_across_seams_and_behind_a_checkpoint() {
        let mut journal = Journal::new(runs(&[(10, 4), (30, 4)]), 0);
        assert_eq!(journal.take(3), runs(&[(10, 3)]));
        let moment = journal.position();
        assert_eq!(journal.take(2), runs(&[(13, 1), (30, 1)]));
        let (passed, kept) = journal.split(moment);
        assert_eq!(passed, runs(&[(10, 3)]));
        assert_eq!(kept, runs(&[(13, 1), (30, 4)]));
        assert_eq!(journal.room(), 3);
        journal.replace([kept, passed].concat(), moment);
        assert_eq!((journal.filled(), journal.room()), (2, 6));
        assert_eq!(journal.take(6), runs(&[(31, 3), (10, 3)]));
    }
}
