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

/// How often a reader is told that it has waited long enough before it overtakes a writer who is
/// about to come, through a process whose disk is slow: it might do so again and again.
const WAITS_FOR_WRITER: u32 = 4;

/// A client of this process that wants to attach.
#[derive(Debug)]
pub(super) struct Opening {
    /// Names the attach in all of its requests.
    pub(super) sequence: u64,
    pub(super) attach: Attach,
    pub(super) client: String,
    /// When the client asked, for people.
    pub(super) now: u64,
    /// How often it was told that it has waited long enough. As long as it was not it waits for
    /// more than a majority, where certain processes know better.
    waited: u32,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// Which fences are there, and who holds the volume?
    Asking { answers: Answers },
    /// A fence is to become stable at a majority.
    Opening {
        target: Fence,
        acknowledged: BTreeSet<Rank>,
    },
}

/// What each process answered to [`Question::Fence`].
type Answers = BTreeMap<Rank, Heard>;

/// What a process answered to it.
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
    /// Whether another gateway of the same device is, in this process.
    pub(super) joinable: bool,
}

/// What becomes of an attach.
#[derive(Debug)]
pub(super) enum Decision {
    /// It goes on asking.
    Wait,
    /// It runs under this fence from now on.
    Grant(Fence),
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
            waited: 0,
            phase: Phase::Asking {
                answers: BTreeMap::new(),
            },
        }
    }

    /// A process has answered what its fence is; its first answer counts.
    pub(super) fn heard(&mut self, from: Rank, fence: Fence, holders: Vec<Holder>) {
        if let Phase::Asking { answers } = &mut self.phase {
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

    /// It has waited long enough for more than it has heard.
    pub(super) fn stop_waiting(&mut self) {
        self.waited = self.waited.saturating_add(1);
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
            Phase::Asking { answers } => (!answers.contains_key(&rank)).then_some(Question::Fence),
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

    /// What becomes of the attach.
    pub(super) fn decide(&self, around: &Surroundings) -> Decision {
        match &self.phase {
            Phase::Asking { answers } => self.decide_target(answers, around),
            Phase::Opening {
                target,
                acknowledged,
            } if is_open(acknowledged, around.holders) => self.conclude(*target, around),
            Phase::Opening { .. } => Decision::Wait,
        }
    }

    /// What the open fence leads to. One that was to be joined may have been left meanwhile; then
    /// nobody runs under it any more.
    fn conclude(&self, target: Fence, around: &Surroundings) -> Decision {
        let own = match target.mode {
            Mode::Exclusive { tag, .. } => tag == around.tag,
            Mode::Shared | Mode::Reading { .. } => true,
        };
        if own || around.holders.joined(&self.attach) == Some(target) {
            return Decision::Grant(target);
        }
        Decision::Refuse(AttachRefusal::Contended)
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

    /// What a majority's answers lead to.
    fn decide_target(&self, answers: &Answers, around: &Surroundings) -> Decision {
        let holders = around.holders;
        if let Some(fence) = holders.joined(&self.attach) {
            return match self.continues() {
                None => Decision::Grant(fence),
                // Whether another owner came in between is for a majority to say (rule 5).
                Some(_) => Decision::Open(fence),
            };
        }
        if answers.len() < holders.majority() {
            return Decision::Wait;
        }
        let fences = answers.values().map(|heard| heard.fence);
        let fences: Vec<Fence> = fences.chain([around.accepted]).collect();
        let newest = Newest::of(&fences);
        if let Some(by) = self.broken_by(&fences, &newest) {
            return Decision::Refuse(AttachRefusal::Fenced { by });
        }
        let generation = newest.generation();
        match holders.bar(&self.attach, generation, answers, self.waited == 0) {
            Bar::Refused(refusal) => return Decision::Refuse(refusal),
            Bar::Unsure => return Decision::Wait,
            Bar::None if self.waits_for_writer(&newest, answers, around) => {
                return Decision::Wait;
            }
            Bar::None => {}
        }
        if around.joinable || around.contended && self.gives_way() {
            return Decision::Refuse(AttachRefusal::Contended);
        }
        let claims = holders.claims(generation, answers);
        Decision::Open(self.choose(&newest, &claims, around.tag))
    }

    /// Whether a reader waits for the process that coordinates the newest generation, or is about
    /// to: it may say that it is in use.
    fn waits_for_writer(&self, newest: &Newest, heard: &Answers, around: &Surroundings) -> bool {
        let connected = |rank| around.holders.is_connected(rank);
        let mut coordinators = newest.coordinators();
        let unheard = coordinators.any(|rank| !heard.contains_key(&rank) && connected(rank));
        let reads = self.attach.kind == AttachKind::ReadOnly;
        reads && self.waited < WAITS_FOR_WRITER && (unheard || around.contended)
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

/// Whether a majority has acknowledged the fence (rule 4), and this process, which is to run
/// operations under it.
fn is_open(acknowledged: &BTreeSet<Rank>, holders: &Holders) -> bool {
    acknowledged.len() >= holders.majority() && acknowledged.contains(&holders.own())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attachment::tests::{exclusive, rank, reading, shared};
    use crate::domain::{Incarnation, OwnerId};

    const OWN: u8 = 1;
    const EXCLUSIVE: AttachKind = AttachKind::Exclusive { join: None };

    /// Owner 7 in a process of three.
    fn opening(kind: AttachKind, continues: Option<u64>) -> Opening {
        let attach = Attach {
            owner: OwnerId([7; 16]),
            kind,
            take_over: false,
            continues: continues.map(Generation),
        };
        Opening::new(0, attach, String::new(), 0)
    }

    fn decide(opening: &Opening, accepted: Fence, contended: bool) -> Decision {
        opening.decide(&Surroundings {
            holders: &Holders::new(rank(OWN), 3),
            accepted,
            tag: Tag {
                coordinator: rank(OWN),
                incarnation: Incarnation(1),
                sequence: 5,
            },
            contended,
            joinable: false,
        })
    }

    fn opens(opening: &Opening, accepted: Fence) -> Fence {
        match decide(opening, accepted, false) {
            Decision::Open(fence) => fence,
            other => panic!("{other:?}"),
        }
    }

    fn is_fenced_by(opening: &Opening, accepted: Fence, number: u64) -> bool {
        let by = Generation(number);
        match decide(opening, accepted, false) {
            Decision::Refuse(refusal) => refusal == AttachRefusal::Fenced { by },
            _ => false,
        }
    }

    #[test]
    fn the_fence_to_open_follows_from_what_a_majority_knows() {
        for (kind, target) in [
            (EXCLUSIVE, exclusive(5, OWN, 7)),
            (AttachKind::Shared, shared(5)),
            (AttachKind::ReadOnly, reading(5, 8)),
        ] {
            let mut opening = opening(kind, None);
            opening.heard(rank(2), exclusive(4, 3, 8), Vec::new());
            opening.heard(rank(2), shared(9), Vec::new());
            assert!(
                matches!(decide(&opening, shared(2), false), Decision::Wait),
                "a process counts once"
            );
            opening.heard(rank(OWN), shared(2), Vec::new());
            assert_eq!(opens(&opening, shared(2)), target);
            assert_eq!(
                opens(&opening, shared(6)).generation.0,
                6 + u64::from(kind == EXCLUSIVE),
                "what is accepted here in the meantime counts"
            );
        }
    }

    #[test]
    fn an_owner_that_others_came_after_is_fenced() {
        let heard = |kind, continues, fence| {
            let mut opening = opening(kind, Some(continues));
            opening.heard(rank(OWN), shared(1), Vec::new());
            opening.heard(rank(2), fence, Vec::new());
            opening
        };
        let own = heard(EXCLUSIVE, 3, exclusive(4, 2, 7));
        assert_eq!(opens(&own, shared(1)).generation, Generation(5));
        assert!(is_fenced_by(&own, shared(4), 4), "known here");
        let other = heard(EXCLUSIVE, 3, exclusive(4, 2, 8));
        assert!(is_fenced_by(&other, shared(1), 4));
        let other = heard(EXCLUSIVE, 4, exclusive(4, 2, 8));
        assert_eq!(opens(&other, shared(1)).generation, Generation(5));
        let never = heard(EXCLUSIVE, 5, exclusive(4, 2, 7));
        assert!(is_fenced_by(&never, shared(1), 4));

        let same = heard(AttachKind::Shared, 4, shared(4));
        assert_eq!(opens(&same, exclusive(4, 2, 8)), shared(4));
        let raised = heard(AttachKind::Shared, 3, shared(4));
        assert!(is_fenced_by(&raised, shared(1), 4));
        let taken = heard(AttachKind::Shared, 4, exclusive(4, 2, 7));
        assert!(is_fenced_by(&taken, shared(1), 4));
    }

    #[test]
    fn a_refusal_is_final_only_for_an_owner_that_goes_on() {
        let refused = |continues, by| {
            let mut opening = opening(EXCLUSIVE, continues);
            opening.open(exclusive(6, OWN, 7));
            opening.refused_by(by)
        };
        let fenced = |by| AttachRefusal::Fenced { by: Generation(by) };
        let contended = AttachRefusal::Contended;
        assert_eq!(refused(None, exclusive(9, 2, 8)), contended);
        assert_eq!(refused(Some(4), exclusive(9, 2, 8)), fenced(9));
        assert_eq!(refused(Some(4), shared(6)), fenced(6));
        assert_eq!(refused(Some(4), exclusive(5, 2, 8)), fenced(5));
        assert_eq!(
            refused(Some(4), exclusive(6, 2, 7)),
            contended,
            "the client has another attach under way"
        );
        assert_eq!(refused(Some(4), exclusive(8, 2, 7)), contended);
        assert_eq!(
            refused(Some(4), exclusive(6, OWN, 7)),
            fenced(6),
            "it is not known what came before"
        );
        assert_eq!(refused(Some(4), exclusive(5, 2, 7)), fenced(5));
    }

    #[test]
    fn a_majority_grants_only_with_the_own_process() {
        let mut opening = opening(EXCLUSIVE, None);
        let target = exclusive(5, OWN, 7);
        opening.open(target);
        assert_eq!(opening.round(), OPENING);
        for process in [2, 3, 2] {
            opening.acknowledged(rank(process));
            assert!(matches!(decide(&opening, target, false), Decision::Wait));
        }
        assert_eq!(opening.owed(rank(2)), None);
        opening.acknowledged(rank(OWN));
        let Decision::Grant(fence) = decide(&opening, target, false) else {
            panic!("a majority has acknowledged it");
        };
        assert_eq!(fence, target);
    }

    #[test]
    fn only_who_insists_overtakes_an_attach_of_the_same_process() {
        let mut opening = opening(EXCLUSIVE, None);
        opening.heard(rank(OWN), shared(1), Vec::new());
        opening.heard(rank(2), shared(1), Vec::new());
        let is_contended = |opening: &Opening| {
            let decision = decide(opening, exclusive(2, OWN, 8), true);
            matches!(decision, Decision::Refuse(AttachRefusal::Contended))
        };
        assert!(is_contended(&opening));
        opening.attach.take_over = true;
        assert!(!is_contended(&opening));
    }
}
