//! A map of several levels, held against a flat one through many checkpoints.

use rand_chacha::rand_core::Rng;

use super::history::{History, Shape, formatted, load};
use super::model::{Model, extent, range, stamp};
use crate::domain::{Stamp, Vote};
use crate::store::audit::{Verdict, audit};
use crate::store::identity::Identity;
use crate::store::spans::SpanMap;

const SHAPE: Shape = Shape {
    sectors: 1,
    trimmed: 1,
    write: 1,
    depth: 0,
};
const ADDRESSES: u64 = 200_000;

fn random(history: &History) -> u64 {
    history.client().random.next_u64()
}

fn verify(history: &History, flat: &SpanMap<Stamp>) {
    for _ in 0..200 {
        let first = random(history) % ADDRESSES;
        let wanted = range(first, 50);
        let held = load(&history.engine, wanted);
        for (address, offset) in (first..).zip(0..50) {
            let expected = flat.at(address).copied().unwrap_or(Stamp::ZERO);
            assert_eq!(
                held.votes.at(offset),
                Some(Vote::Stamp(expected)),
                "sector {address}"
            );
        }
    }
    let (identity, _) = Identity::read(&*history.medium).unwrap();
    let report = audit(&*history.medium, &identity, &mut |_| {}).unwrap();
    assert_eq!(report.verdict(), Verdict::Healthy, "{report:?}");
    assert_eq!(report.blocks_leaked, 0);
    assert_eq!(
        report.map_pages,
        history.engine.statistics().map_pages,
        "the pages are counted right"
    );
}

#[test]
fn a_deep_map_says_what_a_flat_one_does() {
    let history = History::begin(formatted(), Model::default(), 3, SHAPE).unwrap();
    let mut flat = SpanMap::new();
    for round in 1..=40_u64 {
        let mut extents = Vec::new();
        let singles = if round % 4 == 0 { 50 } else { 1500 };
        for n in 0..singles {
            let first = random(&history) % ADDRESSES;
            let stamp = stamp(round * 10_000 + n);
            flat.set(first, first, stamp);
            extents.push(extent(range(first, 1), stamp, false));
        }
        if round % 10 == 9 {
            // A trim that swallows a good part of the map.
            let first = random(&history) % (ADDRESSES / 2);
            let length = 20_000 + round * 500;
            let stamp = stamp(round * 10_000 + 9000);
            flat.set(first, first + length - 1, stamp);
            extents.push(extent(
                range(first, u32::try_from(length).unwrap()),
                stamp,
                false,
            ));
        }
        history.client().push(extents);
        history.commit();
        assert!(history.client().queue.is_empty(), "all is committed");
        if round % 3 != 0 {
            history.checkpoint();
        }
        if round % 8 == 0 {
            verify(&history, &flat);
        }
    }
    let entries = flat.len() as u64;
    let pages = history.engine.statistics().map_pages;
    assert!(
        entries > 15_000,
        "{entries} entries make a map of three levels"
    );
    assert!(pages < entries / 60, "{pages} pages for {entries} entries");
    let recovered = History::begin(history.medium.contents(), Model::default(), 4, SHAPE).unwrap();
    verify(&recovered, &flat);
}
