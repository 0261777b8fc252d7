//! What clients saw, sector by sector.

use std::collections::{BTreeMap, BTreeSet};

use atdd::domain::{
    Content, Extent, Fence, Generation, Incarnation, Rank, SECTOR_SIZE, SectorAddress, SectorRange,
    Stamp,
};
use atdd::register::Ticket;
use bytes::{Bytes, BytesMut};

use crate::checker::{self, Action, Event, INITIAL};
use crate::fencing::{self, Sight};

/// What a client asked for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
    Discard,
}

/// A client's operation, and how it ended. Repeated, it is still the same one.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    pub(crate) range: SectorRange,
    start: u64,
    attempts: Vec<Attempt>,
    ending: Ending,
    /// Tombstones of a discard: where its attempts have stored zeroes.
    tombstones: BTreeSet<(SectorAddress, usize)>,
}

/// An operation is given to a register.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) fence: Fence,
    start: u64,
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
        /// The attempt that was answered; a paused process may make others after it.
        attempt: usize,
        /// What a read returned.
        values: Vec<u64>,
    },
}

/// All operations, and all attempts at them.
#[derive(Default)]
pub(crate) struct History {
    records: Vec<Record>,
    /// By ticket: the operation, and which of its attempts.
    tickets: Vec<(usize, usize)>,
    time: u64,
    /// The discard that stored zeroes under this stamp.
    discards: BTreeMap<Tombstone, usize>,
}

/// What is of a stamp for ever: settling changes the rest.
type Tombstone = (SectorAddress, Generation, u64, Option<Rank>, Incarnation);

impl History {
    /// An operation begins; returns its number.
    pub(crate) fn begin(&mut self, kind: Kind, range: SectorRange) -> usize {
        let start = self.tick();
        self.records.push(Record {
            kind,
            range,
            start,
            attempts: Vec::new(),
            ending: Ending::Open,
            tombstones: BTreeSet::new(),
        });
        self.records.len() - 1
    }

    /// A register is asked to do it, for the first time or again; returns the ticket.
    pub(crate) fn attempt(&mut self, number: usize, fence: Fence) -> Ticket {
        let start = self.tick();
        let attempts = &mut self.records[number].attempts;
        attempts.push(Attempt { fence, start });
        self.tickets.push((number, attempts.len() - 1));
        Ticket(u64::try_from(self.tickets.len() - 1).unwrap())
    }

    pub(crate) fn record(&self, number: usize) -> &Record {
        &self.records[number]
    }

    /// The operation that this ticket was for.
    pub(crate) fn number(&self, ticket: Ticket) -> usize {
        self.ticket(ticket).0
    }

    /// What the ticket was for, and when it was given out.
    pub(crate) fn attempted(&self, ticket: Ticket) -> (Attempt, u64) {
        let (number, attempt) = self.ticket(ticket);
        let attempt = self.records[number].attempts[attempt];
        (attempt, attempt.start)
    }

    /// What the read of this number has returned, if it has.
    pub(crate) fn values(&self, number: usize) -> Option<&[u64]> {
        match &self.records[number].ending {
            Ending::Done { values, .. } => Some(values),
            Ending::Open | Ending::CutOff | Ending::Refused => None,
        }
    }

