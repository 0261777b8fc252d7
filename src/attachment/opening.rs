//! One attach under way: what it has heard, what it opens, and when it is granted.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{
    Attach, AttachKind, AttachRefusal, Fence, Generation, Holder, Mode, Question, Rank, Tag,
};

use super::holders::{Bar, Holders};
use super::target::Newest;

/// The round of [`Question::Fence`].
pub(super) const ASKING: u8 = 0;
/// The round of [`Question::Open`].
pub(super) const OPENING: u8 = 1;

/// A client of this process that wants to attach.
#[derive(Debug)]
pub(super) struct Opening {
    /// Names the attach in all of its requests.
    pub(super) sequence: u64,
    pub(super) attach: Attach,
    pub(super) client: String,
    /// When the client asked, for people.
    pub(super) now: u64,
    pub(super) phase: Phase,
}

#[derive(Debug)]
pub(super) enum Phase {
    /// Which fences are there, and who holds the volume?
    Asking {
        answers: BTreeMap<Rank, Heard>,
        /// Whether it waits for processes that are said to run a holder.
        patient: bool,
    },
    /// A fence is to become stable at a majority.
    Opening {
        target: Fence,
        acknowledged: BTreeSet<Rank>,
    },
}

/// What a process answered to [`Question::Fence`].
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) fence: Fence,
    pub(super) holders: Vec<Holder>,
}

/// What a decision rests on besides the attach itself.
#[derive(Copy, Clone, Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) holders: &'a Holders,
    pub(super) accepted: Fence,
    /// The tag of an exclusive generation that the attach opens.
    pub(super) tag: Tag,
    /// Whether another attach of this process is about to get the volume for itself.
    pub(super) contended: bool,
}

/// What becomes of an attach that asks.
#[derive(Debug)]
pub(super) enum Decision {
    /// It goes on asking.
    Wait,
    /// It joins what runs in this process.
    Join(Fence),
    /// It has to make this fence stable at a majority.
    Open(Fence),
    Refuse(AttachRefusal),
}

impl Opening {
    pub(super) fn new(sequence: u64, attach: Attach, client: String, now: u64) -> Self {
        Self {
            sequence,
            attach,
            client,
            now,
            phase: Phase::Asking {
                answers: BTreeMap::new(),
                patient: true,
            },
        }
    }

    /// A process has answered what its fence is; its first answer counts.
    pub(super) fn heard(&mut self, from: Rank, fence: Fence, holders: Vec<Holder>) {
        if let Phase::Asking { answers, .. } = &mut self.phase {
            let heard = Heard { fence, holders };
            answers.entry(from).or_insert(heard);
        }
    }

    /// The fence that is to be opened is stable at this process.
    pub(super) fn acknowledged(&mut self, from: Rank) {
        if let Phase::Opening { acknowledged, .. } = &mut self.phase {
            acknowledged.insert(from);
        }
    }

    /// Decides with what it has heard.
    pub(super) fn stop_waiting(&mut self) {
        if let Phase::Asking { patient, .. } = &mut self.phase {
            *patient = false;
        }
    }

    /// Goes on to open this fence.
    pub(super) fn open(&mut self, target: Fence) {
        self.phase = Phase::Opening {
            target,
            acknowledged: BTreeSet::new(),
        };
    }

    /// What the present round asks this process; `None` when it has answered.
    pub(super) fn owed(&self, rank: Rank) -> Option<Question> {
        match &self.phase {
            Phase::Asking { answers, .. } => {
                (!answers.contains_key(&rank)).then_some(Question::Fence)
            }
            Phase::Opening { acknowledged, .. } => {
                let continues = self.continues();
                (!acknowledged.contains(&rank)).then_some(Question::Open { continues })
            }
        }
    }

    /// The round that is under way.
    pub(super) fn round(&self) -> u8 {
        match self.phase {
            Phase::Asking { .. } => ASKING,
            Phase::Opening { .. } => OPENING,
        }
    }

    /// The fence that it opens.
    pub(super) fn target(&self) -> Option<Fence> {
        match self.phase {
            Phase::Asking { .. } => None,
            Phase::Opening { target, .. } => Some(target),
        }
    }

