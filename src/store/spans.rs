//! An ordered map whose keys are ranges of sectors.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// What is known of each sector, consecutive ones with the same value kept as one span.
///
/// Keys are sector addresses as numbers and spans are closed intervals, so that the very last
/// address has its place. Spans never overlap. A value stands for each sector of its span, so a
/// span can be split anywhere; neighbours are not merged here.
#[derive(Clone, Debug)]
pub(crate) struct SpanMap<V> {
    spans: BTreeMap<u64, (u64, V)>,
}

/// One span, cut to what was asked for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Span<V> {
    /// The first sector.
    pub(crate) first: u64,
    /// The last sector, inclusive.
    pub(crate) last: u64,
    /// What holds for each of them.
    pub(crate) value: V,
}

impl<V> Span<V> {
    /// How many sectors there are; the whole address space counts as one less than it is.
    pub(crate) fn count(&self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }
}

impl<V> Span<V> {
    /// Something else of the same sectors.
    pub(crate) const fn with<U>(&self, value: U) -> Span<U> {
        Span {
            first: self.first,
            last: self.last,
            value,
        }
    }
}

impl<V: Clone> SpanMap<V> {
    pub(crate) const fn new() -> Self {
        Self {
            spans: BTreeMap::new(),
        }
    }

    /// Sets the value of `first..=last`, whatever was known of them.
    pub(crate) fn set(&mut self, first: u64, last: u64, value: V) {
        debug_assert!(first <= last);
        if first == last
            && let Some((end, known)) = self.spans.get_mut(&first)
            && *end == last
        {
            *known = value;
            return;
        }
        self.clear(first, last);
        self.spans.insert(first, (last, value));
    }

    /// As [`Self::set`], and neighbours with the same value become one span with it.
    pub(crate) fn set_joined(&mut self, first: u64, last: u64, value: V)
    where
        V: PartialEq,
    {
        let before = self.spans.range(..first).next_back();
        let start = match before {
            Some((start, (end, known))) if *end >= first - 1 && *known == value => *start,
            _ => first,
        };
        let behind = last.checked_add(1);
        let behind = behind.and_then(|next| self.spans.range(..=next).next_back());
        let end = match behind {
            Some((_, (end, known))) if *end > last && *known == value => *end,
            _ => last,
        };
        self.set(start, end, value);
    }

    /// Forgets `first..=last`.
    pub(crate) fn clear(&mut self, first: u64, last: u64) {
        if let Some((_, (end, value))) = self.spans.range_mut(..first).next_back()
            && *end >= first
        {
            let (old_end, value) = (*end, value.clone());
            *end = first - 1;
            if old_end > last {
                self.spans.insert(last + 1, (old_end, value));
                return;
            }
        }
        while let Some((&start, _)) = self.spans.range(first..=last).next() {
            let Entry::Occupied(entry) = self.spans.entry(start) else {
                unreachable!("the key was just seen");
            };
            let (end, value) = entry.remove();
            if end > last {
                self.spans.insert(last + 1, (end, value));
            }
        }
    }

    /// The spans that touch `first..=last`, cut to it, ascending.
    pub(crate) fn within(&self, first: u64, last: u64) -> impl Iterator<Item = Span<&V>> {
        let reaching_in = self
            .spans
            .range(..first)
            .next_back()
            .filter(|(_, (end, _))| *end >= first);
        reaching_in
            .into_iter()
            .chain(self.spans.range(first..=last))
            .map(move |(&start, (end, value))| Span {
                first: start.max(first),
                last: (*end).min(last),
                value,
            })
    }

    /// Every span, ascending.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Span<&V>> {
        self.spans.iter().map(|(&first, (last, value))| Span {
            first,
            last: *last,
            value,
        })
    }

    /// What is known of this sector.
    #[cfg(test)]
    pub(crate) fn at(&self, address: u64) -> Option<&V> {
        let (_, (last, value)) = self.spans.range(..=address).next_back()?;
        (*last >= address).then_some(value)
    }

    /// How many spans there are.
    pub(crate) fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether nothing is known of any sector.
    pub(crate) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expanded(map: &SpanMap<u8>, top: u64) -> Vec<Option<u8>> {
        (0..top).map(|address| map.at(address).copied()).collect()
    }

    proptest! {
        #[test]
        fn spans_are_the_array_they_stand_for(
            sets in prop::collection::vec((0u64..40, 0u64..12, prop::option::of(0u8..4)), 0..40),
            window in (0u64..40, 0u64..20),
        ) {
            let mut map = SpanMap::new();
            let mut array = [None; 64];
            for (first, more, value) in sets {
                let last = first + more;
                match value {
                    Some(value) => map.set(first, last, value),
                    None => map.clear(first, last),
                }
                for place in first..=last {
                    array[usize::try_from(place).unwrap()] = value;
                }
            }
            prop_assert_eq!(expanded(&map, 64), array.to_vec());
            let (first, last) = (window.0, window.0 + window.1);
            let mut seen = [None; 64];
            for span in map.within(first, last) {
                prop_assert!(first <= span.first && span.first <= span.last && span.last <= last);
                for place in span.first..=span.last {
                    seen[usize::try_from(place).unwrap()] = Some(*span.value);
                }
            }
            for place in first..=last {
                let place = usize::try_from(place).unwrap();
                prop_assert_eq!(seen[place], array[place]);
            }
        }
    }

    proptest! {
        #[test]
        fn joining_changes_nothing_but_the_number_of_spans(
            sets in prop::collection::vec((0u64..40, 0u64..12, 0u8..3), 0..40),
        ) {
            let (mut map, mut joined) = (SpanMap::new(), SpanMap::new());
            for (first, more, value) in sets {
                map.set(first, first + more, value);
                joined.set_joined(first, first + more, value);
            }
            prop_assert_eq!(expanded(&map, 64), expanded(&joined, 64));
            let spans: Vec<_> = joined.iter().collect();
            for pair in spans.windows(2) {
                prop_assert!(pair[0].last + 1 < pair[1].first || pair[0].value != pair[1].value);
            }
        }
    }

    #[test]
    fn the_last_address_has_its_place() {
        let mut map = SpanMap::new();
        map.set(u64::MAX - 2, u64::MAX, 1);
        map.set(u64::MAX - 1, u64::MAX - 1, 2);
        assert_eq!(map.at(u64::MAX), Some(&1));
        assert_eq!(map.len(), 3);
        map.clear(0, u64::MAX);
        assert!(map.is_empty());
        map.set_joined(u64::MAX, u64::MAX, 1);
        map.set_joined(0, u64::MAX - 1, 1);
        assert_eq!(map.len(), 1);
    }
}
