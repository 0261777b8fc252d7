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
    let Ok(name) = std::env::var("WHY") else {
        return;
    };
    let seeds: u64 = std::env::var("WHYS").map_or(1000, |n| n.parse().unwrap());
    for bug in crate::bug::Bug::ALL
        .iter()
        .filter(|bug| name == "ALL" || format!("{bug:?}") == name)
    {
        let start = std::time::Instant::now();
        let all: std::sync::Mutex<BTreeMap<String, (u64, u64)>> = std::sync::Mutex::default();
        runner::run_all(0..seeds, Some(*bug), |seed, why| {
            let why: String = why
                .chars()
                .filter(|c| !c.is_ascii_digit())
                .take(40)
                .collect();
            let mut all = all.lock().unwrap();
            let entry = all.entry(why).or_insert((0, seed));
            entry.0 += 1;
            entry.1 = entry.1.min(seed);
        });
        println!(
            "{bug:?}: {:?} {:?}",
            start.elapsed(),
            all.into_inner().unwrap()
        );
    }
}

#[test]
fn tallied() {
    let Ok(name) = std::env::var("WHY") else {
        return;
    };
    let bug = *crate::bug::Bug::ALL
        .iter()
        .find(|bug| format!("{bug:?}") == name)
        .unwrap();
    let mut all = Tally::default();
    for seed in 0..300 {
        let mut world = crate::world::World::new(seed, Some(bug), false);
        world.run().ok();
        all.add(&world.tally);
    }
    println!("{all:#?}");
}
