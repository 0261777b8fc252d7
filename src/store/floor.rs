//! The floor: settled generations that were raised by ranges.
//!
//! [`Content::Unchanged`](crate::domain::Content::Unchanged) settles whatever the sectors of a range
//! hold. To write each sector's stamp anew would cost a record a sector. Instead the range gets a
//! *floor*, one record: the stamp of a sector is the one that it was stored under, settled under the
//! floor if it was not under a later generation. That is its *effective* stamp, and nobody outside
//! of the store sees another. What is on disk stays as it is, the checksum of the data included,
//! which is bound to the stamp that they were stored under. A sector that was never written has
//! under a floor the zero stamp with the floor's generation, and zeroes.
//!
//! # Why a floor raises nothing that it should not
//! It holds for what is stored in the sectors later, too. That is right because a process answers
//! under a generation only once its fence is stable, and with it every store of older generations
//! that it had accepted; whatever it stores from then on is settled under that generation or a later
//! one, and a floor of it changes nothing about that. So a floor only ever raises what the sector
//! held when it was asked for. Whether that is still what its process had voted for is for the
//! register to make sure of: the store raises whatever it finds.
//!
//! # How it is kept
//! As tombstones of a *shadow volume*: the floor of a sector is found at its address with the top bit
//! set, under the stamp (generation, 0, 0, none, 0). Journal, map, checkpoints and recovery take it
//! as any other extent, of two of which the newer wins. So volumes' numbers end where the shadows
//! begin, and a floor goes only when a higher one takes its place. Neighbours that are equal become
//! one span. Where there are no floors nothing is looked up for them ([`Index`]). Programs that know
//! nothing of floors do not open a store that has some: only under an attachment's generation is
//! anything settled, and its fence, recorded before, raises the store's format.
//!
//! When a page of the map is damaged that has floors, the floors of its range are lost: a sector of
//! it has no vote, unless it was stored under a generation that no floor of the page can exceed.
//!
//! [`Index`]: super::index::Index

use super::entry::{Entry, with_gaps};
use super::spans::{Span, SpanMap};
use crate::domain::{Generation, INDEX_LIMIT, SectorAddress, SectorRange, Stamp};

/// The numbers of volumes are below this.
pub const VOLUME_LIMIT: u16 = 1 << 15;

/// Where the shadow volumes begin.
pub(crate) const FLOORS: u64 = 1 << 63;
const _: () = assert!((VOLUME_LIMIT as u64) << 48 == FLOORS);

/// Whether the sectors belong to a volume that there can not be.
pub(crate) const fn beyond_volumes(range: SectorRange) -> bool {
    range.first().volume().0 >= VOLUME_LIMIT
}

/// Whether a floor is kept at this address, and not a sector.
pub(crate) const fn is_floor(address: u64) -> bool {
    address >= FLOORS
}

/// Where the floors of the sectors `first..=last` are kept.
pub(crate) const fn floors_of((first, last): (u64, u64)) -> (u64, u64) {
    (first | FLOORS, last | FLOORS)
}

/// The stamp under which a floor is kept, which is that of a sector never written above it.
pub(crate) fn floor_stamp(generation: Generation) -> Stamp {
    Stamp::ZERO.settled_under(generation)
}

/// What is known of the floor of a sector.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Floor {
    /// It is this; generation 0 where there is none.
    Known(Generation),
    /// It is damaged, and was this at most.
    Lost { bound: Generation },
}

impl Floor {
    pub(crate) const NONE: Self = Self::Known(Generation(0));

    /// What is known of a floor that is kept as this entry.
    pub(crate) const fn of(entry: Option<Entry>) -> Self {
        match entry {
            None => Self::NONE,
            Some(Entry::Lost { bound }) => Self::Lost {
                bound: bound.settled,
            },
            Some(entry) => Self::Known(entry.bound().settled),
        }
    }

