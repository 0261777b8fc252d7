//! Fences: recorded durably, and never half.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::history::formatted;
use super::medium::{Contents, CrashMedium, Survival, crashed};
use super::model::fence;
use crate::domain::{ClusterId, Fence, Rank, Volume};
use crate::store::disk::{DiskSectors, Options};
use crate::store::identity::Identity;
use crate::store::layout::IDENTITY_PLACES;

const VOLUME: Volume = Volume(0);

fn begin(contents: Contents) -> (std::sync::Arc<CrashMedium>, DiskSectors) {
    let medium = CrashMedium::new(contents);
    let (identity, first_copy) = Identity::read(&*medium).unwrap();
    let store = DiskSectors::start(
        medium.clone(),
        (&identity, first_copy),
        &Options::new(ClusterId([1; 16]), Rank::new(1).unwrap()),
        None,
        Box::new(|error| panic!("the store failed: {error}")),
    );
    (medium, store.unwrap())
}

#[test]
fn a_cut_anywhere_in_a_record_leaves_the_fence_before_it_or_its_own() {
    let (medium, store) = begin(formatted());
    store.record_fence(VOLUME, &fence(3, 1)).unwrap();
    let start = medium.contents();
    medium.take_log();
    store.record_fence(VOLUME, &fence(4, 2)).unwrap();
    let log = medium.take_log();
    assert_eq!(log.len(), 4, "each copy is written and synced by itself");
    let mut found = Vec::new();
    for cut in 0..=log.len() {
        for seed in 0..50 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let survival = [
                Survival::None,
                Survival::All,
                Survival::Some(128),
                Survival::AllButOne,
                Survival::Garbage,
            ][usize::try_from(seed % 5).unwrap()];
            let state = crashed(&start, &log, cut, survival, &mut random);
            let (_, recovered) = begin(state);
            let fence = recovered.fence(VOLUME);
            found.push((cut, fence));
        }
    }
    let (old, new) = (fence(3, 1), fence(4, 2));
    assert!(
        found
            .iter()
            .all(|(_, found)| *found == old || *found == new)
    );
    assert!(found.iter().any(|(_, found)| *found == old));
    let acknowledged = found.iter().filter(|(cut, _)| *cut == log.len());
    assert!(acknowledged.into_iter().all(|(_, found)| *found == new));
}

#[test]
fn a_damaged_copy_loses_no_fence() {
    let (medium, store) = begin(formatted());
    store.record_fence(VOLUME, &fence(3, 1)).unwrap();
    store.record_fence(Volume(9), &fence(1, 7)).unwrap();
    for place in IDENTITY_PLACES {
        let mut damaged = medium.contents();
        damaged.wreck(place);
        let (_, recovered) = begin(damaged);
        assert_eq!(recovered.fence(VOLUME), fence(3, 1));
        assert_eq!(recovered.fence(Volume(9)), fence(1, 7));
        assert_eq!(recovered.fence(Volume(1)), Fence::INITIAL);
    }
}

#[test]
fn a_fence_that_could_not_be_synced_is_not_recorded() {
    let medium = CrashMedium::new(formatted());
    let (identity, first_copy) = Identity::read(&*medium).unwrap();
    let options = Options::new(ClusterId([1; 16]), Rank::new(1).unwrap());
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    let on_failure = Box::new(move |error| sender.send(error).unwrap());
    let identity = (&identity, first_copy);
    let store = DiskSectors::start(medium.clone(), identity, &options, None, on_failure).unwrap();
    medium.break_syncs(true);
    assert!(store.record_fence(VOLUME, &fence(1, 1)).is_err());
    assert!(receiver.recv().unwrap().to_string().contains("identity"));
    // Nothing is believed any more, whatever the next sync says.
    medium.break_syncs(false);
    assert!(store.record_fence(VOLUME, &fence(2, 1)).is_err());
    assert_eq!(store.fence(VOLUME), Fence::INITIAL);
}
