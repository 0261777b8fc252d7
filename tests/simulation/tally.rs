//! What happened, so that a simulation in which nothing does is found out.

use std::collections::BTreeMap;

use crate::runner;

/// How often something happened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }
}

/// Prints what the first seeds contain; some of it is easily lost.
#[test]
fn survey() {
    let mut all = Tally::default();
    for seed in 0..1000 {
        all.add(&runner::survey(seed));
    }
    println!("{all:#?}");
    for what in [
        "change repeated",
        "change moved to the other gateway",
        "change sent again under its generation",
        "silent session dropped",
    ] {
        let count = all.0.get(what).copied().unwrap_or(0);
        assert!(count >= 100, "{what}: only {count}");
    }
}
