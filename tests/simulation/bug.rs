//! Bugs that are planted to show that the simulation would find them.
//!
//! None of them is in the register or in the keeper: each is planted in what surrounds them, by
//! telling them something untrue or by changing what they say, so that they behave as with that
//! bug; or in the clients.

use crate::dice::Dice;
use crate::scenario::{Crowd, Scenario};

/// A planted bug.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// The store says that a value is stable when it is accepted.
    AcknowledgeBeforeStore,
    /// A read returns without its value being at a majority.
    NoWriteBack,
    /// Queries are answered from what a crash would lose.
    UnstableAnswers,
    /// One process of the majority is only imagined.
    SubMajority,
    /// Stamps of different writers with the same timestamp are equal.
    RankNotCompared,
    /// A write that a crash cut off is started over after it.
    RestartedWrite,
    /// A process that starts again uses its old incarnation.
    IncarnationNotRaised,
    /// The reply of one process counts as that of another, too.
    ReplyCountedTwice,
    /// A damaged copy says that nothing was ever written.
    DamageVotesAsEmpty,
    /// A process that starts again has forgotten its fence.
    FenceNotDurable,
    /// A client repeats its unanswered writes under a generation that does not follow its own.
    UnconditionalRepeat,
    /// A client begins something new before it repeats what was unanswered.
    RepeatAfterNewWrite,
}

impl Bug {
    pub(crate) const ALL: [Self; 12] = [
        Self::AcknowledgeBeforeStore,
        Self::NoWriteBack,
        Self::UnstableAnswers,
        Self::SubMajority,
        Self::RankNotCompared,
        Self::RestartedWrite,
        Self::IncarnationNotRaised,
        Self::ReplyCountedTwice,
        Self::DamageVotesAsEmpty,
        Self::FenceNotDurable,
        Self::UnconditionalRepeat,
        Self::RepeatAfterNewWrite,
    ];

    /// Whether it shows without any attachment.
    fn is_of_the_register_alone(self) -> bool {
        matches!(
            self,
            Self::AcknowledgeBeforeStore
                | Self::NoWriteBack
                | Self::UnstableAnswers
                | Self::SubMajority
                | Self::RankNotCompared
                | Self::RestartedWrite
                | Self::IncarnationNotRaised
                | Self::ReplyCountedTwice
                | Self::DamageVotesAsEmpty
        )
    }

    /// Tilts the odds so that the circumstances in which the bug shows are not rare.
    pub(crate) fn favour(self, scenario: &mut Scenario, dice: &mut Dice) {
        // Who made which zeroes cannot be told with false stamps about.
        scenario.discards = 0;
        scenario.processes = scenario.processes.max(3);
        scenario.rot_of_majorities = false;
        if self.is_of_the_register_alone() {
            scenario.crowd = Crowd::classic(dice);
            scenario.blackout_every = 0;
            scenario.pause_every = 0;
        } else if scenario.crowd.hosts == 0 {
            scenario.crowd.hosts = 2;
        }
        match self {
            Self::DamageVotesAsEmpty => {
                scenario.rot_every = 50;
                // The register asserts that no stamp goes back between two loads of one read.
                scenario.loads_at_once = 1000;
            }
            Self::UnstableAnswers => {
                scenario.processes = 3;
                scenario.sectors = scenario.range_max;
                scenario.crash_every = 100;
                scenario.sync_max = 200;
                scenario.survive = 0;
            }
            Self::IncarnationNotRaised => {
                scenario.crash_every = 100;
                scenario.down_max = 10;
                scenario.aimed = 100;
                scenario.late = 500;
                scenario.slow = 50;
            }
            _ => {}
        }
    }
}
