//! A store as the register sees it: what is stable, what a crash may still lose, and what rots.

use std::collections::BTreeMap;

use atdd::domain::{Content, Extent, Held, Runs, SectorAddress, SectorRange, Stamp, Vote};

use crate::dice::Dice;

/// The sectors of one process. It outlives the process's crashes.
#[derive(Default)]
pub(crate) struct Disk {
    copies: BTreeMap<SectorAddress, Copy>,
    /// Accepted, but not synced, in the order of acceptance.
    unsynced: BTreeMap<u64, Vec<Extent>>,
    /// Planted: damaged copies look as if nothing had ever been written.
    pub(crate) damage_reads_as_empty: bool,
    /// Planted: loads see what is not synced.
    pub(crate) answers_unsynced: bool,
}

#[derive(Clone)]
struct Copy {
    stamp: Stamp,
    content: Content,
    damaged: bool,
}

impl Disk {
    /// Takes values that will be stable after [`Self::sync`].
    pub(crate) fn accept(&mut self, token: u64, extents: Vec<Extent>) {
        let before = self.unsynced.insert(token, extents);
        assert!(before.is_none(), "a token is used once");
    }

    /// The store of this token becomes stable. Where it is older than what the sector has, it
    /// changes nothing and is none the less done; and so it is where that newer copy is damaged,
    /// for the damage could as well have come right after.
    pub(crate) fn sync(&mut self, token: u64) -> Vec<Extent> {
        let extents = self.unsynced.remove(&token).expect("it was accepted");
        self.install(&extents);
        extents
    }

    /// Loses what is not stable, but for what happened to reach the disk before its sync.
    pub(crate) fn crash(&mut self, dice: &mut Dice, survive: u64) {
        for extents in std::mem::take(&mut self.unsynced).into_values() {
            for extent in extents {
                if dice.chance(survive) {
                    self.install(&[extent]);
                }
            }
        }
    }

    /// Damages the copy of a sector, if there is one.
    pub(crate) fn rot(&mut self, address: SectorAddress) -> bool {
        let copy = self.copies.get_mut(&address);
        copy.is_some_and(|copy| !std::mem::replace(&mut copy.damaged, true))
    }

    /// What is held of the first `sectors` of the range.
    pub(crate) fn load(
        &self,
        range: SectorRange,
        sectors: u32,
        newer_than: Option<&Runs<Vote>>,
    ) -> Held {
        let mut held = Held {
            votes: Runs::new(),
            values: Vec::new(),
        };
        for (offset, address) in (0..sectors).zip(range.addresses()) {
            let (vote, content) = self.copy(address);
            held.votes.push(1, vote);
            let asker = newer_than.and_then(|votes| votes.at(offset));
            if let (Some(asker), Vote::Stamp(stamp)) = (asker, vote)
                && vote > asker
                && !stamp.is_zero()
            {
                let range = SectorRange::single(address);
                held.values.push(Extent::new(range, stamp, content));
            }
        }
        held
    }

    fn copy(&self, address: SectorAddress) -> (Vote, Content) {
        let stable = self.copies.get(&address);
        let mut copy = stable.cloned().unwrap_or(Copy {
            stamp: Stamp::ZERO,
            content: Content::Zeroes,
            damaged: false,
        });
        if self.answers_unsynced {
            for extent in self.unsynced.values().flatten() {
                if extent.range.contains(address) && extent.stamp > copy.stamp {
                    copy = of_sector(extent, address);
                }
            }
        }
        match (copy.damaged, self.damage_reads_as_empty) {
            (false, _) => (Vote::Stamp(copy.stamp), copy.content),
            (true, false) => (Vote::Lost, Content::Zeroes),
            (true, true) => (Vote::ZERO, Content::Zeroes),
        }
    }

    fn install(&mut self, extents: &[Extent]) {
        for extent in extents {
            for address in extent.range.addresses() {
                let new = of_sector(extent, address);
                let newer = self.copies.get(&address).is_none_or(|copy| {
                    let forgotten = copy.damaged && self.damage_reads_as_empty;
                    let healed = copy.damaged && new.stamp >= copy.stamp;
                    new.stamp > copy.stamp || healed || forgotten
                });
                if newer {
                    self.copies.insert(address, new);
                }
            }
        }
    }
}

fn of_sector(extent: &Extent, address: SectorAddress) -> Copy {
    let content = match &extent.content {
        Content::Zeroes => Content::Zeroes,
        Content::Data(bytes) => {
            let sectors = bytes.len() / usize::try_from(extent.range.count()).unwrap();
            let start = usize::try_from(extent.range.offset_of(address)).unwrap() * sectors;
            Content::Data(bytes.slice(start..start + sectors))
        }
    };
    Copy {
        stamp: extent.stamp,
        content,
        damaged: false,
    }
}