    /// Whether somebody waits for this operation.
    pub(crate) fn is_open(&self, number: usize) -> bool {
        matches!(self.records[number].ending, Ending::Open)
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

    /// Zeroes are stored under a stamp of the process that `under_way` lists the tickets of, in
    /// the order in which it was given them. Operations on a sector run one at a time in their
    /// order, so it must be a discard that is the first one on that sector.
    pub(crate) fn tombstone(
        &mut self,
        under_way: &(impl Iterator<Item = Ticket> + Clone),
        extent: &Extent,
    ) -> Result<(), String> {
        for address in extent.range.addresses() {
            let key = tombstone(address, extent.stamp);
            if self.discards.contains_key(&key) {
                continue;
            }
            let mut tickets = under_way.clone().map(|ticket| {
                let (number, attempt) = self.ticket(ticket);
                (&self.records[number], number, attempt)
            });
            let first = tickets.find(|(record, ..)| record.range.contains(address));
            let discard = first.filter(|&(record, _, attempt)| {
                record.kind == Kind::Discard && !record.tombstones.contains(&(address, attempt))
            });
            let Some((_, number, attempt)) = discard else {
                let first = first.map(|(_, number, _)| number);
                return Err(format!(
                    "zeroes are stored at {address} under {:?} by no discard, but by {first:?}",
                    extent.stamp
                ));
            };
            self.discards.insert(key, number);
            let tombstones = &mut self.records[number].tombstones;
            tombstones.insert((address, attempt));
        }
        Ok(())
    }

    /// A read returns. Its extents must cover its range exactly.
    pub(crate) fn read(&mut self, ticket: Ticket, extents: &[Extent]) -> Result<(), String> {
        let (number, attempt) = self.ticket(ticket);
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
        self.done(number, attempt, values)
    }

    /// A write or discard is acknowledged.
    pub(crate) fn written(&mut self, ticket: Ticket) -> Result<(), String> {
        let (number, attempt) = self.ticket(ticket);
        self.done(number, attempt, Vec::new())
    }

    /// An operation was refused, and did nothing unless it did at an earlier attempt.
    pub(crate) fn refused(&mut self, number: usize) -> Result<(), String> {
        if self.records[number].attempts.len() > 1 {
            return self.cut_off(number);
        }
        self.end(number, Ending::Refused)
    }

    /// An operation's outcome will never be known.
    pub(crate) fn cut_off(&mut self, number: usize) -> Result<(), String> {
        self.end(number, Ending::CutOff)
    }

    /// Another moment.
    pub(crate) fn tick(&mut self) -> u64 {
        self.time += 1;
        self.time
    }

    /// Whether every operation on every sector was answered as by one atomic register, and what
    /// an exclusive generation saw or wrote was changed by nothing older.
    pub(crate) fn check(&self) -> Result<(), String> {
        let mut sectors: BTreeMap<SectorAddress, (Vec<Event>, Vec<Sight>)> = BTreeMap::new();
        for (number, record) in self.records.iter().enumerate() {
            for (place, address) in record.range.addresses().enumerate() {
                let (events, sights) = sectors.entry(address).or_default();
                record.events(number, place, address, events);
                record.sights(number, place, address, sights);
            }
        }
        for (address, (events, sights)) in sectors {
            checker::check(&events).map_err(|why| format!("sector {address}: {why}"))?;
            let newest = |value| self.newest_attempt(value);
            fencing::check(&sights, newest)
                .map_err(|why| format!("sector {address}, fencing: {why}"))?;
        }
        Ok(())
    }

    /// The newest generation under which some register was asked to write this value.
    fn newest_attempt(&self, value: u64) -> Option<Generation> {
        let number = usize::try_from(value / VALUES).unwrap().checked_sub(1)?;
        let attempts = self.records.get(number)?.attempts.iter();
        attempts.map(|attempt| attempt.fence.generation).max()
    }

    fn read_sector(&self, extent: &Extent, address: SectorAddress) -> Result<u64, String> {
        match &extent.content {
            Content::Zeroes if !extent.stamp.is_written() => Ok(INITIAL),
            Content::Zeroes => {
                let number = self.discards.get(&tombstone(address, extent.stamp));
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
            Content::Unchanged => Err(format!("a read returns {extent:?}")),
        }
    }

    fn ticket(&self, Ticket(ticket): Ticket) -> (usize, usize) {
        self.tickets[usize::try_from(ticket).unwrap()]
    }

    fn done(&mut self, number: usize, attempt: usize, values: Vec<u64>) -> Result<(), String> {
        let at = self.tick();
        let ending = Ending::Done {
            at,
            attempt,
            values,
        };
        self.end(number, ending)
    }

    fn end(&mut self, number: usize, ending: Ending) -> Result<(), String> {
        let record = &mut self.records[number];
        if !matches!(record.ending, Ending::Open) {
            return Err(format!("operation {number} ends twice: {ending:?}"));
        }
        record.ending = ending;
        Ok(())
    }
}

impl Record {
    /// What the operation means for one of its sectors, if anything.
    fn events(&self, number: usize, place: usize, address: SectorAddress, out: &mut Vec<Event>) {
        let (end, read) = match &self.ending {
            Ending::Refused => return,
            Ending::Open | Ending::CutOff => (None, None),
            Ending::Done { at, values, .. } => (Some(*at), values.get(place).copied()),
        };
        let start = self.start;
        let mut push = |end, action| out.push(Event { start, end, action });
        let write = Action::Write(value(number, address));
        match self.kind {
            Kind::Read => {
                if let Some(read) = read {
                    push(end, Action::Read(read));
                }
            }
            Kind::Write => push(end, write),
            Kind::Discard => match self.zeroes(address) {
                Zeroes::Stored => push(end, write),
                // It found that nothing had ever been written, and promises no more than that.
                Zeroes::Found => push(end, Action::Read(INITIAL)),
                // What another attempt has stored may come back.
                Zeroes::StoredElsewhere => {
                    push(end, Action::Read(INITIAL));
                    push(None, write);
                }
            },
        }
    }

    /// What a discard did to a sector.
    fn zeroes(&self, address: SectorAddress) -> Zeroes {
        let mut stored = self.tombstones.range((address, 0)..=(address, usize::MAX));
        let answered = match self.ending {
            Ending::Done { attempt, .. } => attempt,
            Ending::Open | Ending::CutOff | Ending::Refused => 0,
        };
        if self.tombstones.contains(&(address, answered)) {
            Zeroes::Stored
        } else if stored.next().is_some() {
            Zeroes::StoredElsewhere
        } else {
            Zeroes::Found
        }
    }

    /// What its client has seen there, or made sure of, and what else may matter to the fences.
    fn sights(&self, number: usize, place: usize, address: SectorAddress, out: &mut Vec<Sight>) {
        for (at, attempt) in self.attempts.iter().enumerate() {
            let (end, value) = match &self.ending {
                Ending::Done {
                    at: end,
                    attempt,
                    values,
                } if *attempt == at => match (self.kind, self.zeroes(address)) {
                    (Kind::Read, _) => (Some(*end), values[place]),
                    (Kind::Write, _) | (Kind::Discard, Zeroes::Stored) => {
                        (Some(*end), value(number, address))
                    }
                    (Kind::Discard, Zeroes::Found) => (Some(*end), INITIAL),
                    // Zeroes either way, but whose is not known.
                    (Kind::Discard, Zeroes::StoredElsewhere) => (None, INITIAL),
                },
                _ => (None, INITIAL),
            };
            out.push(Sight {
                start: attempt.start,
                end,
                fence: attempt.fence,
                value,
                seen: self.kind == Kind::Read,
            });
        }
    }
}

/// What became of a sector by a discard.
enum Zeroes {
    /// The attempt that was answered stored some.
    Stored,
    /// Another one did.
    StoredElsewhere,
    /// There was nothing else.
    Found,
}

/// Sectors of an operation have different values; so many numbers are one operation's.
const VALUES: u64 = 1000;

/// The value that an operation gives a sector: no other has it.
fn value(number: usize, address: SectorAddress) -> u64 {
    (u64::try_from(number).unwrap() + 1) * VALUES + address.index() % VALUES
}

fn tombstone(address: SectorAddress, stamp: Stamp) -> Tombstone {
    (
        address,
        stamp.generation,
        stamp.timestamp,
        stamp.rank,
        stamp.incarnation,
    )
}
