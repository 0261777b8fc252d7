//! From a plan and free slots to the bytes of a batch.

use bytes::Bytes;

use super::batch::{Record, RecordContent};
use super::block::{Run, push_run};
use super::checksum::Checksums;
use super::entry::{Entry, bounds};
use super::floor::floor_stamp;
use super::plan::{Before, Plan, Value};
use super::spans::Span;
use crate::domain::{Generation, SECTOR_SIZE, SectorAddress, SectorRange};

/// A batch but for its place in the journal.
#[derive(Default)]
pub(crate) struct Assembly {
    /// What the journal says.
    pub(crate) records: Vec<Record>,
    /// What the index will say once it is stable.
    pub(crate) entries: Vec<Span<Entry>>,
    /// The data, by the slot where it begins; the pieces lie one behind the other.
    pub(crate) writes: Vec<(u64, Vec<Bytes>)>,
    /// Slots that nothing refers to once it is stable.
    pub(crate) freed: Vec<Run>,
    /// How many of the records raise the floor.
    pub(crate) settle_records: u64,
}

impl Assembly {
    /// Gives each sector of data its slot, in order of address; there are exactly as many.
    pub(crate) fn new(checksums: Checksums, plan: &Plan, slots: &[Run]) -> Self {
        let mut assembly = Self::default();
        let mut slots = slots.iter().copied();
        let mut free = slots.next();
        for span in plan.values() {
            if span.value.data.is_none() {
                assembly.add_tombstone(plan, &span);
                continue;
            }
            let mut first = span.first;
            loop {
                let run = free.expect("as many slots were taken as the plan needs");
                let (taken, rest) = run.split_at(span.last - first + 1);
                free = rest.or_else(|| slots.next());
                let last = first + (taken.count - 1);
                let part = Span {
                    first,
                    last,
                    value: span.value,
                };
                assembly.add_data(checksums, plan, &part, taken.first);
                if last == span.last {
                    break;
                }
                first = last + 1;
            }
        }
        for (range, generation) in plan.raised().ranges() {
            assembly.add_floor(range, generation);
        }
        assembly
    }

    /// How many bytes the records take.
    pub(crate) fn record_bytes(&self) -> usize {
        self.records.iter().map(Record::length).sum()
    }

    fn add_floor(&mut self, range: SectorRange, generation: Generation) {
        let stamp = floor_stamp(generation);
        let (first, last) = bounds(range);
        self.entries.push(Span {
            first,
            last,
            value: Entry::Tombstone { stamp },
        });
        self.records.push(Record {
            range,
            stamp,
            content: RecordContent::Tombstone,
            freed: Vec::new(),
        });
        self.settle_records += 1;
    }

    fn add_tombstone(&mut self, plan: &Plan, span: &Span<&Value>) {
        let stamp = span.value.stamp;
        self.entries.push(Span {
            first: span.first,
            last: span.last,
            value: Entry::Tombstone { stamp },
        });
        let freed = self.free_before(plan, span);
        self.records.push(Record {
            range: range(span),
            stamp,
            content: RecordContent::Tombstone,
            freed,
        });
    }

    fn add_data(&mut self, checksums: Checksums, plan: &Plan, span: &Span<&Value>, slot: u64) {
        let stamp = span.value.stamp;
        let bytes = span.value.bytes(span.first, span.last).expect("it is data");
        let addresses = || span.first..=span.last;
        let sums: Vec<u64> = addresses()
            .zip(bytes.chunks_exact(SECTOR_SIZE))
            .map(|(address, bytes)| checksums.data(SectorAddress::from_bits(address), stamp, bytes))
            .collect();
        for ((address, slot), &checksum) in addresses().zip(slot..).zip(&sums) {
            self.entries.push(Span {
                first: address,
                last: address,
                value: Entry::Data {
                    stamp,
                    slot,
                    checksum,
                },
            });
        }
        match self.writes.last_mut() {
            Some((first, pieces)) if *first + sectors(pieces) == slot => pieces.push(bytes),
            _ => self.writes.push((slot, vec![bytes])),
        }
        let freed = self.free_before(plan, span);
        self.records.push(Record {
            range: range(span),
            stamp,
            content: RecordContent::Data {
                slot,
                checksums: sums,
            },
            freed,
        });
    }

    /// The slots that the span's sectors had.
    fn free_before(&mut self, plan: &Plan, span: &Span<&Value>) -> Vec<Run> {
        let mut freed = Vec::new();
        for before in plan.before(span.first, span.last) {
            if let Before::Data { slot } = *before.value {
                push_run(&mut freed, Run::single(slot));
            }
        }
        self.freed.extend_from_slice(&freed);
        freed
    }
}

fn range(span: &Span<&Value>) -> SectorRange {
    let count = u32::try_from(span.count()).expect("no longer than its extent");
    SectorRange::new(SectorAddress::from_bits(span.first), count)
        .expect("a part of an extent lies in one volume")
}

fn sectors(pieces: &[Bytes]) -> u64 {
    let bytes: usize = pieces.iter().map(Bytes::len).sum();
    u64::try_from(bytes / SECTOR_SIZE).expect("memory is smaller")
}