    /// The generation, or the highest that it may be.
    pub(crate) const fn bound(self) -> Generation {
        match self {
            Self::Known(generation) | Self::Lost { bound: generation } => generation,
        }
    }
}

/// Puts what became of a span into an overlay. Floors that are equal become one span, however many
/// records they came in.
pub(crate) fn lay(overlay: &mut SpanMap<Entry>, first: u64, last: u64, entry: Entry) {
    if is_floor(first) {
        overlay.set_joined(first, last, entry);
    } else {
        overlay.set(first, last, entry);
    }
}

/// How many of the items, which ascend, are floors.
pub(crate) fn count_floors(items: &[Span<Entry>]) -> u64 {
    let sectors = items.partition_point(|item| !is_floor(item.first));
    u64::try_from(items.len() - sectors).expect("memory is smaller")
}

/// Floors that are to be raised, by the sectors' own addresses.
pub(crate) struct Raised(SpanMap<Generation>);

impl Raised {
    pub(crate) const fn new() -> Self {
        Self(SpanMap::new())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Raises the floor of `first..=last`, where it is not raised higher.
    pub(crate) fn raise(&mut self, first: u64, last: u64, generation: Generation) {
        for part in self.parts(first, last) {
            if part.value.is_none_or(|known| known < generation) {
                self.0.set_joined(part.first, part.last, generation);
            }
        }
    }

    /// The whole of `first..=last` in order, and to what each part of it is raised.
    pub(crate) fn parts(&self, first: u64, last: u64) -> Vec<Span<Option<Generation>>> {
        let known = self.0.within(first, last).map(|span| Span {
            first: span.first,
            last: span.last,
            value: *span.value,
        });
        with_gaps(first, last, known)
    }

    /// The floors where they are kept, in as few ranges as hold them.
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (SectorRange, Generation)> {
        self.0.iter().flat_map(|span| {
            let (first, last) = floors_of((span.first, span.last));
            ranges(first, last).map(move |range| (range, *span.value))
        })
    }
}

/// The addresses as ranges, which end with their volume, and count in 32 bits.
fn ranges(first: u64, last: u64) -> impl Iterator<Item = SectorRange> {
    let mut next = Some(first).filter(|first| *first <= last);
    std::iter::from_fn(move || {
        let first = next?;
        let end = last.min(first | (INDEX_LIMIT - 1));
        let count = u32::try_from(end - first + 1).unwrap_or(u32::MAX);
        let range = SectorRange::new(SectorAddress::from_bits(first), count)
            .expect("it ends in the volume");
        next = range
            .last()
            .to_bits()
            .checked_add(1)
            .filter(|next| *next <= last);
        Some(range)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floors_are_kept_in_as_few_ranges_as_hold_them() {
        let mut raised = Raised::new();
        let top = INDEX_LIMIT - 1;
        raised.raise(top - 9, top, Generation(2));
        raised.raise(top + 1, top + 5, Generation(2));
        raised.raise(top - 20, top - 10, Generation(2));
        raised.raise(top - 4, top - 4, Generation(3));
        raised.raise(top - 9, top, Generation(1));
        let ranges: Vec<_> = raised
            .ranges()
            .map(|(range, generation)| {
                let (first, last) = (range.first().to_bits(), range.last().to_bits());
                assert!(is_floor(first));
                (first - FLOORS, last - FLOORS, generation.0)
            })
            .collect();
        assert_eq!(
            ranges,
            [
                (top - 20, top - 5, 2),
                (top - 4, top - 4, 3),
                (top - 3, top, 2),
                (top + 1, top + 5, 2)
            ]
        );
        let whole: u64 = super::ranges(FLOORS, FLOORS + (1 << 40))
            .map(|range| u64::from(range.count()))
            .sum();
        assert_eq!(whole, (1 << 40) + 1);
        let end = super::ranges(u64::MAX - 2, u64::MAX).collect::<Vec<_>>();
        assert_eq!(end.len(), 1);
    }
}
