//! What a seed decides before anything happens: how large, how busy and how unlucky the cluster is.

use crate::dice::Dice;

/// The odds of one simulation. Times are in ticks; a message takes about ten.
#[derive(Clone, Debug)]
pub(crate) struct Scenario {
    pub(crate) processes: u8,
    pub(crate) sectors: u64,
    pub(crate) clients_per_process: usize,
    pub(crate) operations_per_client: u64,
    /// The longest range of an operation.
    pub(crate) range_max: u64,
    /// Reads out of a thousand operations.
    pub(crate) reads: u64,
    /// Discards out of a thousand operations; the others are writes.
    pub(crate) discards: u64,
    pub(crate) think_max: u64,
    pub(crate) queue_max: usize,
    pub(crate) delay_max: u64,
    /// Messages that take twenty times as long.
    pub(crate) slow: u64,
    pub(crate) duplicated: u64,
    /// Messages of a broken connection that arrive nevertheless, perhaps after those of the next.
    pub(crate) late: u64,
    pub(crate) sync_max: u64,
    /// Loads that the store answers at once.
    pub(crate) loads_at_once: u64,
    /// Loads whose votes end before their range does.
    pub(crate) short_votes: u64,
    /// The mean time from one crash to the next, of all processes together.
    pub(crate) crash_every: u64,
    pub(crate) down_max: u64,
    /// Crashes within a step, between two outputs around a store.
    pub(crate) aimed: u64,
    /// Unsynced stores that a crash leaves on the disk nevertheless.
    pub(crate) survive: u64,
    pub(crate) cut_every: u64,
    pub(crate) cut_max: u64,
    /// Copies that rot: the mean time between two. 0 for never.
    pub(crate) rot_every: u64,
    /// So many copies of a sector may be damaged that no majority is left.
    pub(crate) rot_of_majorities: bool,
    /// When faults end.
    pub(crate) calm_from: u64,
}

impl Scenario {
    pub(crate) fn new(dice: &mut Dice) -> Self {
        let rot = dice.chance(300);
        let range_max = dice.pick(&[1, 1, 2, 4]);
        Self {
            processes: dice.pick(&[3, 3, 3, 3, 3, 1, 2, 4, 5, 5]),
            sectors: dice.between(range_max, 5),
            clients_per_process: dice.pick(&[1, 1, 2, 3]),
            operations_per_client: dice.between(8, 25),
            range_max,
            reads: dice.pick(&[300, 500, 700]),
            discards: dice.pick(&[0, 50, 200]),
            think_max: dice.pick(&[1, 20, 100]),
            queue_max: dice.pick(&[0, 1, 100, 100]),
            delay_max: dice.pick(&[2, 20, 20, 60]),
            slow: dice.pick(&[0, 5, 50]),
            duplicated: dice.pick(&[0, 20, 200]),
            late: dice.pick(&[0, 100, 500]),
            sync_max: dice.pick(&[2, 30, 100]),
            loads_at_once: dice.pick(&[0, 500, 1000]),
            short_votes: dice.pick(&[0, 0, 100]),
            crash_every: dice.pick(&[150, 500, 1500]),
            down_max: dice.pick(&[10, 100, 500]),
            aimed: dice.pick(&[0, 10, 30]),
            survive: dice.pick(&[0, 300, 700]),
            cut_every: dice.pick(&[100, 400, 1600]),
            cut_max: dice.pick(&[20, 200, 600]),
            rot_every: if rot { dice.pick(&[50, 200, 800]) } else { 0 },
            rot_of_majorities: rot && dice.chance(200),
            calm_from: dice.between(500, 3000),
        }
    }
}
