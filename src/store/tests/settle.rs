//! Floors: what they cost, what damage to them costs, and where nothing is asked of them.

use std::cell::Cell;

use super::history::{History, Shape, formatted, load};
use super::model::{Model, at, extent, range, settling, stamp};
use crate::domain::{Extent, Generation, Stamp, Vote};
use crate::store::audit::{Report, Verdict, audit};
use crate::store::cache::{Found, PageCache};
use crate::store::identity::Identity;
use crate::store::page::PageRef;
use crate::store::tree::Pages;

const SHAPE: Shape = Shape {
    sectors: 1,
    trimmed: 1,
    write: 1,
    depth: 0,
};

fn begin(contents: super::medium::Contents) -> History {
    History::begin(contents, Model::default(), 1, SHAPE).unwrap()
}

fn store(history: &History, extents: Vec<Extent>) {
    history.client().push(extents);
    history.commit();
}

fn settle(history: &History, first: u64, count: u32, generation: u64) {
    let extent = settling(range(first, count), Generation(generation));
    store(history, vec![extent]);
}

fn vote(history: &History, sector: u64) -> Vote {
    load(&history.engine, range(sector, 1)).votes.at(0).unwrap()
}

fn settled(stamp: Stamp, generation: u64) -> Vote {
    Vote::Stamp(stamp.settled_under(Generation(generation)))
}

fn report(history: &History) -> Report {
    let (identity, _) = Identity::read(&*history.medium).unwrap();
    audit(&*history.medium, &identity, &mut |_| {}).unwrap()
}

#[test]
fn what_only_a_floor_of_the_batch_overtakes_is_not_done_before_the_batch() {
    let history = begin(formatted());
    store(&history, vec![extent(range(0, 1), stamp(5), true)]);
    history
        .client()
        .push(vec![settling(range(0, 1), Generation(4))]);
    let lower = Stamp {
        settled: Generation(3),
        ..stamp(9)
    };
    history
        .client()
        .push(vec![extent(range(0, 1), lower, true)]);
    let mut queue = std::mem::take(&mut history.client().queue);
    let prepared = history.engine.prepare(&mut queue);
    assert!(prepared.done.is_empty(), "nothing of it is stable");
    assert_eq!(vote(&history, 0), Vote::Stamp(stamp(5)));
    let batch = prepared.batch.unwrap();
    history.engine.write(&batch).unwrap();
    assert_eq!(history.engine.publish(batch).len(), 2);
    assert_eq!(vote(&history, 0), settled(stamp(5), 4));
}

#[test]
fn a_range_costs_one_record_whatever_it_holds_and_neighbours_one_span() {
    let history = begin(formatted());
    let mixed = (0..300).map(|n| extent(range(n * 3, 1), stamp(5 + n), n % 2 == 0));
    store(&history, mixed.collect());
    for sector in (0..600).step_by(2) {
        settle(&history, sector, 1, 3);
    }
    let before = history.engine.statistics();
    assert_eq!((before.settle_records, before.floors), (300, 300));
    assert_eq!(before.data_sectors, 150);

    // Half of it has that floor already.
    settle(&history, 0, 65_536, 3);
    let after = history.engine.statistics();
    assert_eq!(after.settle_records, 301);
    assert_eq!((after.data_sectors, after.tombstone_sectors), (150, 150));
    let used = |statistics: &crate::store::Statistics| statistics.journal_filled;
    assert_eq!(used(&after), used(&before) + 1, "one block of the journal");
    settle(&history, 100, 1000, 3);
    settle(&history, 100, 1000, 2);
    assert_eq!(history.engine.statistics().settle_records, 301);

    for first in (65_536..1 << 20).step_by(65_536) {
        settle(&history, first, 65_536, 3);
    }
    history.checkpoint();
    assert_eq!(history.engine.statistics().floors, 1);
    assert_eq!(report(&history).floors, 1);
    assert_eq!(vote(&history, 6), settled(stamp(7), 3));
    assert_eq!(vote(&history, (1 << 20) - 1), settled(Stamp::ZERO, 3));
    assert_eq!(vote(&history, 1 << 20), Vote::ZERO);
}