    /// The fence that it has opened: a majority that includes this process acknowledged it (rule 4;
    /// this process runs its operations, so it has to have the fence itself).
    pub(super) fn opened(&self, own: Rank, majority: usize) -> Option<Fence> {
        match &self.phase {
            Phase::Opening {
                target,
                acknowledged,
            } if acknowledged.len() >= majority && acknowledged.contains(&own) => Some(*target),
            _ => None,
        }
    }

    /// What becomes of an attach that asks.
    pub(super) fn decide(&self, around: &Surroundings) -> Decision {
        let Phase::Asking { answers, patient } = &self.phase else {
            return Decision::Wait;
        };
        if let Some(fence) = around.holders.joined(&self.attach) {
            return Decision::Join(fence);
        }
        if answers.len() < around.holders.majority() {
            return Decision::Wait;
        }
        let fences = answers.values().map(|heard| heard.fence);
        let fences: Vec<Fence> = fences.chain([around.accepted]).collect();
        let newest = Newest::of(&fences);
        if let Some(by) = self.broken_by(&fences, &newest) {
            return Decision::Refuse(AttachRefusal::Fenced { by });
        }
        match around
            .holders
            .bar(&self.attach, newest.generation(), answers)
        {
            Bar::Refused(refusal) => return Decision::Refuse(refusal),
            Bar::Unsure if *patient => return Decision::Wait,
            Bar::Unsure | Bar::None => {}
        }
        if around.contended && self.gives_way() {
            return Decision::Refuse(AttachRefusal::Contended);
        }
        let claims = around.holders.claims(newest.generation(), answers);
        Decision::Open(self.choose(&newest, &claims, around.tag))
    }

    /// What a process that does not acknowledge [`Question::Open`] makes of the attach.
    pub(super) fn refused_by(&self, by: Fence) -> AttachRefusal {
        let (Some(since), Some(target)) = (self.continues(), self.target()) else {
            return AttachRefusal::Contended;
        };
        // An older fence of its own, or the very target, stands against the attach only where it
        // is not known to be unbroken since.
        let forgotten = by == target || by.generation < target.generation;
        if (by.generation > since && self.is_foreign(by)) || forgotten {
            let by = by.generation;
            return AttachRefusal::Fenced { by };
        }
        AttachRefusal::Contended
    }

    /// The generation that it goes on from; one that never writes has nothing to go on with.
    pub(super) fn continues(&self) -> Option<Generation> {
        match self.attach.kind {
            AttachKind::ReadOnly => None,
            AttachKind::Exclusive { .. } | AttachKind::Shared => self.attach.continues,
        }
    }

    fn is_foreign(&self, fence: Fence) -> bool {
        fence.owner() != Some(self.attach.owner)
    }

    /// Whether it would rather not overtake an exclusive attach that is about to be granted.
    fn gives_way(&self) -> bool {
        let insists = self.attach.take_over || self.attach.continues.is_some();
        self.attach.kind != AttachKind::ReadOnly && !insists
    }

    /// The generation that has come between the one that it continues and now (rule 5): another
    /// owner's, or for a shared one, which opens nothing to go on, any other.
    fn broken_by(&self, fences: &[Fence], newest: &Newest) -> Option<Generation> {
        let since = self.continues()?;
        if newest.generation() < since {
            return Some(newest.generation());
        }
        let unchanged = newest.generation() == since && newest.may_be_shared();
        let foreign = fences
            .iter()
            .filter(|fence| fence.generation > since && self.is_foreign(**fence));
        match self.attach.kind {
            AttachKind::Shared => (!unchanged).then_some(newest.generation()),
            AttachKind::Exclusive { .. } | AttachKind::ReadOnly => {
                foreign.map(|fence| fence.generation).max()
            }
        }
    }

    /// The fence to open (rule 4).
    fn choose(&self, newest: &Newest, claims: &[Holder], tag: Tag) -> Fence {
        match self.attach.kind {
            AttachKind::Exclusive { .. } => newest.exclusive(self.attach.owner, tag),
            AttachKind::Shared if self.attach.continues.is_some() => Fence {
                generation: newest.generation(),
                mode: Mode::Shared,
            },
            AttachKind::Shared => newest.shared(claims),
            AttachKind::ReadOnly => newest.read_only(claims),
        }
    }
}
