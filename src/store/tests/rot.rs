//! Rot: what was acknowledged and is damaged later is never taken for what was never written.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::history::{History, Shape, formatted, load};
use super::medium::{Contents, CrashMedium};
use super::model::{Model, at, extent, range, stamp};
use crate::domain::Vote;
use crate::store::entry::Entry;
use crate::store::error::StoreError;
use crate::store::identity::Identity;
use crate::store::layout::{IDENTITY_PLACES, root_places};
use crate::store::recovery::Image;

const SHAPE: Shape = Shape {
    sectors: 8,
    trimmed: 8,
    write: 4,
    depth: 0,
};

fn begin(contents: Contents) -> Result<History, StoreError> {
    History::begin(contents, Model::default(), 1, SHAPE)
}

fn begun(contents: Contents) -> History {
    begin(contents).unwrap_or_else(|error| panic!("not recovered: {error}"))
}

fn write(history: &History, sector: u64, timestamp: u64) {
    let written = extent(range(sector, 1), stamp(timestamp), true);
    history.client().push(vec![written]);
    history.commit();
}

fn vote(history: &History, sector: u64) -> Vote {
    load(&history.engine, range(sector, 1)).votes.at(0).unwrap()
}

fn slot(history: &History, sector: u64) -> u64 {
    let address = at(sector).to_bits();
    let index = history.engine.index();
    let known = index.lookup(&history.engine.cache, (address, address), 1);
    match known.unwrap()[0].value.entry {
        Some(Entry::Data { slot, .. }) => slot,
        other => panic!("sector {sector} has {other:?}"),
    }
}

/// The block of the journal where the batch lies that was committed last.
fn last_batch(history: &History) -> u64 {
    let state = history.engine.state();
    let (passed, _) = state.journal.split(state.journal.position());
    passed.last().unwrap().end() - 1
}

fn contents(history: &History) -> Contents {
    history.medium.contents()
}

#[test]
fn rot_in_an_earlier_batch_is_an_error_and_never_an_older_stamp() {
    let history = begun(formatted());
    let mut batches = Vec::new();
    for timestamp in 1..5 {
        write(&history, timestamp % 2, timestamp);
        batches.push(last_batch(&history));
    }
    for (place, block) in batches.iter().enumerate().take(3) {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut damaged = contents(&history);
        damaged.rot(*block, &mut random);
        // A changed bit behind the records does not matter; a lost block does.
        damaged.wreck(*block);
        let after = match begin(damaged) {
            Err(StoreError::JournalDamaged { after }) => after,
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("batch {place} was not missed"),
        };
        let before = match place {
            0 => 0,
            place => history.engine.state().last_sequence - 4 + place as u64,
        };
        assert_eq!(after, before);
    }
}

#[test]
fn rot_in_the_last_batch_is_an_error_once_it_is_marked() {
    let history = begun(formatted());
    write(&history, 0, 1);
    write(&history, 0, 2);
    let block = last_batch(&history);
    let mut torn = contents(&history);
    torn.wreck(block);
    // In the few milliseconds before the mark it can not be told from a write that was torn.
    assert_eq!(vote(&begun(torn), 0), Vote::Stamp(stamp(1)));
    history.engine.mark_idle().unwrap();
    let mut rotten = contents(&history);
    rotten.wreck(block);
    let error = begin(rotten).err();
    assert!(
        matches!(error, Some(StoreError::JournalDamaged { .. })),
        "{error:?}"
    );
}

