//! The simulation held against bugs: each must be found by some seed.

use crate::bug::Bug;
use crate::runner;

/// So many seeds find any of them.
const SEEDS: u64 = 3_000;

/// Runs seeds until the checker reports a violation. Nothing else counts, such as an assertion of
/// the register that fails: it is the history of a sector that must show the bug.
fn is_found(bug: Bug) {
    let failure = runner::run_seeds(0..SEEDS, Some(bug), |why| why.starts_with("sector"));
    let failure = failure.unwrap_or_else(|| panic!("no seed shows {bug:?}"));
    println!("{bug:?}: seed {}: {}", failure.seed, failure.why);
}

#[test]
fn acknowledging_before_the_store_is_found() {
    is_found(Bug::AcknowledgeBeforeStore);
}

#[test]
fn reading_without_write_back_is_found() {
    is_found(Bug::NoWriteBack);
}

#[test]
fn answering_from_unstable_state_is_found() {
    is_found(Bug::UnstableAnswers);
}

#[test]
fn a_quorum_below_a_majority_is_found() {
    is_found(Bug::SubMajority);
}

#[test]
fn comparing_stamps_without_their_rank_is_found() {
    is_found(Bug::RankNotCompared);
}

#[test]
fn starting_a_cut_off_write_over_is_found() {
    is_found(Bug::RestartedWrite);
}

#[test]
fn using_an_incarnation_twice_is_found() {
    is_found(Bug::IncarnationNotRaised);
}

#[test]
fn counting_a_reply_twice_is_found() {
    is_found(Bug::ReplyCountedTwice);
}

#[test]
fn voting_empty_for_a_damaged_copy_is_found() {
    is_found(Bug::DamageVotesAsEmpty);
}
