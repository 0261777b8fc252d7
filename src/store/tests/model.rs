//! What may be found after a crash.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use crate::domain::{Content, Extent, Rank, SECTOR_SIZE, SectorAddress, SectorRange, Stamp, Vote};
use crate::domain::{Fence, Generation, Held, Incarnation, Mode, OwnerId, Tag, Volume};

/// Everything that was asked of the store and everything that it said, by when it said it.
#[derive(Clone, Default)]
pub(crate) struct Model {
    /// By sector, stamp: whether it is data.
    submitted: BTreeMap<u64, BTreeMap<Stamp, bool>>,
    /// By sector: the generations that it was settled under, whatever it held.
    settled: BTreeMap<u64, BTreeSet<Generation>>,
    /// The stamp that the store has at least, and from which operation of the medium on.
    promised: Vec<(usize, u64, Stamp)>,
    /// The highest of them, and the same of earlier lives of the medium.
    kept: BTreeMap<u64, Stamp>,
    now: BTreeMap<u64, Stamp>,
    /// Fences, and between which operations of the medium they were recorded.
    recorded: Vec<(usize, usize, Fence)>,
    /// The fences that there may be, of earlier lives; none is the initial one.
    fences: Vec<Fence>,
}

pub(crate) fn at(index: u64) -> SectorAddress {
    SectorAddress::new(Volume(0), index).unwrap()
}

pub(crate) fn range(first: u64, count: u32) -> SectorRange {
    SectorRange::new(at(first), count).unwrap()
}

/// A stamp; some of them of another origin.
pub(crate) fn stamp(timestamp: u64) -> Stamp {
    Stamp {
        timestamp,
        rank: Rank::new(1 + u8::try_from(timestamp % 3).unwrap()),
        ..Stamp::ZERO
    }
}

/// A stamp of the same timestamp whose generations rise with it, so that settling leaves the order
/// of those that it settles.
pub(crate) fn generation_stamp(timestamp: u64) -> Stamp {
    let generation = generation_of(timestamp);
    Stamp {
        settled: generation,
        generation,
        ..stamp(timestamp)
    }
}

/// The generation of that stamp.
pub(crate) fn generation_of(timestamp: u64) -> Generation {
    Generation(timestamp / 150)
}

/// An extent that settles whatever the sectors hold.
pub(crate) fn settling(range: SectorRange, generation: Generation) -> Extent {
    let stamp = Stamp::ZERO.settled_under(generation);
    Extent::new(range, stamp, Content::Unchanged)
}

/// The bytes of a sector under a stamp: every piece of 512 tells which it is.
pub(crate) fn bytes(address: u64, stamp: Stamp) -> Vec<u8> {
    let word = (address << 24) ^ stamp.timestamp ^ (stamp.generation.0 << 40);
    (0..SECTOR_SIZE / 8)
        .flat_map(|place| (word ^ ((place as u64) << 48)).to_le_bytes())
        .collect()
}

/// A fence of this generation, one of 256.
pub(crate) fn fence(generation: u64, owner: u8) -> Fence {
    Fence {
        generation: Generation(generation),
        mode: Mode::Exclusive {
            owner: OwnerId([owner; 16]),
            tag: Tag {
                coordinator: Rank::new(1).unwrap(),
                incarnation: Incarnation(1),
                sequence: generation,
            },
        },
    }
}

pub(crate) fn extent(range: SectorRange, stamp: Stamp, is_data: bool) -> Extent {
    let content = if is_data {
        let data: Vec<u8> = range
            .addresses()
            .flat_map(|address| bytes(address.to_bits(), stamp))
            .collect();
        Content::Data(Bytes::from(data))
    } else {
        Content::Zeroes
    };
    Extent::new(range, stamp, content)
}

impl Model {
    /// Takes note of a store, and gives what it promises once it is acknowledged.
    pub(crate) fn submit(&mut self, extent: &Extent) -> Vec<(SectorRange, Stamp)> {
        let settles = extent.content == Content::Unchanged;
        let is_data = matches!(extent.content, Content::Data(_));
        for address in extent.range.addresses() {
            let number = address.to_bits();
            if settles {
                let settled = self.settled.entry(number).or_default();
                settled.insert(extent.stamp.settled);
            } else {
                let stamps = self.submitted.entry(number).or_default();
                stamps.insert(extent.stamp, is_data);
            }
        }
        if !settles {
            return vec![(extent.range, extent.stamp)];
        }
        // Of what was promised so far: that it is settled.
        let addresses = extent.range.addresses();
        let settled = addresses.map(|address| {
            let now = self.now.get(&address.to_bits()).copied();
            let now = now.unwrap_or(Stamp::ZERO);
            let stamp = now.settled_under(extent.stamp.settled);
            (SectorRange::single(address), stamp)
        });
        settled.collect()
    }

