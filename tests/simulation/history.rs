//! What clients saw, sector by sector.

use std::collections::BTreeMap;

use atdd::domain::{Content, Extent, SECTOR_SIZE, SectorAddress, SectorRange, Stamp};
use bytes::{Bytes, BytesMut};

use crate::checker::{self, Action, Event, INITIAL};

/// What a client asked for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    Discard,
}

/// A client's operation, and how it ended.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) process: usize,
    pub(crate) kind: Kind,
    pub(crate) range: SectorRange,
    start: u64,
    ending: Ending,
    /// Tombstones of a discard: under these stamps its zeroes were stored.
    tombstones: BTreeMap<SectorAddress, Stamp>,
}

#[derive(Debug)]
enum Ending {
    Open,
    /// Its client will never know.
    CutOff,
    /// It was refused, and had no effect.
    Refused,
    Done {
        at: u64,
        /// What a read returned.
        values: Vec<u64>,
    },
}

/// All operations. Their numbers are the tickets.
#[derive(Default)]
pub(crate) struct History {
    records: Vec<Record>,
    time: u64,
    /// The discard that stored zeroes under this stamp.
    discards: BTreeMap<(SectorAddress, Stamp), usize>,
}

impl History {
    /// An operation begins; returns its number.
    pub(crate) fn begin(&mut self, process: usize, kind: Kind, range: SectorRange) -> usize {
        let start = self.tick();
        self.records.push(Record {
            process,
            kind,
            range,
            start,
            ending: Ending::Open,
            tombstones: BTreeMap::new(),
        });
        self.records.len() - 1
    }

    pub(crate) fn record(&self, number: usize) -> &Record {
        &self.records[number]
    }

    /// What the read of this number has returned, if it has.
    pub(crate) fn values(&self, number: usize) -> Option<&[u64]> {
        match &self.records[number].ending {
            Ending::Done { values, .. } => Some(values),
            Ending::Open | Ending::CutOff | Ending::Refused => None,
        }
    }

    /// Whether the outcome of this operation will never be known.
    pub(crate) fn is_cut_off(&self, number: usize) -> bool {
        matches!(self.records[number].ending, Ending::CutOff)
    }

    /// What the write of this number writes: each sector its own value, at both of its ends.
    pub(crate) fn data(&self, number: usize) -> Bytes {
        let range = self.records[number].range;
        let sectors = usize::try_from(range.count()).unwrap();
        let mut data = BytesMut::zeroed(sectors * SECTOR_SIZE);
        for (sector, address) in data.chunks_exact_mut(SECTOR_SIZE).zip(range.addresses()) {
            let bytes = value(number, address).to_be_bytes();
            sector[..8].copy_from_slice(&bytes);
            sector[SECTOR_SIZE - 8..].copy_from_slice(&bytes);
        }
        data.freeze()
    }

    /// A discard stores zeroes under this stamp. Operations on a sector run one at a time in
    /// their order, so at its process it must be the first one open on that sector.
    pub(crate) fn tombstone(&mut self, process: usize, extent: &Extent) -> Result<(), String> {
        for address in extent.range.addresses() {
            let key = (address, extent.stamp);
            if self.discards.contains_key(&key) {
                continue;
            }
            let open = |record: &Record| {
                record.process == process
                    && record.range.contains(address)
                    && matches!(record.ending, Ending::Open)
            };
            let first = self.records.iter().position(open);
            let discard = first.filter(|&number| {
                let record = &self.records[number];
                record.kind == Kind::Discard && !record.tombstones.contains_key(&address)
            });
            let Some(number) = discard else {
                return Err(format!(
                    "zeroes are stored at {address} under {:?} by no discard, but by {first:?}",
                    extent.stamp
                ));
            };
            self.discards.insert(key, number);
            self.records[number]
                .tombstones
                .insert(address, extent.stamp);
        }
        Ok(())
    }

