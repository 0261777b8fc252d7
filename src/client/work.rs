//! What is asked for of the disk, cut into what a session takes.

use bytes::Bytes;

use crate::domain::{SECTOR_SIZE, SECTOR_SIZE_U64};
use crate::wire::{RequestNumber, SectorValues, SessionQuestion};

/// A request of a session, before it has a number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// Values of sectors.
    Read {
        /// The first sector.
        first: u64,
        /// How many.
        count: u32,
    },
    /// New values.
    Write {
        /// The first sector.
        first: u64,
        /// Whole sectors.
        data: Bytes,
    },
    /// Zeroes that take no space.
    Discard {
        /// The first sector.
        first: u64,
        /// How many.
        count: u32,
    },
    /// Stable storage.
    Flush,
}

/// The most sectors of a session's read or write.
pub(super) const SECTORS_MAX: u32 = 256;

/// The most sectors of a session's discard.
pub(super) const DISCARD_SECTORS_MAX: u32 = 65_536;

/// The most bytes that one request writes or reads: what a session's credit must have room for.
pub(super) const BYTES_MAX: u64 = SECTORS_MAX_U64 * SECTOR_SIZE_U64;

const SECTORS_MAX_U64: u64 = SECTORS_MAX as u64;

impl Work {
    /// The message that asks for it.
    pub(super) fn question(&self, number: RequestNumber) -> SessionQuestion {
        match *self {
            Self::Read { first, count } => SessionQuestion::Read {
                number,
                first,
                count,
            },
            Self::Write { first, ref data } => SessionQuestion::Write {
                number,
                first,
                data: data.clone(),
            },
            Self::Discard { first, count } => SessionQuestion::Discard {
                number,
                first,
                count,
            },
            Self::Flush => SessionQuestion::Flush { number },
        }
    }

    /// The bytes that it writes or reads.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Read { count, .. } => u64::from(*count) * SECTOR_SIZE_U64,
            Self::Write { data, .. } => length(data),
            Self::Discard { .. } | Self::Flush => 0,
        }
    }

    /// The sectors that it is about: the first, and how many.
    pub(super) fn sectors(&self) -> (u64, u64) {
        match self {
            Self::Read { first, count } | Self::Discard { first, count } => {
                (*first, u64::from(*count))
            }
            Self::Write { first, data } => (*first, length(data) / SECTOR_SIZE_U64),
            Self::Flush => (0, 0),
        }
    }

    /// The sectors that it changes, if it does: the first, and how many.
    pub(super) fn changed(&self) -> Option<(u64, u64)> {
        match self {
            Self::Read { .. } | Self::Flush => None,
            Self::Write { .. } | Self::Discard { .. } => Some(self.sectors()),
        }
    }

    /// Whether these are the values that it asks for: so many sectors, and whole ones.
    pub(super) fn is_answered_by(&self, values: &[SectorValues]) -> bool {
        let Self::Read { count, .. } = self else {
            return false;
        };
        let mut sectors: u64 = 0;
        for part in values {
            sectors += match part {
                SectorValues::Zeroes(count) => u64::from(*count),
                SectorValues::Data(data) if data.len() % SECTOR_SIZE != 0 => return false,
                SectorValues::Data(data) => length(data) / SECTOR_SIZE_U64,
            };
        }
        sectors == u64::from(*count)
    }
}

/// Reads of all these sectors, in order.
pub(super) fn reads(first: u64, count: u64) -> impl Iterator<Item = Work> {
    parts(first, count, SECTORS_MAX).map(|(first, count)| Work::Read { first, count })
}

/// Writes of all these sectors, in order.
pub(super) fn writes(first: u64, mut data: Bytes) -> impl Iterator<Item = Work> {
    let sectors = length(&data) / SECTOR_SIZE_U64;
    parts(first, sectors, SECTORS_MAX).map(move |(first, count)| {
        let bytes = usize::try_from(count).expect("at most 256") * SECTOR_SIZE;
        Work::Write {
            first,
            data: data.split_to(bytes),
        }
    })
}

/// Discards of all these sectors, in order.
pub(super) fn discards(first: u64, count: u64) -> impl Iterator<Item = Work> {
    parts(first, count, DISCARD_SECTORS_MAX).map(|(first, count)| Work::Discard { first, count })
}

fn parts(first: u64, count: u64, largest: u32) -> impl Iterator<Item = (u64, u32)> {
    let end = first + count;
    let mut next = first;
    std::iter::from_fn(move || {
        let part = u64::from(largest).min(end - next);
        let first = next;
        next += part;
        let part = u32::try_from(part).expect("no more than the largest");
        (part > 0).then_some((first, part))
    })
}

fn length(data: &Bytes) -> u64 {
    u64::try_from(data.len()).expect("memory is below 2^64")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_cut_where_sessions_need_it() {
        let cut = |first, count| parts(first, count, 256).collect::<Vec<_>>();
        assert_eq!(cut(3, 0), []);
        assert_eq!(cut(0, 256), [(0, 256)]);
        assert_eq!(cut(255, 2), [(255, 2)]);
        assert_eq!(cut(10, 513), [(10, 256), (266, 256), (522, 1)]);
        assert_eq!(discards(0, 70_000).count(), 2);
    }

    #[test]
    fn a_write_keeps_its_bytes_in_order() {
        let mut data = vec![1; 4096 * 256];
        data.extend([2; 4096]);
        let works: Vec<_> = writes(0, data.into()).collect();
        assert_eq!(works.len(), 2);
        assert_eq!(works[0].changed(), Some((0, 256)));
        let last = Bytes::from(vec![2; 4096]);
        assert_eq!(
            works[1],
            Work::Write {
                first: 256,
                data: last
            }
        );
    }

    #[test]
    fn values_that_do_not_fit_are_told_from_those_that_do() {
        let read = Work::Read { first: 5, count: 3 };
        let data = |bytes: usize| SectorValues::Data(Bytes::from(vec![0; bytes]));
        assert!(read.is_answered_by(&[SectorValues::Zeroes(1), data(8192)]));
        assert!(!read.is_answered_by(&[SectorValues::Zeroes(2)]));
        assert!(!read.is_answered_by(&[SectorValues::Zeroes(3), data(4096)]));
        assert!(!read.is_answered_by(&[data(12_287)]));
        assert!(!Work::Flush.is_answered_by(&[]));
    }
}
