//! A set of blocks that can be copied at once.

use std::sync::Arc;

use super::block::Run;

const CHUNK_WORDS: usize = 512;
const WORD_BITS: u64 = 64;
const CHUNK_BITS: u64 = 512 * WORD_BITS;

/// A set of block numbers: a bit for each block, in chunks that are shared with copies until one
/// of the two changes. A copy of the set of a terabyte costs 8,192 reference counts.
#[derive(Clone, Debug, Default)]
pub(crate) struct BlockSet {
    chunks: Vec<Arc<Chunk>>,
    members: u64,
}

/// Which blocks of a set are meant.
#[derive(Copy, Clone, Default)]
pub(crate) struct Rule<'a> {
    /// Only those that are in this set too.
    pub(crate) inside: Option<&'a BlockSet>,
    /// Only those that are in neither of these sets.
    pub(crate) outside: [Option<&'a BlockSet>; 2],
}

#[derive(Clone, Debug)]
struct Chunk {
    words: [u64; CHUNK_WORDS],
    members: u64,
}

impl Chunk {
    const EMPTY: Self = Self {
        words: [0; CHUNK_WORDS],
        members: 0,
    };
}

impl BlockSet {
    /// How many blocks are in the set.
    pub(crate) const fn len(&self) -> u64 {
        self.members
    }

    pub(crate) fn contains(&self, block: u64) -> bool {
        self.word(block / WORD_BITS) & (1 << (block % WORD_BITS)) != 0
    }

    /// Whether all of the run is in the set.
    pub(crate) fn contains_all(&self, run: Run) -> bool {
        masks(run).all(|(word, mask)| self.word(word) & mask == mask)
    }

    /// Whether any of the run is in the set.
    pub(crate) fn touches(&self, run: Run) -> bool {
        masks(run).any(|(word, mask)| self.word(word) & mask != 0)
    }

    /// Adds blocks, none of which is in the set.
    ///
    /// # Panics
    /// When one is: a block was freed twice.
    pub(crate) fn insert(&mut self, run: Run) {
        for (word, mask) in masks(run) {
            let (chunk, place) = self.chunk_mut(word);
            assert_eq!(
                chunk.words[place] & mask,
                0,
                "blocks of {run:?} are free twice"
            );
            chunk.words[place] |= mask;
            chunk.members += u64::from(mask.count_ones());
        }
        self.members += run.count;
    }

    /// Takes blocks out, all of which are in the set.
    ///
    /// # Panics
    /// When one is not: a block would be used twice.
    pub(crate) fn remove(&mut self, run: Run) {
        for (word, mask) in masks(run) {
            let (chunk, place) = self.chunk_mut(word);
            assert_eq!(
                chunk.words[place] & mask,
                mask,
                "blocks of {run:?} are in use twice"
            );
            chunk.words[place] &= !mask;
            chunk.members -= u64::from(mask.count_ones());
        }
        self.members -= run.count;
    }

    /// Takes out those blocks of the run that are in the set.
    pub(crate) fn remove_present(&mut self, run: Run) {
        for (word, mask) in masks(run) {
            let present = self.word(word) & mask;
            if present != 0 {
                let (chunk, place) = self.chunk_mut(word);
                let count = u64::from(present.count_ones());
                chunk.words[place] &= !present;
                chunk.members -= count;
                self.members -= count;
            }
        }
    }

    /// The first run at or after `from`, no longer than `most`, of blocks that are in this set and
    /// not ruled out.
    pub(crate) fn find(&self, from: u64, most: u64, rule: Rule<'_>) -> Option<Run> {
        let both = |word| {
            let inside = rule.inside.map_or(u64::MAX, |set| set.word(word));
            let outside = rule.outside.map(|set| set.map_or(0, |set| set.word(word)));
            self.word(word) & inside & !outside[0] & !outside[1]
        };
        let mut word = from / WORD_BITS;
        let mut bits = both(word) & (u64::MAX << (from % WORD_BITS));
        while bits == 0 {
            word = self.next_word(word + 1)?;
            bits = both(word);
        }
        let first = word * WORD_BITS + u64::from(bits.trailing_zeros());
        let mut end = first;
        loop {
            let ones = (both(end / WORD_BITS) >> (end % WORD_BITS)).trailing_ones();
            end += u64::from(ones);
            if ones == 0 || end - first >= most || !end.is_multiple_of(WORD_BITS) {
                break;
            }
        }
        Some(Run::new(first, (end - first).min(most)))
    }

