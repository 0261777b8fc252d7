//! The simulation held against bugs: each must be found by some seed.

use crate::bug::Bug;
use crate::runner;

/// Runs seeds until the checker reports a violation. Nothing else counts, such as an assertion of
/// the register that fails: it is the history of a sector that must show the bug.
fn is_found(bug: Bug) {
    let counts = |why: &str| why.starts_with("sector") || why.starts_with("generation");
    let failure = runner::run_seeds(0..bug.seeds(), Some(bug), counts);
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

#[test]
fn forgetting_the_fence_at_a_restart_is_found() {
    is_found(Bug::FenceNotDurable);
}

#[test]
fn a_fence_before_the_stores_that_it_follows_is_found() {
    is_found(Bug::FenceNotOrderedAfterStores);
}

#[test]
fn storing_the_write_backs_of_fenced_reads_is_found() {
    is_found(Bug::WriteBacksNotRefused);
}

#[test]
fn refusing_nothing_but_queries_is_found() {
    is_found(Bug::OnlyQueriesRefused);
}

#[test]
fn opening_at_a_minority_is_found() {
    is_found(Bug::OpenAtMinority);
}

#[test]
fn writing_before_the_generation_is_open_is_found() {
    is_found(Bug::WritingBeforeOpen);
}

#[test]
fn granting_one_generation_twice_is_found() {
    is_found(Bug::GenerationGrantedTwice);
}

#[test]
fn adopting_the_newer_generation_is_found() {
    is_found(Bug::FencedCoordinatorAdopts);
}

#[test]
fn keeping_a_generation_over_a_restart_is_found() {
    is_found(Bug::GenerationKeptOverRestart);
}

#[test]
fn two_coordinators_of_one_generation_is_found() {
    is_found(Bug::TwoCoordinatorsOfOneGeneration);
}

#[test]
fn comparing_stamps_without_their_generation_is_found() {
    is_found(Bug::GenerationNotInStamp);
}

#[test]
fn not_settling_leftovers_is_found() {
    is_found(Bug::LeftoversNotSettled);
}

#[test]
fn taking_the_word_of_a_majority_for_all_is_found() {
    is_found(Bug::LeftoversSettledByMajorityOnly);
}

#[test]
fn settling_under_the_old_stamp_is_found() {
    is_found(Bug::LeftoversSettledUnderOldStamp);
}

#[test]
fn repeating_whatever_came_between_is_found() {
    is_found(Bug::UnconditionalRepeat);
}

#[test]
fn repeating_after_something_new_is_found() {
    is_found(Bug::RepeatAfterNewWrite);
}

#[test]
fn moving_requests_before_their_path_is_dead_is_found() {
    is_found(Bug::MovedTooEarly);
}

#[test]
fn taking_what_a_silent_session_has_left_is_found() {
    is_found(Bug::SilenceForgiven);
}

#[test]
fn moving_requests_past_another_owner_is_found() {
    is_found(Bug::MovedPastAnother);
}

#[test]
fn forgetting_a_lost_attachment_of_a_device_is_found() {
    is_found(Bug::LostAttachmentForgotten);
}