    /// A read returns. Its extents must cover its range exactly.
    pub(crate) fn read(&mut self, number: usize, extents: &[Extent]) -> Result<(), String> {
        let mut values = Vec::new();
        let mut sectors = self.records[number].range.addresses();
        for extent in extents {
            for address in extent.range.addresses() {
                if sectors.next() != Some(address) {
                    return Err(format!("read {number} returns {extents:?}"));
                }
                values.push(self.read_sector(extent, address)?);
            }
        }
        if sectors.next().is_some() {
            return Err(format!("read {number} returns only {extents:?}"));
        }
        let at = self.tick();
        self.end(number, Ending::Done { at, values })
    }

    /// A write or discard is acknowledged.
    pub(crate) fn written(&mut self, number: usize) -> Result<(), String> {
        let at = self.tick();
        let values = Vec::new();
        self.end(number, Ending::Done { at, values })
    }

    /// An operation was refused before it did anything.
    pub(crate) fn refused(&mut self, number: usize) -> Result<(), String> {
        self.end(number, Ending::Refused)
    }

    /// An operation's outcome will never be known.
    pub(crate) fn cut_off(&mut self, number: usize) -> Result<(), String> {
        self.end(number, Ending::CutOff)
    }

    /// Whether every operation on every sector was answered as by one atomic register.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut sectors: BTreeMap<SectorAddress, Vec<Event>> = BTreeMap::new();
        for (number, record) in self.records.iter().enumerate() {
            for (place, address) in record.range.addresses().enumerate() {
                let event = event(number, record, place, address);
                sectors.entry(address).or_default().extend(event);
            }
        }
        for (address, events) in sectors {
            checker::check(&events).map_err(|why| format!("sector {address}: {why}"))?;
        }
        Ok(())
    }

    fn read_sector(&self, extent: &Extent, address: SectorAddress) -> Result<u64, String> {
        match &extent.content {
            Content::Zeroes if extent.stamp.is_zero() => Ok(INITIAL),
            Content::Zeroes => {
                let number = self.discards.get(&(address, extent.stamp));
                let number = number.ok_or_else(|| format!("no discard made {extent:?}"))?;
                Ok(value(*number, address))
            }
            Content::Data(bytes) => {
                let start = usize::try_from(extent.range.offset_of(address)).unwrap() * SECTOR_SIZE;
                let sector = &bytes[start..start + SECTOR_SIZE];
                let (first, last) = (&sector[..8], &sector[SECTOR_SIZE - 8..]);
                if first != last {
                    return Err(format!("the value read at {address} is torn"));
                }
                Ok(u64::from_be_bytes(first.try_into().unwrap()))
            }
        }
    }

    fn end(&mut self, number: usize, ending: Ending) -> Result<(), String> {
        let record = &mut self.records[number];
        if !matches!(record.ending, Ending::Open) {
            return Err(format!("operation {number} ends twice: {ending:?}"));
        }
        record.ending = ending;
        Ok(())
    }

    fn tick(&mut self) -> u64 {
        self.time += 1;
        self.time
    }
}

/// The value that an operation gives a sector: no other has it.
fn value(number: usize, address: SectorAddress) -> u64 {
    (u64::try_from(number).unwrap() + 1) * 1000 + address.index() % 1000
}

/// What the operation means for one of its sectors, if anything.
fn event(number: usize, record: &Record, place: usize, address: SectorAddress) -> Option<Event> {
    let (end, read) = match &record.ending {
        Ending::Refused => return None,
        Ending::Open | Ending::CutOff => (None, None),
        Ending::Done { at, values } => (Some(*at), values.get(place).copied()),
    };
    let stored_zeroes = record.tombstones.contains_key(&address);
    let action = match record.kind {
        Kind::Read => Action::Read(read?),
        Kind::Write => Action::Write(value(number, address)),
        Kind::Discard if stored_zeroes => Action::Write(value(number, address)),
        // It found that nothing had ever been written, and promises no more than that.
        Kind::Discard => Action::Read(INITIAL),
    };
    let start = record.start;
    Some(Event { start, end, action })
}