#[test]
fn rot_in_the_data_of_a_batch_is_a_lost_vote_but_for_the_last_unmarked_one() {
    let history = begun(formatted());
    write(&history, 0, 1);
    write(&history, 1, 2);
    write(&history, 1, 3);
    let mut earlier = contents(&history);
    earlier.wreck(slot(&history, 0));
    let recovered = begun(earlier);
    assert_eq!(vote(&recovered, 0), Vote::Lost);
    assert_eq!(vote(&recovered, 1), Vote::Stamp(stamp(3)));

    let block = slot(&history, 1);
    let mut torn = contents(&history);
    torn.wreck(block);
    assert_eq!(vote(&begun(torn), 1), Vote::Stamp(stamp(2)));
    history.engine.mark_idle().unwrap();
    let mut rotten = contents(&history);
    rotten.wreck(block);
    assert_eq!(vote(&begun(rotten), 1), Vote::Lost);
}

#[test]
fn a_batch_that_reused_a_slot_does_not_unmake_the_one_that_freed_it() {
    let history = begun(formatted());
    write(&history, 1, 2);
    write(&history, 0, 1);
    let freed = slot(&history, 0);
    write(&history, 0, 2);
    // What is free now is swept up to the slot that became free.
    for timestamp in 3..200 {
        write(&history, 1, timestamp);
        if slot(&history, 1) == freed {
            let mut torn = contents(&history);
            torn.wreck(last_batch(&history));
            let recovered = begun(torn);
            assert_eq!(vote(&recovered, 0), Vote::Stamp(stamp(2)));
            assert_eq!(vote(&recovered, 1), Vote::Stamp(stamp(timestamp - 1)));
            return;
        }
        if timestamp % 5 == 0 {
            history.checkpoint();
        }
    }
    panic!("the slot was never used again");
}

/// A checkpoint took blocks that were free at its moment and free again when it asked, but had
/// held a sector in between. The root then had them in use, and replaying the batch that put the
/// sector there found them taken.
#[test]
fn a_checkpoint_takes_no_block_that_a_batch_used_since_its_moment() {
    let history = begun(formatted());
    for timestamp in 1..6 {
        write(&history, timestamp, timestamp);
    }
    history.checkpoint();
    write(&history, 1, 10);
    let moment = history.engine.freeze();
    // The sweep comes around to every free block, and frees it again.
    for timestamp in 11..17 {
        write(&history, 0, timestamp);
    }
    history.engine.checkpoint(&moment, &|_| false).unwrap();
    let recovered = begun(contents(&history));
    assert_eq!(vote(&recovered, 0), Vote::Stamp(stamp(16)));
    assert_eq!(vote(&recovered, 1), Vote::Stamp(stamp(10)));
}

#[test]
fn a_batch_that_was_dropped_stays_dropped_even_if_it_becomes_whole() {
    let history = begun(formatted());
    write(&history, 0, 1);
    write(&history, 0, 2);
    let whole = contents(&history);
    let block = slot(&history, 0);
    let mut torn = whole.clone();
    torn.wreck(block);
    let recovered = begun(torn);
    assert_eq!(vote(&recovered, 0), Vote::Stamp(stamp(1)));
    // A read error that goes away: the data of the dropped batch are there again.
    let mut again = contents(&recovered);
    again.copy_block(&whole, block);
    let recovered = begun(again);
    assert_eq!(vote(&recovered, 0), Vote::Stamp(stamp(1)));
    write(&recovered, 1, 9);
    let recovered = begun(contents(&recovered));
    assert_eq!(vote(&recovered, 0), Vote::Stamp(stamp(1)));
    assert_eq!(vote(&recovered, 1), Vote::Stamp(stamp(9)));
}

/// A history whose lowest page of the map is lost on the medium; its highest stamp was 7.
fn lost_page() -> (History, Contents) {
    let history = begun(formatted());
    // Two leaves: tombstones below 1000, and some above.
    let tombstones: Vec<_> = (0..200)
        .map(|n| extent(range(n * 10, 1), stamp(5 + n % 2), false))
        .collect();
    history.client().push(tombstones);
    write(&history, 3, 7);
    history.checkpoint();
    let page = {
        let root = *history.engine.index().root().unwrap();
        let Some(crate::store::cache::Found::Whole(page)) = history.engine.cache.find(&root) else {
            panic!("a new root is in the cache");
        };
        assert!(!page.is_leaf());
        page.child(0)
    };
    let mut damaged = contents(&history);
    damaged.wreck(page.page.block);
    (history, damaged)
}

