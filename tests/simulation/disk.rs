//! A store as the process sees it: what is stable, what a crash may still lose, and what rots.

use std::collections::{BTreeMap, VecDeque};

use atdd::domain::{
    Content, Extent, Fence, Generation, Held, Runs, SectorAddress, SectorRange, Stamp, Vote,
};

use crate::bug::Bug;
use crate::dice::Dice;

/// The sectors of one process, and its fence. It outlives the process's crashes.
pub(crate) struct Disk {
    copies: BTreeMap<SectorAddress, Copy>,
    /// The generation under which whatever a sector holds was settled in place.
    floors: BTreeMap<SectorAddress, Generation>,
    /// Accepted, but not synced, by register and token.
    unsynced: BTreeMap<(u8, u64), Vec<Extent>>,
    fence: Fence,
    /// To be recorded, in this order.
    unrecorded: VecDeque<Fence>,
    bug: Option<Bug>,
}

#[derive(Clone)]
struct Copy {
    stamp: Stamp,
    content: Content,
    damaged: bool,
}

impl Disk {
    pub(crate) fn new(bug: Option<Bug>) -> Self {
        Self {
            copies: BTreeMap::new(),
            floors: BTreeMap::new(),
            unsynced: BTreeMap::new(),
            fence: Fence::INITIAL,
            unrecorded: VecDeque::new(),
            bug,
        }
    }

    /// Takes values that will be stable after [`Self::sync`].
    pub(crate) fn accept(&mut self, shard: u8, token: u64, extents: Vec<Extent>) {
        let before = self.unsynced.insert((shard, token), extents);
        assert!(before.is_none(), "a token is used once");
    }

    /// The store of this token becomes stable. Where it is older than what the sector has, it
    /// changes nothing and is none the less done; and so it is where that newer copy is damaged,
    /// for the damage could as well have come right after.
    pub(crate) fn sync(&mut self, shard: u8, token: u64) -> Vec<Extent> {
        let extents = self.unsynced.remove(&(shard, token));
        let extents = extents.expect("it was accepted");
        self.install(&extents);
        extents
    }

    /// Values are stable at once, without anyone's having been asked; planted.
    pub(crate) fn slip_in(&mut self, extents: &[Extent]) {
        self.install(extents);
    }

    /// The fence on record.
    pub(crate) fn fence(&self) -> Fence {
        self.fence
    }

    /// Takes a fence that will be on record after [`Self::record`].
    pub(crate) fn accept_fence(&mut self, fence: Fence) {
        self.unrecorded.push_back(fence);
    }

    /// The fence that was accepted first is on record.
    pub(crate) fn record(&mut self) -> Fence {
        self.fence = self.unrecorded.pop_front().expect("it was accepted");
        self.fence
    }

    /// The fence was never on record; planted.
    pub(crate) fn forget_fence(&mut self) {
        self.fence = Fence::INITIAL;
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
        for fence in std::mem::take(&mut self.unrecorded) {
            if !dice.chance(survive) {
                break;
            }
            self.fence = fence;
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
        if self.bug == Some(Bug::UnstableAnswers) {
            for extent in self.unsynced.values().flatten() {
                let newer = extent.range.contains(address) && extent.stamp > copy.stamp;
                if newer && extent.content != Content::Unchanged {
                    copy = of_sector(extent, address);
                }
            }
        }
        let stamp = copy.stamp.settled_under(self.floor(address));
        match (copy.damaged, self.damage_reads_as_empty()) {
            (false, _) => (Vote::Stamp(stamp), copy.content),
            (true, false) => (Vote::Lost, Content::Zeroes),
            (true, true) => (Vote::ZERO, Content::Zeroes),
        }
    }

    fn install(&mut self, extents: &[Extent]) {
        for extent in extents
            .iter()
            .filter_map(|extent| self.falsified(extent))
            .collect::<Vec<_>>()
        {
            let extent = &extent;
            for address in extent.range.addresses() {
                if extent.content == Content::Unchanged {
                    let floor = self.floors.entry(address).or_default();
                    *floor = extent.stamp.settled.max(*floor);
                } else {
                    self.install_sector(address, of_sector(extent, address));
                }
            }
        }
    }

    /// What a planted bug makes of values that are to be stored; `None` if nothing is left of them.
    fn falsified(&self, extent: &Extent) -> Option<Extent> {
        let mut extent = extent.clone();
        let stamp = &mut extent.stamp;
        match self.bug {
            Some(Bug::GenerationNotInStamp) => {
                stamp.settled = Generation(0);
                stamp.generation = Generation(0);
            }
            Some(Bug::LeftoversNotSettled | Bug::LeftoversSettledUnderOldStamp) => {
                stamp.settled = stamp.generation;
            }
            _ => return Some(extent),
        }
        extent.stamp.is_written().then_some(extent)
    }

    fn damage_reads_as_empty(&self) -> bool {
        self.bug == Some(Bug::DamageVotesAsEmpty)
    }

    fn install_sector(&mut self, address: SectorAddress, new: Copy) {
        let floor = self.floor(address);
        let held = self.copies.get(&address);
        let stamp = held.map_or(Stamp::ZERO, |copy| copy.stamp);
        let stamp = stamp.settled_under(floor);
        let damaged = held.is_some_and(|copy| copy.damaged);
        let forgotten = damaged && self.damage_reads_as_empty();
        let healed = damaged && new.stamp >= stamp;
        if new.stamp > stamp || healed || forgotten {
            self.copies.insert(address, new);
        }
    }

    fn floor(&self, address: SectorAddress) -> Generation {
        self.floors.get(&address).copied().unwrap_or_default()
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
        Content::Unchanged => unreachable!("it is no copy"),
    };
    Copy {
        stamp: extent.stamp,
        content,
        damaged: false,
    }
}
