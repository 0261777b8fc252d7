//! Where things lie in the file, and the first fields of everything that is checked.
//!
//! | block | what |
//! |---|---|
//! | 0, 1 | identity, first copy |
//! | 2 | root of even sequence, first copy |
//! | 3 | root of odd sequence, first copy |
//! | 4, 5 | identity, second copy |
//! | 6 | root of even sequence, second copy |
//! | 7 | root of odd sequence, second copy |
//! | 8… | sectors, journal, map pages and the free map, wherever the allocator put them |
//!
//! The two copies of each thing lie apart: one spot of damage does not take both.
//!
//! All numbers are in network byte order, as on the wire.

/// The format that this program writes, and the highest that it reads.
pub(crate) const FORMAT: u32 = 2;

/// The format of a store that no attachment was ever recorded in: what the program did that knew
/// nothing of fences is still right with it.
pub(crate) const FORMAT_WITHOUT_FENCES: u32 = 1;

/// Blocks of one copy of the identity.
pub(crate) const IDENTITY_BLOCKS: usize = 2;

/// Where the copies of the identity begin.
pub(crate) const IDENTITY_PLACES: [u64; 2] = [0, 4];

/// Where the copies of the root of this sequence are.
pub(crate) const fn root_places(sequence: u64) -> [u64; 2] {
    let place = 2 + sequence % 2;
    [place, place + 4]
}

/// The first block that is given out by the allocator.
pub(crate) const FIXED_BLOCKS: u64 = 8;
