//! Which fence an attach opens, given those that a majority knows (rule 4).

use crate::domain::{AttachKind, Fence, Generation, Holder, Mode, OwnerId, Rank, Tag};

/// The fences of the highest number: one, unless an open of that number has failed or is under way.
#[derive(Debug)]
pub(super) struct Newest {
    generation: Generation,
    fences: Vec<Fence>,
}

impl Newest {
    /// # Panics
    /// When there are no fences.
    pub(super) fn of(fences: &[Fence]) -> Self {
        let generation = fences.iter().map(|fence| fence.generation).max();
        let generation = generation.expect("an attach knows a fence at least");
        let mut newest = Self {
            generation,
            fences: Vec::new(),
        };
        for fence in fences {
            if fence.generation == generation && !newest.fences.contains(fence) {
                newest.fences.push(*fence);
            }
        }
        newest
    }

    /// Their number.
    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// Whether a shared one is among them.
    pub(super) fn may_be_shared(&self) -> bool {
        self.fences.iter().any(|fence| fence.mode == Mode::Shared)
    }

    /// Whose process knows best whether an exclusive one among them is in use.
    pub(super) fn coordinators(&self) -> impl Iterator<Item = Rank> {
        self.fences.iter().filter_map(|fence| match fence.mode {
            Mode::Exclusive { tag, .. } => Some(tag.coordinator),
            Mode::Shared | Mode::Reading { .. } => None,
        })
    }

    /// A generation of the owner's own.
    pub(super) fn exclusive(&self, owner: OwnerId, tag: Tag) -> Fence {
        self.next(Mode::Exclusive { owner, tag })
    }

    /// The shared generation that there may be already; a new one after an exclusive one.
    pub(super) fn shared(&self, claims: &[Holder]) -> Fence {
        let shared = self.confirmable(claims);
        let shared = shared.filter(|fence| fence.mode == Mode::Shared);
        shared.unwrap_or_else(|| self.next(Mode::Shared))
    }

    /// The generation as it is, unless it is exclusive: one like that has a single coordinator.
    /// Whoever had it last may go on after the one that is read in its place. Where it cannot be
    /// told what it is, nobody holds it, and a new one has to be opened after all.
    pub(super) fn read_only(&self, claims: &[Holder]) -> Fence {
        let confirmable = self.confirmable(claims);
        if let Some(fence) = confirmable.filter(|fence| !fence.is_exclusive()) {
            return fence;
        }
        let before = confirmable.map_or_else(|| self.owner(), Fence::owner);
        self.next(before.map_or(Mode::Shared, |owner| Mode::Reading { owner }))
    }

    /// The owner of all of them, if they have but one.
    fn owner(&self) -> Option<OwnerId> {
        let owner = self.fences.first()?.owner();
        let others = self.fences.iter().any(|fence| fence.owner() != owner);
        owner.filter(|_| !others)
    }

    /// The one that may be open. Where two are known a holder proves that it is the one that it
    /// runs under. Without any, it may be that neither can be opened any more, each being refused
    /// where the other is.
    fn confirmable(&self, claims: &[Holder]) -> Option<Fence> {
        let is_held = |fence: &&Fence| claims.iter().any(|holder| runs_under(holder, **fence));
        match self.fences.as_slice() {
            [fence] => Some(*fence),
            fences => fences.iter().find(is_held).copied(),
        }
    }

    fn next(&self, mode: Mode) -> Fence {
        let number = self.generation.0.checked_add(1);
        Fence {
            generation: Generation(number.expect("2^64 opens take longer than anything lasts")),
            mode,
        }
    }
}

fn runs_under(holder: &Holder, fence: Fence) -> bool {
    match (holder.kind, fence.mode) {
        (AttachKind::Exclusive { .. }, Mode::Exclusive { tag, .. }) => {
            tag.coordinator == holder.process
        }
        (AttachKind::Shared, Mode::Shared) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attachment::tests::{exclusive, fence_of, holder, reading, shared};

    const TAG: Tag = Tag {
        coordinator: match crate::domain::Rank::new(1) {
            Some(rank) => rank,
            None => panic!("it is a rank"),
        },
        incarnation: crate::domain::Incarnation(1),
        sequence: 9,
    };

    #[test]
    fn an_exclusive_generation_is_above_every_known_one() {
        let newest = Newest::of(&[shared(3), exclusive(5, 2, 7), shared(4)]);
        let fence = newest.exclusive(OwnerId([1; 16]), TAG);
        assert_eq!(fence.generation, Generation(6));
        assert_eq!(fence.owner(), Some(OwnerId([1; 16])));
    }

    #[test]
    fn shared_attachments_share_the_generation_that_there_is() {
        assert_eq!(Newest::of(&[shared(4), shared(3)]).shared(&[]), shared(4));
        let newest = Newest::of(&[exclusive(4, 2, 7), shared(3)]);
        assert_eq!(newest.shared(&[]), shared(5));
        assert!(!newest.may_be_shared());
    }

    #[test]
    fn reading_opens_nothing_after_a_shared_generation() {
        let newest = Newest::of(&[exclusive(3, 2, 7), shared(4), shared(3)]);
        assert_eq!(newest.read_only(&[]), shared(4));
    }

    #[test]
    fn after_an_exclusive_generation_readers_have_one_of_their_own_together() {
        let newest = Newest::of(&[exclusive(4, 2, 7), exclusive(4, 2, 7), shared(3)]);
        assert_eq!(newest.read_only(&[]), reading(5, 7));
        let newest = Newest::of(&[reading(5, 7), exclusive(4, 2, 7)]);
        assert_eq!(newest.read_only(&[]), reading(5, 7));
        assert_eq!(newest.shared(&[]), shared(6));
        assert!(!newest.may_be_shared());
        let rivals = [reading(5, 7), exclusive(5, 2, 7)];
        assert_eq!(Newest::of(&rivals).read_only(&[]), reading(6, 7));
    }

    /// Each of two failed opens of one number is refused where the other is, so with the third
    /// process away nothing but a number of its own gets a reader on.
    #[test]
    fn rivals_of_one_number_are_told_apart_by_their_holders() {
        let rivals = [exclusive(4, 2, 7), exclusive(4, 3, 8), shared(4)];
        let newest = Newest::of(&rivals);
        assert_eq!(newest.read_only(&[]), shared(5));
        assert_eq!(newest.shared(&[]), shared(5));
        let held = holder(3, 9, exclusive(4, 3, 8));
        assert_eq!(newest.read_only(&[held]), reading(5, 8));
        let held = holder(2, 9, fence_of(4, Mode::Shared));
        assert_eq!(newest.shared(&[held]), shared(4));
    }
}