#[test]
fn floors_are_counted_in_a_map_of_many_leaves() {
    let history = begin(formatted());
    let data = (0..300).map(|n| extent(range(n * 7, 1), stamp(1 + n % 5), true));
    store(&history, data.collect());
    let mut floors = 0;
    for round in 1..6 {
        for first in (0..2000).step_by(2) {
            settle(&history, 10_000 * round + first, 1, round);
        }
        floors += 1000;
        history.checkpoint();
        let (statistics, report) = (history.engine.statistics(), report(&history));
        assert_eq!(report.verdict(), Verdict::Healthy, "{report:?}");
        assert_eq!((statistics.floors, report.floors), (floors, floors));
        assert_eq!(report.map_pages, statistics.map_pages);
    }
    let again = begin(history.medium.contents());
    assert_eq!(again.engine.statistics().floors, floors);
    assert_eq!(again.engine.statistics().settle_records, 0);
    assert_eq!(vote(&again, 50_002), settled(Stamp::ZERO, 5));
    assert_eq!(vote(&again, 50_003), Vote::ZERO);
    settle(&again, 0, 65_536, 6);
    again.checkpoint();
    let (statistics, found) = (again.engine.statistics(), report(&again));
    assert_eq!((statistics.floors, found.floors), (1, 1));
    assert_eq!(report(&again).map_pages, statistics.map_pages);
    assert_eq!(vote(&again, 50_003), settled(Stamp::ZERO, 6));
}

/// Counts the pages that are asked for.
struct Counted<'a> {
    cache: &'a PageCache,
    asked: Cell<usize>,
}

impl Pages for Counted<'_> {
    fn page(&self, reference: &PageRef) -> Option<Found> {
        self.asked.set(self.asked.get() + 1);
        self.cache.page(reference)
    }
}

fn pages_asked(history: &History, sector: u64) -> usize {
    let pages = Counted {
        cache: &history.engine.cache,
        asked: Cell::new(0),
    };
    let address = at(sector).to_bits();
    let found = history.engine.index().lookup(&pages, (address, address), 1);
    assert!(found.is_ok());
    pages.asked.get()
}

#[test]
fn without_floors_and_above_them_nothing_is_looked_up_for_them() {
    let history = begin(formatted());
    let data = (0..300).map(|n| extent(range(n * 7, 1), stamp(1 + n % 5), true));
    store(&history, data.collect());
    history.checkpoint();
    let path = pages_asked(&history, 7);
    assert_eq!(path, 2, "a map of two levels");
    // The first floor needs no page, nor does asking for it before it is in the map.
    settle(&history, 5000, 10, 3);
    assert_eq!(pages_asked(&history, 7), path);
    history.checkpoint();
    assert_eq!(pages_asked(&history, 7), 2 * path);
    let again = begin(history.medium.contents());
    load(&again.engine, range(7, 1));
    assert_eq!(pages_asked(&again, 7), 2 * path);
    // What was stored under the highest floor's generation is under no higher one.
    let newer = Stamp {
        settled: Generation(3),
        ..stamp(9)
    };
    store(&again, vec![extent(range(7, 1), newer, true)]);
    again.checkpoint();
    assert_eq!(pages_asked(&again, 7), path);
}

