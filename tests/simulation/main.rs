//! Deterministic simulation of the register: real registers in a simulated world, and a proof for
//! each sector that what clients saw could have been a single atomic register.
//!
//! One number, the seed, decides everything. `ATDD_SIMULATION_SEEDS` says how many are run (20,000
//! if unset), `ATDD_SIMULATION_FROM` from which on. `ATDD_SIMULATION_SEED` runs one alone and
//! prints everything that happens; with `ATDD_SIMULATION_BUG` too, with that bug planted.

#![allow(
    clippy::unwrap_used,
    reason = "clippy knows tests by their attribute only"
)]
mod bug;
mod checker;
mod classic;
mod client;
mod clients;
mod device;
mod dice;
mod disk;
mod faults;
mod fencing;
mod front;
mod history;
mod inspection;
mod keepers;
mod ledger;
mod lies;
mod messages;
mod network;
mod oracle;
mod planted;
mod process;
mod registers;
mod runner;
mod scenario;
mod sessions;
mod storage;
mod tally;
mod usurpers;
mod world;

use bug::Bug;

const SEEDS: u64 = 20_000;

#[test]
fn registers_are_atomic_whatever_happens() {
    if let Some(seed) = number("ATDD_SIMULATION_SEED") {
        let bug = std::env::var("ATDD_SIMULATION_BUG").ok();
        let bug = bug.map(|name| {
            *Bug::ALL
                .iter()
                .find(|bug| format!("{bug:?}") == name)
                .unwrap()
        });
        let result = runner::run_seed(seed, bug, true);
        assert_eq!(result, Ok(()), "seed {seed}");
        return;
    }
    let from = number("ATDD_SIMULATION_FROM").unwrap_or(0);
    let seeds = number("ATDD_SIMULATION_SEEDS").unwrap_or(SEEDS);
    let failure = runner::run_seeds(from..from + seeds, None, |_| true);
    if let Some(runner::Failure { seed, why }) = failure {
        panic!(
            "seed {seed}: {why}\nTo see all of it: ATDD_SIMULATION_SEED={seed} \
             cargo test --test simulation registers_are_atomic -- --nocapture"
        );
    }
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|text| text.parse().expect("a number"))
}
