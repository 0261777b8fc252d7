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
    /// A process says that nothing older is under way when its disk has not answered yet.
    FenceNotOrderedAfterStores,
    /// What reads of an older generation write back is stored.
    WriteBacksNotRefused,
    /// Whatever is of an older generation is stored; only questions are refused.
    OnlyQueriesRefused,
    /// A generation is open with less than a majority.
    OpenAtMinority,
    /// Operations of a generation begin while it is being opened.
    WritingBeforeOpen,
    /// A process acknowledges two opens of one number.
    GenerationGrantedTwice,
    /// Whoever is fenced goes on under the newer generation.
    FencedCoordinatorAdopts,
    /// After a restart a process goes on under the generation that it ran before.
    GenerationKeptOverRestart,
    /// A client goes on at another process under the generation that it had at the first.
    TwoCoordinatorsOfOneGeneration,
    /// Stamps do not name generations.
    GenerationNotInStamp,
    /// What a majority holds is read, of whatever generation.
    LeftoversNotSettled,
    /// What a majority agrees on is read without being settled; all else is settled.
    LeftoversSettledByMajorityOnly,
    /// What is settled keeps the stamp that it had.
    LeftoversSettledUnderOldStamp,
    /// A client repeats its unanswered writes under a generation that does not follow its own.
    UnconditionalRepeat,
    /// A client begins something new before it repeats what was unanswered.
    RepeatAfterNewWrite,
    /// A device sends its requests again at once, over its other path.
    MovedTooEarly,
    /// A process takes what came before a long silence of its session, or its own.
    SilenceForgiven,
    /// A device sends its requests again when another has had the disk since.
    MovedPastAnother,
    /// A gateway that has lost its attachment does not ask whether another has had the disk since.
    LostAttachmentForgotten,
}

impl Bug {
    pub(crate) const ALL: [Self; 29] = [
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
        Self::FenceNotOrderedAfterStores,
        Self::WriteBacksNotRefused,
        Self::OnlyQueriesRefused,
        Self::OpenAtMinority,
        Self::WritingBeforeOpen,
        Self::GenerationGrantedTwice,
        Self::FencedCoordinatorAdopts,
        Self::GenerationKeptOverRestart,
        Self::TwoCoordinatorsOfOneGeneration,
        Self::GenerationNotInStamp,
        Self::LeftoversNotSettled,
        Self::LeftoversSettledByMajorityOnly,
        Self::LeftoversSettledUnderOldStamp,
        Self::UnconditionalRepeat,
        Self::RepeatAfterNewWrite,
        Self::MovedTooEarly,
        Self::SilenceForgiven,
        Self::MovedPastAnother,
        Self::LostAttachmentForgotten,
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

    /// So many seeds find it.
    pub(crate) fn seeds(self) -> u64 {
        match self {
            Self::WriteBacksNotRefused => 20_000,
            _ => 3_000,
        }
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
        } else {
            scenario.crowd.settled_ahead = 0;
            self.favour_crowd(&mut scenario.crowd);
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
            Self::FenceNotOrderedAfterStores => {
                scenario.sync_max = 200;
                scenario.record_max = 2;
            }
            Self::RepeatAfterNewWrite => {
                scenario.crash_every = 1500;
                scenario.cut_every = 1600;
                scenario.delay_max = 20;
                scenario.think_max = 20;
                scenario.reads = 500;
                scenario.sectors = scenario.range_max;
                scenario.boundary = 0;
            }
            // Whoever is fenced must not hear of it from those that it asks, and be quick.
            Self::OnlyQueriesRefused => {
                scenario.processes = 3;
                scenario.crash_every = 1500;
                scenario.pause_every = 0;
                scenario.cut_every = 300;
                scenario.cut_max = 600;
                scenario.one_way = 1000;
                scenario.slow = 0;
                scenario.lag = 0;
                scenario.hurry();
                scenario.think_max = 20;
                scenario.reads = 300;
            }
            // Few have what an old read writes back, and their processes are soon gone.
            Self::WriteBacksNotRefused => {
                scenario.processes = 3;
                scenario.use_one_sector();
                scenario.crash_every = 100;
                scenario.aimed = 50;
                scenario.down_max = 100;
                scenario.late = 0;
                scenario.hurry();
                scenario.patience_max = 1;
                scenario.think_max = 1;
                scenario.reads = 600;
            }
            Self::MovedTooEarly | Self::SilenceForgiven => {
                scenario.use_one_sector();
                scenario.crash_every = 1500;
                scenario.blackout_every = 0;
                scenario.pause_every = 200;
                scenario.hurry();
                scenario.slow = 0;
                scenario.lag = 0;
                scenario.cut_every = 1600;
                scenario.think_max = 20;
                scenario.reads = 300;
            }
            Self::LeftoversSettledByMajorityOnly | Self::LeftoversNotSettled => {
                scenario.range_max = 1;
                scenario.patience_max = 1;
            }
            _ => {}
        }
    }

    /// The same for those who use the disk: whether many want it, or one goes on.
    fn favour_crowd(self, crowd: &mut Crowd) {
        match self {
            Self::UnconditionalRepeat
            | Self::FenceNotOrderedAfterStores
            | Self::WriteBacksNotRefused
            | Self::OnlyQueriesRefused
            | Self::FencedCoordinatorAdopts => {
                *crowd = Crowd {
                    hosts: 2,
                    take_over: 1000,
                    loss_every: 200,
                    ..crowd.without_anybody()
                };
            }
            Self::RepeatAfterNewWrite
            | Self::GenerationKeptOverRestart
            | Self::TwoCoordinatorsOfOneGeneration => {
                *crowd = Crowd {
                    hosts: 1,
                    deaths: 0,
                    loss_every: 80,
                    ..crowd.without_anybody()
                };
            }
            Self::MovedTooEarly | Self::SilenceForgiven => {
                *crowd = Crowd {
                    devices: 1,
                    deaths: 0,
                    loss_every: 80,
                    notice_max: 100,
                    stay_max: 100,
                    talk_max: 5,
                    ..crowd.without_anybody()
                };
            }
            Self::MovedPastAnother | Self::LostAttachmentForgotten => {
                *crowd = Crowd {
                    hosts: 1,
                    devices: 1,
                    take_over: 1000,
                    loss_every: 200,
                    ..crowd.without_anybody()
                };
            }
            _ if crowd.hosts == 0 => crowd.hosts = 2,
            _ => {}
        }
    }
}
