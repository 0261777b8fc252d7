//! Who held the volume through a process that has just gone.
//!
//! Its client fails over within seconds, if it lives. Clients without an attachment, whom nobody
//! asked whether they want to fence it off, leave it that time: otherwise whatever happens to read a
//! sector in between would take the disk from under a mounted filesystem. Whoever attaches in his
//! own name need not wait: the volume is not held.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::{AttachKind, Fence, Holder, Mode, Rank};

/// More than a client needs to find another process: its word is two seconds.
const GRACE: Duration = Duration::from_secs(5);

/// The exclusive holders of connected peers, and of those that were connected a moment ago.
#[derive(Debug, Default)]
pub(crate) struct LostHolders {
    present: BTreeMap<Rank, Vec<Holder>>,
    /// Until when each is missed.
    lost: Vec<(Instant, Holder)>,
}

impl LostHolders {
    /// What a connected peer says of its own holders.
    pub(crate) fn told(&mut self, peer: Rank, holders: &[Holder]) {
        let exclusive = |holder: &&Holder| matches!(holder.kind, AttachKind::Exclusive { .. });
        let holders = holders.iter().filter(exclusive).cloned().collect();
        self.present.insert(peer, holders);
    }

    /// The peer has gone, and its holders with it.
    pub(crate) fn disconnected(&mut self, peer: Rank, now: Instant) {
        self.lost.retain(|(until, _)| *until > now);
        let holders = self.present.remove(&peer).unwrap_or_default();
        let until = now + GRACE;
        self.lost
            .extend(holders.into_iter().map(|holder| (until, holder)));
    }

    /// Who may come back to the generation of this fence.
    pub(crate) fn missed(&self, fence: Fence, now: Instant) -> Option<&Holder> {
        let mut lost = self.lost.iter();
        let missed = lost.find(|(until, holder)| *until > now && may_come_back(holder, fence));
        missed.map(|(_, holder)| holder)
    }
}

/// Whether nobody but readers came after this exclusive attachment.
fn may_come_back(holder: &Holder, fence: Fence) -> bool {
    match fence.mode {
        Mode::Shared => false,
        Mode::Exclusive { .. } => holder.generation == fence.generation,
        Mode::Reading { owner } => holder.owner == owner,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Generation, Incarnation, OwnerId, Tag};

    fn holder(generation: u64) -> Holder {
        Holder {
            process: Rank::new(1).unwrap(),
            owner: OwnerId([7; 16]),
            kind: AttachKind::Exclusive { join: None },
            generation: Generation(generation),
            client: "10.0.0.9:1".to_owned(),
            since: 0,
        }
    }

    fn fence(generation: u64) -> Fence {
        let tag = Tag {
            coordinator: Rank::new(1).unwrap(),
            incarnation: Incarnation(1),
            sequence: 0,
        };
        Fence {
            generation: Generation(generation),
            mode: Mode::Exclusive {
                owner: OwnerId([7; 16]),
                tag,
            },
        }
    }

    #[test]
    fn a_holder_is_missed_for_a_while_after_its_process_has_gone() {
        let peer = Rank::new(1).unwrap();
        let now = Instant::now();
        let mut lost = LostHolders::default();
        lost.told(peer, &[holder(4)]);
        assert_eq!(lost.missed(fence(4), now), None, "it is there");
        lost.disconnected(peer, now);
        assert_eq!(lost.missed(fence(4), now), Some(&holder(4)));
        assert_eq!(lost.missed(fence(5), now), None, "it was taken over from");
        let read_since = |owner: u8| Fence {
            generation: Generation(5),
            mode: Mode::Reading {
                owner: OwnerId([owner; 16]),
            },
        };
        assert_eq!(lost.missed(read_since(7), now), Some(&holder(4)));
        assert_eq!(
            lost.missed(read_since(8), now),
            None,
            "it was taken over from"
        );
        assert_eq!(lost.missed(fence(4), now + GRACE), None);
    }

    #[test]
    fn one_that_has_left_in_order_is_not_missed() {
        let peer = Rank::new(1).unwrap();
        let now = Instant::now();
        let mut lost = LostHolders::default();
        lost.told(peer, &[holder(4)]);
        lost.told(peer, &[]);
        lost.disconnected(peer, now);
        assert_eq!(lost.missed(fence(4), now), None);
    }
}
