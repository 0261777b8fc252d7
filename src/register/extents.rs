//! Cutting and joining values.

use crate::domain::{
    Content, Extent, Generation, Runs, SECTOR_SIZE, SectorAddress, SectorRange, Stamp,
};

use super::quorum::{Agreed, Owed};

/// The value of each decided sector from `first` on, ascending and without gaps: zeroes where the
/// highest stamp is nobody's, otherwise the value of that stamp from whichever of the `sources` has
/// it. Each source is ascending.
///
/// # Panics
/// When no source has the value of a highest stamp.
pub(super) fn join<'a>(
    first: SectorAddress,
    decided: &Runs<Agreed>,
    sources: impl Iterator<Item = &'a [Extent]>,
) -> Vec<Extent> {
    let all = SectorRange::new(first, decided.count()).expect("a part of the operation's range");
    let mut sources: Vec<&[Extent]> = sources.collect();
    let mut values = Vec::with_capacity(decided.run_count());
    for (offset, count, highest) in decided.map(|agreed| agreed.highest).spans() {
        let mut rest = Some(all.part(offset, count));
        while let Some(range) = rest {
            let value = if highest.is_written() {
                sources
                    .iter_mut()
                    .find_map(|source| leading_part(source, range, highest))
                    .expect("whoever voted for the highest stamp sent its value")
            } else {
                Extent::new(range, highest, Content::Zeroes)
            };
            rest = remainder(range, value.range.count());
            values.push(value);
        }
    }
    values
}

/// Zeroes for each decided sector of the range, under its highest stamp.
pub(super) fn zeroes(range: SectorRange, decided: &Runs<Agreed>) -> Vec<Extent> {
    let stamps = decided.map(|agreed| agreed.highest);
    let spans = stamps.spans();
    spans
        .map(|(offset, count, stamp)| {
            Extent::new(range.part(offset, count), stamp, Content::Zeroes)
        })
        .collect()
}

/// What is owed of `values`, to be stored under this generation, in a range that begins with the
/// first of them. The values are ascending and without gaps.
pub(super) fn select(values: &[Extent], owed: &Runs<Owed>, generation: Generation) -> Vec<Extent> {
    let mut selected = Vec::new();
    let Some(first) = values.first().map(|extent| extent.range.first()) else {
        return selected;
    };
    let all = SectorRange::new(first, owed.count()).expect("as many sectors as there are values");
    let mut values = values.iter().peekable();
    for (offset, count, owed) in owed.spans() {
        let span = all.part(offset, count);
        if owed == Owed::Unchanged {
            selected.push(unchanged(span, generation));
        }
        while let Some(value) = values.peek() {
            if owed == Owed::Value
                && let Some(common) = value.range.intersection(span)
            {
                let mut value = part(value, common);
                value.stamp = value.stamp.settled_under(generation);
                selected.push(value);
            }
            if value.range.last() > span.last() {
                break;
            }
            values.next();
        }
    }
    selected
}

/// That whatever these sectors hold is settled under this generation.
pub(super) fn unchanged(range: SectorRange, generation: Generation) -> Extent {
    let stamp = Stamp::ZERO.settled_under(generation);
    Extent::new(range, stamp, Content::Unchanged)
}

/// The part of a value that lies in `range`, without a copy of its bytes.
fn part(value: &Extent, range: SectorRange) -> Extent {
    let content = match &value.content {
        Content::Zeroes => Content::Zeroes,
        Content::Unchanged => Content::Unchanged,
        Content::Data(bytes) => {
            let start = bytes_of(value.range.offset_of(range.first()));
            Content::Data(bytes.slice(start..start + bytes_of(range.count())))
        }
    };
    Extent::new(range, value.stamp, content)
}

/// How many bytes so many sectors hold.
pub(super) fn bytes_of(sectors: u32) -> usize {
    usize::try_from(sectors).expect("32 bits fit a size") * SECTOR_SIZE
}

/// What is left of `range` behind its first `count` sectors.
pub(super) fn remainder(range: SectorRange, count: u32) -> Option<SectorRange> {
    (count < range.count()).then(|| range.part(count, range.count() - count))
}

/// The value of `stamp` at the beginning of `range`, as far as it goes; drops from the source what
/// lies before the range.
fn leading_part(source: &mut &[Extent], range: SectorRange, stamp: Stamp) -> Option<Extent> {
    while let Some((value, others)) = source.split_first() {
        if value.range.last() < range.first() {
            *source = others;
            continue;
        }
        let starts = value.stamp == stamp && value.range.contains(range.first());
        let common = value.range.intersection(range).filter(|_| starts)?;
        return Some(part(value, common));
    }
    None
}