/// The medium of such a history.
pub(crate) fn with_a_lost_page() -> Contents {
    lost_page().1
}

#[test]
fn a_damaged_page_costs_the_votes_of_its_range_until_they_are_stored_again() {
    let (_history, damaged) = lost_page();
    let recovered = begun(damaged);
    assert_eq!(vote(&recovered, 3), Vote::Lost);
    assert_eq!(vote(&recovered, 4), Vote::Lost);
    assert_eq!(vote(&recovered, 1990), Vote::Stamp(stamp(6)));
    assert_eq!(vote(&recovered, 1991), Vote::ZERO);

    // The highest stamp of the page was 7: what is lower might be older than what was there.
    let model = recovered.client().model.clone();
    write(&recovered, 4, 6);
    assert_eq!(vote(&recovered, 4), Vote::Lost);
    assert_eq!(
        recovered.client().model.cut(usize::MAX).least(4),
        model.least(4)
    );
    write(&recovered, 4, 7);
    assert_eq!(vote(&recovered, 4), Vote::Stamp(stamp(7)));
    for _ in 0..2 {
        recovered.checkpoint();
        write(&recovered, 5, 8);
    }
    let recovered = begun(contents(&recovered));
    assert_eq!(vote(&recovered, 4), Vote::Stamp(stamp(7)));
    assert_eq!(vote(&recovered, 5), Vote::Stamp(stamp(8)));
    assert_eq!(vote(&recovered, 3), Vote::Lost);
    assert_eq!(vote(&recovered, 1990), Vote::Stamp(stamp(6)));
}

#[test]
fn one_damaged_copy_of_anything_loses_nothing() {
    let history = begun(formatted());
    for timestamp in 1..40 {
        write(&history, timestamp % 8, timestamp);
    }
    history.checkpoint();
    write(&history, 0, 50);
    history.engine.mark_idle().unwrap();
    let whole = contents(&history);
    let sequence = history.engine.state().root_sequence;
    let mut places: Vec<u64> = root_places(sequence).to_vec();
    places.extend(IDENTITY_PLACES);
    places.extend(history.engine.state().free_map.iter().map(|run| run.first));
    assert_eq!(places.len(), 6);
    for place in places {
        let mut damaged = whole.clone();
        damaged.wreck(place);
        let recovered = begun(damaged);
        assert_eq!(vote(&recovered, 0), Vote::Stamp(stamp(50)), "block {place}");
        assert_eq!(vote(&recovered, 7), Vote::Stamp(stamp(39)));
        assert_eq!(recovered.engine.incarnation, crate::domain::Incarnation(2));
    }
    for (places, expected) in [
        (root_places(sequence), "roots"),
        (IDENTITY_PLACES, "identity"),
    ] {
        let mut damaged = whole.clone();
        places.iter().for_each(|place| damaged.wreck(*place));
        let said = begin(damaged).err().unwrap().to_string();
        assert!(said.contains(expected), "{said}");
    }
}

#[test]
fn recovery_reads_no_sector_but_the_last_batchs() {
    let history = begun(formatted());
    for timestamp in 1..200 {
        write(&history, timestamp % 8, timestamp);
    }
    let slots: Vec<u64> = (0..8).map(|sector| slot(&history, sector)).collect();
    let last = slot(&history, 199 % 8);
    let medium = CrashMedium::new(contents(&history));
    let (identity, _) = Identity::read(&*medium).unwrap();
    let image = Image::read(&*medium, &identity).unwrap();
    assert!(image.batches > 0);
    let read: Vec<u64> = medium
        .take_stable_reads()
        .into_iter()
        .flat_map(|run| run.first..run.end())
        .collect();
    for slot in slots {
        assert_eq!(read.contains(&slot), slot == last);
    }
}
