//! What the store knows of a sector.

use super::spans::Span;
use crate::domain::{SectorRange, Stamp};

/// What holds for each sector of a span.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Its bytes are in a slot of their own; such a span is one sector long.
    Data {
        stamp: Stamp,
        /// The block that holds the bytes.
        slot: u64,
        /// Of the bytes, bound to address and stamp.
        checksum: u64,
    },
    /// It was trimmed: zeroes that take no slot, under a stamp that must not be forgotten.
    Tombstone { stamp: Stamp },
    /// What was known of it is damaged. Its stamp was `bound` at most.
    Lost { bound: Stamp },
}

impl Entry {
    /// The stamp that was stored, or the highest that it may have been.
    pub(crate) const fn bound(&self) -> Stamp {
        match *self {
            Self::Data { stamp, .. } | Self::Tombstone { stamp } => stamp,
            Self::Lost { bound } => bound,
        }
    }

    /// The slot that holds the data, if there is one.
    pub(crate) const fn slot(&self) -> Option<u64> {
        match *self {
            Self::Data { slot, .. } => Some(slot),
            Self::Tombstone { .. } | Self::Lost { .. } => None,
        }
    }

    /// Whether a span of this may be longer than one sector.
    pub(crate) const fn extends(&self) -> bool {
        !matches!(self, Self::Data { .. })
    }
}

/// The first and last address of a range, as the numbers that spans are keyed by.
pub(crate) fn bounds(range: SectorRange) -> (u64, u64) {
    (range.first().to_bits(), range.last().to_bits())
}

/// Fills what `known` leaves open in `first..=last`: the whole of it in order, `None` where nothing
/// is known.
pub(crate) fn with_gaps<V: Copy>(
    first: u64,
    last: u64,
    known: impl Iterator<Item = Span<V>>,
) -> Vec<Span<Option<V>>> {
    let gap = |first, last| Span {
        first,
        last,
        value: None,
    };
    let mut all = Vec::new();
    let mut next = Some(first);
    for span in known {
        let start = next.expect("nothing lies beyond the last address");
        if start < span.first {
            all.push(gap(start, span.first - 1));
        }
        all.push(Span {
            first: span.first,
            last: span.last,
            value: Some(span.value),
        });
        next = span.last.checked_add(1);
    }
    if let Some(start) = next.filter(|start| *start <= last) {
        all.push(gap(start, last));
    }
    all
}

/// Appends a span, joined with the one before where nothing tells them apart.
pub(crate) fn push_span(spans: &mut Vec<Span<Entry>>, span: Span<Entry>) {
    if span.value.extends()
        && let Some(before) = spans.last_mut()
        && before.value == span.value
        && before.last.checked_add(1) == Some(span.first)
    {
        before.last = span.last;
    } else {
        spans.push(span);
    }
}

/// `old` with `new` laid over it; both ascend.
pub(crate) fn laid_over(
    old: &[Span<Entry>],
    new: impl Iterator<Item = Span<Entry>>,
) -> Vec<Span<Entry>> {
    let mut merged = Vec::with_capacity(old.len());
    let mut under = old.iter().copied();
    let mut current = under.next();
    for over in new {
        while let Some(span) = current
            && span.first <= over.last
        {
            if span.first < over.first {
                let last = span.last.min(over.first - 1);
                push_span(&mut merged, Span { last, ..span });
            }
            current = if span.last > over.last {
                let first = over.last + 1;
                Some(Span { first, ..span })
            } else {
                under.next()
            };
            if current.is_some_and(|rest| rest.first > over.last) {
                break;
            }
        }
        push_span(&mut merged, over);
    }
    for span in current.into_iter().chain(under) {
        push_span(&mut merged, span);
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::spans::SpanMap;
    use proptest::prelude::*;

    fn tombstone(timestamp: u64) -> Entry {
        let stamp = Stamp {
            timestamp,
            ..Stamp::ZERO
        };
        Entry::Tombstone { stamp }
    }

    fn listed(map: &SpanMap<Entry>) -> Vec<Span<Entry>> {
        map.iter()
            .map(|span| Span {
                first: span.first,
                last: span.last,
                value: *span.value,
            })
            .collect()
    }

    fn map_of(sets: &[(u64, u64, u64)]) -> SpanMap<Entry> {
        let mut map = SpanMap::new();
        for &(first, more, timestamp) in sets {
            map.set(first, first + more, tombstone(timestamp));
        }
        map
    }

    proptest! {
        #[test]
        fn laying_over_is_setting_one_after_another(
            old in prop::collection::vec((0u64..60, 0u64..9, 0u64..3), 0..20),
            new in prop::collection::vec((0u64..60, 0u64..9, 0u64..3), 0..20),
        ) {
            let (under, over) = (map_of(&old), map_of(&new));
            let merged = laid_over(&listed(&under), listed(&over).into_iter());
            let mut expected = under.clone();
            for span in over.iter() {
                expected.set(span.first, span.last, *span.value);
            }
            let mut result: SpanMap<Entry> = SpanMap::new();
            for span in &merged {
                result.set(span.first, span.last, span.value);
            }
            for address in 0..80 {
                prop_assert_eq!(result.at(address), expected.at(address));
            }
            for pair in merged.windows(2) {
                prop_assert!(pair[0].last < pair[1].first);
                prop_assert!(pair[0].last + 1 < pair[1].first || pair[0].value != pair[1].value);
            }
        }
    }
}