    /// From this operation on the sectors have at least this stamp.
    pub(crate) fn promise(&mut self, operation: usize, range: SectorRange, stamp: Stamp) {
        for address in range.addresses() {
            let number = address.to_bits();
            self.promised.push((operation, number, stamp));
            let now = self.now.entry(number).or_insert(Stamp::ZERO);
            *now = (*now).max(stamp);
        }
    }

    /// Whether a value of this stamp was stored, or one that was then settled so; and if so, whether
    /// it is data.
    fn stored(&self, address: u64, stamp: Stamp) -> Option<bool> {
        let submitted = self.submitted.get(&address).into_iter().flatten();
        let mut known = submitted.chain([(&Stamp::ZERO, &false)]);
        let settled = self.settled.get(&address);
        let settled = settled.is_some_and(|settled| settled.contains(&stamp.settled));
        let found = known.find(|(known, _)| {
            **known == stamp
                || settled && known.settled < stamp.settled && {
                    known.settled_under(stamp.settled) == stamp
                }
        });
        found.map(|(_, is_data)| *is_data)
    }

    /// The fence was recorded between these operations.
    pub(crate) fn record(&mut self, from: usize, to: usize, fence: Fence) {
        self.recorded.push((from, to, fence));
    }

    /// Checks the fence that a recovery found, and takes it as what is there from now on.
    pub(crate) fn check_fence(&mut self, found: Fence) -> Result<(), String> {
        let initial = self.fences.is_empty() && found == Fence::INITIAL;
        if !initial && !self.fences.contains(&found) {
            return Err(format!(
                "the fence is {found:?} and not of {:?}",
                self.fences
            ));
        }
        self.fences = vec![found];
        Ok(())
    }

    /// The model of a medium that was cut behind so many operations.
    pub(crate) fn cut(&self, operations: usize) -> Self {
        let mut kept = self.kept.clone();
        for (operation, address, stamp) in &self.promised {
            if *operation <= operations {
                let known = kept.entry(*address).or_insert(Stamp::ZERO);
                *known = (*known).max(*stamp);
            }
        }
        let done = self.recorded.iter().rfind(|(_, to, _)| *to <= operations);
        let mut fences = done.map_or_else(|| self.fences.clone(), |(.., fence)| vec![*fence]);
        let under_way = |(from, to, _): &&_| *from < operations && operations < *to;
        if let Some((.., fence)) = self.recorded.iter().find(under_way) {
            if fences.is_empty() {
                fences.push(Fence::INITIAL);
            }
            fences.push(*fence);
        }
        Self {
            submitted: self.submitted.clone(),
            settled: self.settled.clone(),
            promised: Vec::new(),
            now: kept.clone(),
            kept,
            recorded: Vec::new(),
            fences,
        }
    }

    /// The highest timestamp that was submitted.
    pub(crate) fn highest(&self) -> u64 {
        let stamps = self
            .submitted
            .values()
            .filter_map(|stamps| stamps.last_key_value());
        stamps.map(|(stamp, _)| stamp.timestamp).max().unwrap_or(0)
    }

    /// What the sector has at least.
    pub(crate) fn least(&self, address: u64) -> Stamp {
        self.kept.get(&address).copied().unwrap_or(Stamp::ZERO)
    }

    /// Checks what was loaded of a whole range; `Lost` only where `may_be_lost` says so.
    pub(crate) fn check(
        &self,
        range: SectorRange,
        held: &Held,
        may_be_lost: impl Fn(u64) -> bool,
    ) -> Result<(), String> {
        for (address, offset) in range.addresses().zip(0..held.votes.count()) {
            let number = address.to_bits();
            let Some(Vote::Stamp(stamp)) = held.votes.at(offset) else {
                if may_be_lost(number) {
                    continue;
                }
                return Err(format!("{address} is lost"));
            };
            let least = self.least(number);
            if stamp < least {
                return Err(format!("{address} has {stamp:?}, older than {least:?}"));
            }
            if stamp.is_zero() {
                continue;
            }
            let Some(is_data) = self.stored(number, stamp) else {
                return Err(format!("{address} has {stamp:?}, which nobody stored"));
            };
            let found = held
                .values
                .iter()
                .find(|value| value.range.contains(address));
            let Some(found) = found.filter(|found| found.stamp == stamp) else {
                return Err(format!("{address} has {stamp:?} without its value"));
            };
            let whole = match &found.content {
                Content::Unchanged => false,
                Content::Zeroes => !is_data,
                Content::Data(data) => {
                    let start = found.range.offset_of(address) as usize * SECTOR_SIZE;
                    is_data && data[start..start + SECTOR_SIZE] == bytes(number, stamp)
                }
            };
            if !whole {
                return Err(format!("{address} has {stamp:?} with another value"));
            }
        }
        Ok(())
    }
}
