//! What orders the values of a sector.

use std::fmt;
use std::num::NonZeroU8;

/// A process's number in the cluster, from 1 to 254.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank(NonZeroU8);

impl Rank {
    /// The highest rank, and the largest cluster.
    pub const MAX: u8 = 254;

    /// The rank of this number, or `None` outside 1 to 254.
    pub const fn new(number: u8) -> Option<Self> {
        match NonZeroU8::new(number) {
            Some(number) if number.get() <= Self::MAX => Some(Self(number)),
            _ => None,
        }
    }

    /// The number, from 1 on.
    pub const fn number(self) -> u8 {
        self.0.get()
    }

    /// The rank's place in a list of all processes, from 0 on.
    pub const fn place(self) -> usize {
        self.0.get() as usize - 1
    }

    /// Every rank of a cluster of `processes`, ascending.
    pub fn all(processes: u8) -> impl DoubleEndedIterator<Item = Self> + Clone {
        (1..=processes).filter_map(Self::new)
    }
}

impl fmt::Debug for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for Rank {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// The number of an attachment to a volume, 0 while there was none (`ATTACHMENTS.md`).
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u64);

impl Generation {
    /// The highest that is believed of a peer or a disk. Nobody gets there by attaching, and whoever
    /// is told of a higher one could be made to count past the last number.
    pub const MAX: Self = Self(1 << 63);

    /// The generation of this number, or `None` above [`Self::MAX`].
    pub const fn new(number: u64) -> Option<Self> {
        if number <= Self::MAX.0 {
            Some(Self(number))
        } else {
            None
        }
    }
}

/// How often a process's store was started: raised durably before anything else at each start, so
/// that no stamp and no operation identifier is ever used twice.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u32);

/// The order of the values of one sector. The fields are in the order of comparison.
///
/// A sector that was never written has [`Stamp::ZERO`] and reads as zeroes. Two different values
/// never carry the same stamp: rank and incarnation say who made it, and a timestamp is used once
/// for a sector in an incarnation.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp {
    /// The generation that last made sure of this value; raised by settling alone.
    pub settled: Generation,
    /// The generation that wrote the value.
    pub generation: Generation,
    /// The classic algorithm's `ts`.
    pub timestamp: u64,
    /// The classic algorithm's `wr`: who wrote it; `None` (0 in encodings) if nobody did.
    pub rank: Option<Rank>,
    /// The writer's incarnation.
    pub incarnation: Incarnation,
}

/// The size of an encoded [`Stamp`].
pub const STAMP_BYTES: usize = 29;

const SETTLED: usize = 0;
const GENERATION: usize = SETTLED + 8;
const TIMESTAMP: usize = GENERATION + 8;
const RANK: usize = TIMESTAMP + 8;
const INCARNATION: usize = RANK + 1;
const _: () = assert!(INCARNATION + 4 == STAMP_BYTES);

/// The highest timestamp that is believed of a peer, as [`Generation::MAX`] is.
pub const TIMESTAMP_MAX: u64 = 1 << 63;

impl Stamp {
    /// Whether its numbers are such as somebody may have counted to.
    pub const fn is_countable(self) -> bool {
        self.settled.0 <= Generation::MAX.0
            && self.generation.0 <= Generation::MAX.0
            && self.timestamp <= TIMESTAMP_MAX
    }

    /// The stamp of a sector that was never written, below every other.
    pub const ZERO: Self = Self {
        settled: Generation(0),
        generation: Generation(0),
        timestamp: 0,
        rank: None,
        incarnation: Incarnation(0),
    };

    /// Whether the sector was never written nor settled.
    pub fn is_zero(self) -> bool {
        self == Self::ZERO
    }

    /// Whether some write made this stamp; if not, the sector reads as zeroes.
    pub const fn is_written(self) -> bool {
        self.rank.is_some()
    }

    /// The stamp, settled under this generation if it was not under a later one.
    #[must_use]
    pub fn settled_under(self, generation: Generation) -> Self {
        Self {
            settled: self.settled.max(generation),
            ..self
        }
    }

    /// The encoding for wire and disk: the fields in order of comparison, each in network byte
    /// order, so that encodings compare as the stamps do.
    ///
    /// | offset | size | field |
    /// |---|---|---|
    /// | 0 | 8 | settled generation |
    /// | 8 | 8 | generation |
    /// | 16 | 8 | timestamp |
    /// | 24 | 1 | rank, 0 for none |
    /// | 25 | 4 | incarnation |
    pub fn to_bytes(self) -> [u8; STAMP_BYTES] {
        let mut bytes = [0; STAMP_BYTES];
        bytes[SETTLED..GENERATION].copy_from_slice(&self.settled.0.to_be_bytes());
        bytes[GENERATION..TIMESTAMP].copy_from_slice(&self.generation.0.to_be_bytes());
        bytes[TIMESTAMP..RANK].copy_from_slice(&self.timestamp.to_be_bytes());
        bytes[RANK] = self.rank.map_or(0, Rank::number);
        bytes[INCARNATION..].copy_from_slice(&self.incarnation.0.to_be_bytes());
        bytes
    }

    /// The stamp of this encoding, or `None` when its rank is none of a process.
    pub fn from_bytes(bytes: &[u8; STAMP_BYTES]) -> Option<Self> {
        let number = |at: usize| {
            u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes were cut"))
        };
        let rank = match bytes[RANK] {
            0 => None,
            number => Some(Rank::new(number)?),
        };
        let incarnation = bytes[INCARNATION..]
            .try_into()
            .expect("four bytes were cut");
        Some(Self {
            settled: Generation(number(SETTLED)),
            generation: Generation(number(GENERATION)),
            timestamp: number(TIMESTAMP),
            rank,
            incarnation: Incarnation(u32::from_be_bytes(incarnation)),
        })
    }
}

impl fmt::Debug for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "({}, {}, {}, {}, {})",
            self.settled.0,
            self.generation.0,
            self.timestamp,
            self.rank.map_or(0, Rank::number),
            self.incarnation.0
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_stamp() -> impl Strategy<Value = Stamp> {
        (
            any::<u64>(),
            any::<u64>(),
            any::<u64>(),
            0..=Rank::MAX,
            any::<u32>(),
        )
            .prop_map(
                |(settled, generation, timestamp, rank, incarnation)| Stamp {
                    settled: Generation(settled),
                    generation: Generation(generation),
                    timestamp,
                    rank: Rank::new(rank),
                    incarnation: Incarnation(incarnation),
                },
            )
    }

    proptest! {
        #[test]
        fn encodings_keep_the_stamp_and_its_order(a in any_stamp(), b in any_stamp()) {
            prop_assert_eq!(Stamp::from_bytes(&a.to_bytes()), Some(a));
            prop_assert_eq!(a.cmp(&b), a.to_bytes().cmp(&b.to_bytes()));
            prop_assert!(a.is_zero() || a > Stamp::ZERO);
        }
    }

    #[test]
    fn rank_255_is_refused() {
        let mut bytes = Stamp::ZERO.to_bytes();
        bytes[RANK] = 255;
        assert_eq!(Stamp::from_bytes(&bytes), None);
        assert_eq!(Rank::new(0), None);
        assert_eq!(Rank::all(3).map(Rank::place).collect::<Vec<_>>(), [0, 1, 2]);
    }
}