    /// Every run of the set, ascending, each as long as can be.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Run> {
        let mut from = 0;
        std::iter::from_fn(move || {
            let run = self.find(from, u64::MAX, Rule::default())?;
            from = run.end();
            Some(run)
        })
    }

    /// The first word from this one on that lies in a chunk with members.
    fn next_word(&self, mut word: u64) -> Option<u64> {
        loop {
            let (index, place) = split(word);
            let chunk = self.chunks.get(index)?;
            if chunk.members > 0 {
                return Some(word);
            }
            word += u64::try_from(CHUNK_WORDS - place).expect("a small number");
        }
    }

    fn word(&self, word: u64) -> u64 {
        let (index, place) = split(word);
        self.chunks.get(index).map_or(0, |chunk| chunk.words[place])
    }

    fn chunk_mut(&mut self, word: u64) -> (&mut Chunk, usize) {
        let (index, place) = split(word);
        while self.chunks.len() <= index {
            self.chunks.push(Arc::new(Chunk::EMPTY));
        }
        (Arc::make_mut(&mut self.chunks[index]), place)
    }
}

fn split(word: u64) -> (usize, usize) {
    let bit = word * WORD_BITS;
    let index = usize::try_from(bit / CHUNK_BITS).expect("blocks are counted in memory");
    let place = usize::try_from(word).expect("blocks are counted in memory") % CHUNK_WORDS;
    (index, place)
}

/// The words that a run touches, each with the bits of the run.
fn masks(run: Run) -> impl Iterator<Item = (u64, u64)> {
    let first_word = run.first / WORD_BITS;
    let end_word = run.end().div_ceil(WORD_BITS);
    (first_word..end_word).map(move |word| {
        let start = run.first.max(word * WORD_BITS) % WORD_BITS;
        let bits = run.end().min((word + 1) * WORD_BITS) - word * WORD_BITS - start;
        let ones = if bits == WORD_BITS {
            u64::MAX
        } else {
            (1 << bits) - 1
        };
        (word, ones << start)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn a_block_set_is_a_set_of_numbers(
            steps in prop::collection::vec((0u64..70_000, 1u64..300, any::<bool>()), 1..40),
            from in 0u64..70_000,
            most in 1u64..400,
        ) {
            let mut set = BlockSet::default();
            let mut model = BTreeSet::new();
            for (first, count, add) in steps {
                let run = Run::new(first, count);
                let inside = (first..run.end()).filter(|block| model.contains(block)).count();
                prop_assert_eq!(set.contains_all(run), inside as u64 == count);
                prop_assert_eq!(set.touches(run), inside > 0);
                if add && inside == 0 {
                    set.insert(run);
                    model.extend(first..run.end());
                } else if !add && inside as u64 == count {
                    set.remove(run);
                    model.retain(|block| *block < first || *block >= run.end());
                }
            }
            prop_assert_eq!(set.len(), model.len() as u64);
            let listed: Vec<u64> = set.runs().flat_map(|run| run.first..run.end()).collect();
            prop_assert_eq!(&listed, &model.iter().copied().collect::<Vec<_>>());
            let expected = model.range(from..).next().copied();
            let found = set.find(from, most, Rule::default());
            prop_assert_eq!(found.map(|run| run.first), expected);
            if let Some(run) = found {
                prop_assert!(run.count <= most);
                prop_assert!(run.count == most || !model.contains(&run.end()));
            }
        }
    }

    #[test]
    fn a_copy_keeps_what_it_was() {
        let mut set = BlockSet::default();
        set.insert(Run::new(0, 100_000));
        let copy = set.clone();
        set.remove(Run::new(50, 70_000));
        assert_eq!(copy.len(), 100_000);
        assert_eq!(set.len(), 30_000);
        let inside = Rule {
            inside: Some(&set),
            outside: [None; 2],
        };
        assert_eq!(copy.find(0, 1000, inside), Some(Run::new(0, 50)));
        assert_eq!(copy.find(50, 10, inside), Some(Run::new(70_050, 10)));
        let outside = Rule {
            inside: None,
            outside: [None, Some(&set)],
        };
        assert_eq!(copy.find(0, 100_000, outside), Some(Run::new(50, 70_000)));
    }

    #[test]
    #[should_panic(expected = "free twice")]
    fn freeing_twice_is_a_broken_invariant() {
        let mut set = BlockSet::default();
        set.insert(Run::new(3, 4));
        set.insert(Run::new(6, 2));
    }
}