/// A store of two leaves, with data of old generations below 2000 and floors behind them; the page
/// with the floors is lost. Sector 0 was stored under the floor's generation.
fn lost_floors() -> History {
    let history = begin(formatted());
    let data = (0..100).map(|n| extent(range(n * 10, 1), stamp(1 + n), true));
    store(&history, data.collect());
    for sector in (0..400).step_by(2) {
        settle(&history, sector, 1, 3);
    }
    let newer = Stamp {
        settled: Generation(3),
        ..stamp(500)
    };
    store(&history, vec![extent(range(0, 1), newer, true)]);
    history.checkpoint();
    let root = *history.engine.index().root().unwrap();
    let Some(Found::Whole(page)) = history.engine.cache.find(&root) else {
        panic!("a new root is in the cache");
    };
    let last = page.child(page.len() - 1);
    let mut damaged = history.medium.contents();
    damaged.wreck(last.page.block);
    begin(damaged)
}

#[test]
fn a_lost_floor_costs_the_votes_of_what_it_may_have_raised() {
    let history = lost_floors();
    let newer = Stamp {
        settled: Generation(3),
        ..stamp(500)
    };
    for _ in 0..2 {
        assert_eq!(
            vote(&history, 0),
            Vote::Stamp(newer),
            "under no higher floor"
        );
        assert_eq!(vote(&history, 390), Vote::Lost, "data under a lost floor");
        assert_eq!(vote(&history, 399), Vote::Lost, "never written");
        assert_eq!(load(&history.engine, range(390, 1)).values, []);
        assert!(matches!(report(&history).verdict(), Verdict::Damaged));

        // Below the highest that the floor may have been.
        let model = history.client().model.clone();
        let low = Stamp {
            settled: Generation(2),
            ..stamp(900)
        };
        store(&history, vec![extent(range(390, 1), low, true)]);
        settle(&history, 390, 5, 2);
        assert_eq!(vote(&history, 390), Vote::Lost);
        let promised = history
            .client()
            .model
            .cut(usize::MAX)
            .least(at(390).to_bits());
        assert_eq!(promised, model.cut(usize::MAX).least(at(390).to_bits()));
        history.checkpoint();
    }
    // A value, and a floor, that can not be below what is lost, heal it.
    let high = Stamp {
        settled: Generation(3),
        ..stamp(900)
    };
    store(&history, vec![extent(range(390, 1), high, true)]);
    assert_eq!(vote(&history, 390), Vote::Stamp(high));
    settle(&history, 391, 60_000, 3);
    assert_eq!(vote(&history, 399), settled(Stamp::ZERO, 3));
    let again = begin(history.medium.contents());
    assert_eq!(vote(&again, 390), Vote::Stamp(high));
    assert_eq!(vote(&again, 399), settled(Stamp::ZERO, 3));
    settle(&again, 0, 65_536, 3);
    again.checkpoint();
    assert_eq!(vote(&again, 380), settled(stamp(39), 3));
    assert_eq!(again.engine.statistics().data_sectors, 100);
}

/// A page is lost before there is any floor: what never was is not taken for lost.
#[test]
fn a_page_lost_before_the_first_floor_has_no_floors() {
    let history = begin(formatted());
    let stored = |n| Stamp {
        settled: Generation(2),
        ..stamp(1 + n)
    };
    let data = (0..300).map(|n| extent(range(n * 10, 1), stored(n), true));
    store(&history, data.collect());
    history.checkpoint();
    let root = *history.engine.index().root().unwrap();
    let Some(Found::Whole(page)) = history.engine.cache.find(&root) else {
        panic!("a new root is in the cache");
    };
    let mut damaged = history.medium.contents();
    damaged.wreck(page.child(page.len() - 1).page.block);
    let history = begin(damaged);
    assert_eq!(vote(&history, 2990), Vote::Lost);
    for _ in 0..3 {
        settle(&history, 5, 1, 3);
        assert_eq!(vote(&history, 0), Vote::Stamp(stored(0)));
        assert_eq!(vote(&history, 1), Vote::ZERO);
        assert_eq!(vote(&history, 5), settled(Stamp::ZERO, 3));
        assert_eq!(vote(&history, 2990), Vote::Lost);
        history.checkpoint();
    }
}
