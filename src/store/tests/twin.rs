//! The store held against its twin in memory: whatever is asked for together comes out as if one
//! after the other.

use std::sync::Arc;

use proptest::prelude::*;

use super::history::{History, Nobody, Shape, formatted, load};
use super::model::{Model, extent, range, settling};
use crate::domain::{Extent, Generation, Held, Rank, Stamp, Vote};
use crate::store::manager::{Completions, SectorsManager, StoreRequest};
use crate::store::memory::MemorySectors;

const SHAPE: Shape = Shape {
    sectors: 1,
    trimmed: 1,
    write: 1,
    depth: 0,
};
const SECTORS: u64 = 12;

/// Something to be stored: few stamps, so that they meet, and of every order.
fn any_extent() -> impl Strategy<Value = Extent> {
    let sectors = (0..SECTORS, 1..=SECTORS).prop_map(|(first, count)| {
        let count = count.min(SECTORS - first);
        range(first, u32::try_from(count).unwrap())
    });
    let stamp = (0..4_u64, 0..3_u64, 0..3_u64).prop_map(|(settled, generation, timestamp)| Stamp {
        settled: Generation(settled.max(generation)),
        generation: Generation(generation),
        timestamp,
        rank: Rank::new(1),
        ..Stamp::ZERO
    });
    (sectors, stamp, 0..5_u8, 0..5_u64).prop_map(|(sectors, stamp, kind, generation)| match kind {
        0 | 1 => settling(sectors, Generation(generation)),
        2 => extent(sectors, stamp, false),
        _ => extent(sectors, stamp, true),
    })
}

/// A sector's stamp and bytes; none of a tombstone.
type Value = (Stamp, Vec<u8>);

/// The votes, and the values, each sector by itself.
fn sectors(held: &Held) -> Vec<(Vote, Option<Value>)> {
    let wanted = range(0, u32::try_from(SECTORS).unwrap());
    let value = |address| {
        let found = held
            .values
            .iter()
            .find(|value| value.range.contains(address));
        found.map(|found| {
            let content = match &found.content {
                crate::domain::Content::Data(bytes) => {
                    let start = found.range.offset_of(address) as usize * 4096;
                    bytes[start..start + 4096].to_vec()
                }
                _ => Vec::new(),
            };
            (found.stamp, content)
        })
    };
    let votes = wanted.addresses().zip(0..);
    votes
        .map(|(address, offset)| (held.votes.at(offset).unwrap(), value(address)))
        .collect()
}

fn compare(history: &History, twin: &MemorySectors) -> Result<(), TestCaseError> {
    let wanted = range(0, u32::try_from(SECTORS).unwrap());
    let held = load(&history.engine, wanted);
    prop_assert_eq!(sectors(&held), sectors(&twin.durable(wanted)));
    let statistics = history.engine.statistics();
    let data = held.values.iter().filter(|value| value.data_bytes() > 0);
    let data: u64 = data.map(|value| u64::from(value.range.count())).sum();
    prop_assert_eq!(statistics.data_sectors, data);
    Ok(())
}

proptest! {
    #[test]
    fn what_is_asked_for_together_comes_out_as_one_after_the_other(
        batches in prop::collection::vec(
            (prop::collection::vec(any_extent(), 1..8), any::<bool>()),
            1..8,
        ),
    ) {
        let history = History::begin(formatted(), Model::default(), 1, SHAPE).unwrap();
        let twin = MemorySectors::automatic();
        let nobody: Arc<dyn Completions> = Arc::new(Nobody);
        for (extents, checkpoint) in batches {
            for extent in extents {
                let extents = vec![extent];
                history.client().push(extents.clone());
                twin.store(vec![StoreRequest { token: 0, extents }], &nobody);
            }
            history.commit();
            compare(&history, &twin)?;
            if checkpoint {
                history.checkpoint();
            }
        }
        compare(&history, &twin)?;
        let mut contents = history.medium.contents();
        for seed in 2..4 {
            let again = History::begin(contents, Model::default(), seed, SHAPE).unwrap();
            compare(&again, &twin)?;
            again.checkpoint();
            compare(&again, &twin)?;
            contents = again.medium.contents();
        }
    }
}
