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

#[test]
fn survey() {
    let mut all = Tally::default();
    for seed in 0..1000 {
        all.add(&runner::survey(seed));
    }
    println!("{all:#?}");
}

#[test]
fn whys() {
    let Ok(name) = std::env::var("WHY") else { return };
    let bug = *crate::bug::Bug::ALL.iter().find(|bug| format!("{bug:?}") == name).unwrap();
    let mut all: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for seed in 0..500 {
        let why = runner::run_seed(seed, Some(bug), false).err().unwrap_or_default();
        let why: String = why.chars().filter(|c| !c.is_ascii_digit()).take(50).collect();
        all.entry(why).or_insert((0, seed)).0 += 1;
    }
    println!("{all:#?}");
}
