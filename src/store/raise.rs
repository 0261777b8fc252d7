//! Planning what settles: a range's floor is raised by one record, whatever the sectors hold.

use std::cmp::Ordering;

use super::entry::{bounds, with_gaps};
use super::floor::{Floor, floors_of};
use super::index::{Compared, Index, Known};
use super::plan::{LOOKUP_SPANS, Plan, Step, TOMBSTONE_COST};
use super::spans::Span;
use super::tree::{Missing, Pages};
use crate::domain::{Content, Extent, Generation, SectorRange, Stamp};

/// The first and last address that have to be looked up to plan this part of an extent.
pub(crate) fn lookup_for(extent: &Extent, part: SectorRange) -> (u64, u64) {
    match extent.content {
        Content::Unchanged => floors_of(bounds(part)),
        _ => bounds(part),
    }
}

impl Plan {
    /// Plans to raise the floor of an extent, from `sector` on, as far as there is room. What the
    /// sectors hold does not matter, and is not looked up.
    pub(super) fn add_floor(
        &mut self,
        index: &Index,
        pages: &impl Pages,
        extent: &Extent,
        sector: &mut u32,
    ) -> Result<Step, Missing> {
        let generation = extent.stamp.settled;
        let mut touched = false;
        while let Some(left) = extent
            .range
            .count()
            .checked_sub(*sector)
            .filter(|left| *left > 0)
        {
            let part = extent.range.part(*sector, left);
            let looked_up = lookup_for(extent, part);
            let known = index.lookup(pages, looked_up, LOOKUP_SPANS)?;
            let Some(raised) = lower(&known, generation) else {
                return Ok(Step::Refused);
            };
            for (first, last) in raised {
                let Some(left) = self.room.journal_bytes.checked_sub(TOMBSTONE_COST) else {
                    return Ok(Step::Full);
                };
                self.room.journal_bytes = left;
                let offset = first - looked_up.0;
                let base = part.first().to_bits() + offset;
                self.raised.raise(base, base + (last - first), generation);
                touched = true;
            }
            let reached = known.last().map_or(looked_up.1, |span| span.last);
            *sector += u32::try_from(reached - looked_up.0 + 1).expect("within the extent");
        }
        Ok(Step::Done { touched })
    }

    /// How the stamp compares to sectors of which the same is known, with the floors that the batch
    /// raises. Those raise what the batch stores, too, whichever came first.
    pub(super) fn under_raised(&self, stamp: Stamp, known: &Span<Known>) -> Vec<Span<Compared>> {
        let mut compared = Vec::new();
        for part in self.raised.parts(known.first, known.last) {
            let Some(generation) = part.value else {
                compared.push(part.with(known.value.compare(stamp)));
                continue;
            };
            let planned = self.values.within(part.first, part.last);
            let planned = planned.map(|span| span.with(span.value.stamp));
            for part in with_gaps(part.first, part.last, planned) {
                let then = match part.value {
                    None => known.value,
                    Some(stamp) => Known::stored_now(stamp),
                };
                compared.push(part.with(then.raised_to(generation).compare(stamp)));
            }
        }
        compared
    }
}

/// Where the floor is to be raised: ranges without a higher floor in them, and not all of which has
/// this one already. `None` if a floor is lost that may have been higher.
///
/// Parts that have just this floor lie within a range, so that it stays one record.
fn lower(floors: &[Span<Known>], generation: Generation) -> Option<Vec<(u64, u64)>> {
    let compared: Vec<_> = floors
        .iter()
        .map(|span| match Floor::of(span.value.entry) {
            Floor::Known(known) => Some(span.with(generation.cmp(&known))),
            Floor::Lost { bound } => (generation >= bound).then(|| span.with(Ordering::Greater)),
        })
        .collect::<Option<_>>()?;
    let runs = compared.chunk_by(|a, b| a.value.is_lt() == b.value.is_lt());
    let lower = runs.filter(|run| run.iter().any(|span| span.value.is_gt()));
    Some(
        lower
            .map(|run| (run[0].first, run[run.len() - 1].last))
            .collect(),
    )
}
