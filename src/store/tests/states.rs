//! Cuts everywhere.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::history::{History, Shape, formatted};
use super::medium::{Contents, Operation, Survival, crashed};
use super::model::Model;
use crate::store::audit::{Verdict, audit};
use crate::store::identity::Identity;

const SMALL: Shape = Shape {
    sectors: 24,
    trimmed: 40,
    write: 6,
    depth: 3,
};

/// Tombstones enough for a map of several leaves.
const WIDE: Shape = Shape {
    sectors: 60,
    trimmed: 3000,
    write: 20,
    depth: 6,
};

/// How many states to try, in all.
fn states_wanted() -> usize {
    std::env::var("ATDD_CRASH_STATES").map_or(10_000, |number| {
        number.parse().expect("ATDD_CRASH_STATES is a number")
    })
}

fn seed_wanted() -> u64 {
    std::env::var("ATDD_CRASH_SEED").map_or(1, |number| {
        number.parse().expect("ATDD_CRASH_SEED is a number")
    })
}

struct Life {
    start: Contents,
    log: Vec<Operation>,
    model: Model,
}

fn live(contents: Contents, model: Model, seed: u64, shape: Shape, steps: usize) -> Life {
    let history = History::begin(contents, model, seed, shape)
        .unwrap_or_else(|error| panic!("seed {seed}: not recovered: {error}"));
    history
        .check(|_| false)
        .unwrap_or_else(|fault| panic!("seed {seed}: {fault}"));
    for _ in 0..steps {
        history.step();
    }
    let (start, log, model) = history.end();
    Life { start, log, model }
}

fn survival(random: &mut ChaCha8Rng) -> Survival {
    match random.next_u32() % 9 {
        8 => Survival::Garbage,
        0 => Survival::None,
        1 => Survival::All,
        2 => Survival::AllButOne,
        3 => Survival::OnlyOne,
        4 => Survival::Some(230),
        5 => Survival::Some(25),
        _ => Survival::Some(128),
    }
}

/// Recovers the state and holds it against the model.
fn verify(contents: &Contents, model: &Model, shape: Shape) -> Result<(), String> {
    let history = History::begin(contents.clone(), model.clone(), 0, shape)
        .map_err(|error| format!("not recovered: {error}"))?;
    history.check(|_| false)?;
    let (identity, _) = Identity::read(&*history.medium).map_err(|error| error.to_string())?;
    let report =
        audit(&*history.medium, &identity, &mut |_| {}).map_err(|error| error.to_string())?;
    if report.verdict() != Verdict::Healthy || report.blocks_leaked > 0 {
        return Err(format!("the audit says {report:?}"));
    }
    Ok(())
}

/// Tries states of one line of lives; in each the medium of the life before was cut somewhere.
fn run_lives(seed: u64, shape: Shape, steps: usize, states_each: usize) -> usize {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut contents = formatted();
    let mut model = Model::default();
    let mut states = 0;
    for generation in 0..4_u64 {
        let life = live(contents, model, seed * 16 + generation, shape, steps);
        let stride = (life.log.len() / states_each).max(1);
        let mut cut = random.next_u64() as usize % stride;
        while cut <= life.log.len() {
            let survival = survival(&mut random);
            let state = crashed(&life.start, &life.log, cut, survival, &mut random);
            if let Err(fault) = verify(&state, &life.model.cut(cut), shape) {
                panic!(
                    "ATDD_CRASH_SEED={seed}: {shape:?}, life {generation}, cut {cut} of {}, \
                     {survival:?}: {fault}",
                    life.log.len()
                );
            }
            states += 1;
            cut += 1 + random.next_u64() as usize % (2 * stride - 1);
        }
        // Early cuts hit the recovery itself.
        let early = random.next_u32() % 3 == 0;
        let span = if early {
            life.log.len().min(8)
        } else {
            life.log.len()
        };
        let cut = random.next_u64() as usize % (span + 1);
        let survival = survival(&mut random);
        contents = crashed(&life.start, &life.log, cut, survival, &mut random);
        model = life.model.cut(cut);
    }
    states
}

#[test]
fn a_cut_anywhere_loses_nothing_that_was_acknowledged_or_seen() {
    let wanted = states_wanted();
    let mut states = 0;
    let mut seed = seed_wanted();
    while states < wanted {
        let (shape, steps) = if seed.is_multiple_of(8) {
            (WIDE, 80)
        } else {
            (SMALL, 60)
        };
        states += run_lives(seed, shape, steps, 100);
        seed += 1;
    }
    println!("{states} states, up to seed {seed}");
}
