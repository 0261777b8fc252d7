//! What may be found after a crash.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::domain::{Content, Extent, Rank, SECTOR_SIZE, SectorAddress, SectorRange, Stamp, Vote};
use crate::domain::{Fence, Generation, Held, Incarnation, Mode, OwnerId, Tag, Volume};

/// Everything that was asked of the store and everything that it said, by when it said it.
#[derive(Clone, Default)]
pub(crate) struct Model {
    /// By sector, stamp: whether it is data.
    submitted: BTreeMap<u64, BTreeMap<Stamp, bool>>,
    /// The stamp that the store has at least, and from which operation of the medium on.
    promised: Vec<(usize, u64, Stamp)>,
    /// The same of earlier lives of the medium.
    kept: BTreeMap<u64, Stamp>,
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

/// The bytes of a sector under a stamp: every piece of 512 tells which it is.
pub(crate) fn bytes(address: u64, stamp: Stamp) -> Vec<u8> {
    let word = (address << 24) ^ stamp.timestamp;
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
    pub(crate) fn submit(&mut self, extent: &Extent) {
        let is_data = matches!(extent.content, Content::Data(_));
        for address in extent.range.addresses() {
            let stamps = self.submitted.entry(address.to_bits()).or_default();
            stamps.insert(extent.stamp, is_data);
        }
    }

    /// From this operation on the sectors have at least this stamp.
    pub(crate) fn promise(&mut self, operation: usize, range: SectorRange, stamp: Stamp) {
        for address in range.addresses() {
            self.promised.push((operation, address.to_bits(), stamp));
        }
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
            promised: Vec::new(),
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
            let submitted = self
                .submitted
                .get(&number)
                .and_then(|stamps| stamps.get(&stamp));
            let Some(is_data) = submitted else {
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
                Content::Unchanged => todo!("store"),
                Content::Zeroes => !is_data,
                Content::Data(data) => {
                    let start = found.range.offset_of(address) as usize * SECTOR_SIZE;
                    *is_data && data[start..start + SECTOR_SIZE] == bytes(number, stamp)
                }
            };
            if !whole {
                return Err(format!("{address} has {stamp:?} with another value"));
            }
        }
        Ok(())
    }
}
