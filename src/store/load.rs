//! Reading: votes and values of a range, from stable state only.
//!
//! The index is looked at under its lock, the data are read without any. A slot may be freed and
//! written again meanwhile; then its checksum does not match, and the index tells of a newer value:
//! the load starts over. If the index says the same as before, the copy is damaged.

use std::ops::Range;

use bytes::Bytes;

use super::block::BLOCK_SIZE;
use super::cache::Found;
use super::engine::Engine;
use super::entry::{Entry, bounds};
use super::error::StoreError;
use super::floor::beyond_volumes;
use super::index::Known;
use super::medium::is_media_error;
use super::memory::VOTE_RUNS_MAX;
use super::page::PageRef;
use super::spans::Span;
use super::tree::{Missing, Pinned};
use crate::domain::{Content, Extent, Held, Runs, SectorAddress, SectorRange, Stamp, Vote};

/// Whether a load may wait for the medium.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    AtOnce,
    Waits,
}

/// A load, and the pages that it found missing so far.
pub(crate) struct Load<'a> {
    engine: &'a Engine,
    range: SectorRange,
    newer_than: Option<&'a Runs<Vote>>,
    patience: Patience,
    pinned: Vec<(PageRef, Found)>,
}

/// A sector's data that are wanted.
struct Wanted {
    address: u64,
    entry: Entry,
    /// The one that the data were stored under.
    stamp: Stamp,
    slot: u64,
    checksum: u64,
}

/// Values in order of address, before the data are there.
struct Piece {
    first: u64,
    count: u32,
    stamp: Stamp,
    /// Where the data will be, by number of sector; `None` for a tombstone.
    data: Option<Range<usize>>,
}

impl Engine {
    /// What is held of the range, with the values newer than `newer_than` if that is given. `None`
    /// when it would have to wait and must not.
    pub(crate) fn load(
        &self,
        range: SectorRange,
        newer_than: Option<&Runs<Vote>>,
        patience: Patience,
    ) -> Result<Option<Held>, StoreError> {
        if beyond_volumes(range) {
            // A peer's fault; the floors that are kept there are no sectors.
            let votes = Runs::uniform(range.count(), Vote::Lost);
            let values = Vec::new();
            return Ok(Some(Held { votes, values }));
        }
        let mut load = Load {
            engine: self,
            range,
            newer_than,
            patience,
            pinned: Vec::new(),
        };
        loop {
            match load.attempt()? {
                Attempt::Held(held) => return Ok(Some(held)),
                Attempt::Waits => return Ok(None),
                Attempt::Again => {}
            }
        }
    }
}

enum Attempt {
    Held(Held),
    /// It has to wait, and must not.
    Waits,
    /// Something changed meanwhile.
    Again,
}

impl Load<'_> {
    fn attempt(&mut self) -> Result<Attempt, StoreError> {
        let spans = match self.lookup() {
            Ok(spans) => spans,
            Err(missing) => return self.fetch(missing),
        };
        let votes = votes(&spans);
        let Some(newer_than) = self.newer_than else {
            let values = Vec::new();
            return Ok(Attempt::Held(Held { votes, values }));
        };
        let (pieces, wanted) = select(&spans, self.range, votes.count(), newer_than);
        let mut buffer = vec![0; wanted.len() * BLOCK_SIZE];
        if !self.read(&wanted, &mut buffer)? {
            return Ok(Attempt::Waits);
        }
        for (wanted, bytes) in wanted.iter().zip(buffer.chunks_exact(BLOCK_SIZE)) {
            let address = SectorAddress::from_bits(wanted.address);
            let checksum = self.engine.checksums.data(address, wanted.stamp, bytes);
            if checksum != wanted.checksum {
                return self.settle(wanted);
            }
        }
        let buffer = Bytes::from(buffer);
        let values = pieces.iter().map(|piece| piece.extent(&buffer)).collect();
        Ok(Attempt::Held(Held { votes, values }))
    }

    fn lookup(&self) -> Result<Vec<Span<Known>>, Missing> {
        let pages = Pinned {
            cache: &self.engine.cache,
            pages: &self.pinned,
        };
        let index = self.engine.index();
        index.lookup(&pages, bounds(self.range), VOTE_RUNS_MAX)
    }

    fn fetch(&mut self, missing: Missing) -> Result<Attempt, StoreError> {
        if self.patience == Patience::AtOnce {
            return Ok(Attempt::Waits);
        }
        let found = self.engine.fetch(missing)?;
        self.pinned.push((missing.page, found));
        Ok(Attempt::Again)
    }

    /// Reads the wanted slots into the buffer, those that follow one another at once. False when
    /// that would wait and must not. What the device lost is left as zeroes.
    fn read(&self, wanted: &[Wanted], buffer: &mut [u8]) -> Result<bool, StoreError> {
        let medium = &*self.engine.medium;
        let mut rest = buffer;
        for run in wanted.chunk_by(|a, b| a.slot + 1 == b.slot) {
            let (into, behind) = rest.split_at_mut(run.len() * BLOCK_SIZE);
            rest = behind;
            if self.patience == Patience::AtOnce {
                match medium.read_at_once(run[0].slot, into) {
                    Ok(true) => {}
                    Ok(false) | Err(_) => return Ok(false),
                }
                continue;
            }
            match medium.read(run[0].slot, into) {
                Err(error) if is_media_error(&error) => {
                    read_one_by_one(self.engine, run, into)?;
                }
                outcome => outcome.map_err(StoreError::io("reading sectors"))?,
            }
        }
        Ok(true)
    }

    /// A sector's bytes do not match: either its slot has been written again meanwhile, or the
    /// copy is damaged.
    fn settle(&mut self, wanted: &Wanted) -> Result<Attempt, StoreError> {
        let pages = Pinned {
            cache: &self.engine.cache,
            pages: &self.pinned,
        };
        let marked = self
            .engine
            .index_mut()
            .mark_damaged(&pages, wanted.address, wanted.entry);
        match marked {
            Err(missing) => self.fetch(missing),
            Ok(damaged) => {
                if damaged {
                    tracing::error!(
                        sector = %SectorAddress::from_bits(wanted.address),
                        slot = wanted.slot,
                        "the copy of a sector is damaged, and has no vote until it is replaced"
                    );
                }
                Ok(Attempt::Again)
            }
        }
    }
}

impl Piece {
    fn extent(&self, buffer: &Bytes) -> Extent {
        let range = SectorRange::new(SectorAddress::from_bits(self.first), self.count)
            .expect("a part of the range");
        let content = self.data.as_ref().map_or(Content::Zeroes, |place| {
            Content::Data(buffer.slice(place.start * BLOCK_SIZE..place.end * BLOCK_SIZE))
        });
        Extent::new(range, self.stamp, content)
    }

    /// Whether the sectors that begin at `first` go on with this piece.
    fn continues(&self, first: u64, stamp: Stamp, is_data: bool) -> bool {
        self.stamp == stamp
            && self.data.is_some() == is_data
            && self.first + u64::from(self.count) == first
    }
}

fn read_one_by_one(engine: &Engine, run: &[Wanted], into: &mut [u8]) -> Result<(), StoreError> {
    for (wanted, into) in run.iter().zip(into.chunks_exact_mut(BLOCK_SIZE)) {
        match engine.medium.read(wanted.slot, into) {
            Err(error) if is_media_error(&error) => into.fill(0),
            outcome => outcome.map_err(StoreError::io("reading sectors"))?,
        }
    }
    Ok(())
}

/// The votes, for as many of the sectors as the spans and the bound on runs allow.
fn votes(spans: &[Span<Known>]) -> Runs<Vote> {
    let mut votes = Runs::new();
    for span in spans {
        let vote = span.value.vote();
        if votes.run_count() == VOTE_RUNS_MAX && votes.at(votes.count() - 1) != Some(vote) {
            break;
        }
        votes.push(count32(span), vote);
    }
    votes
}

/// The values of the first `count` sectors of the range that are newer than what is known.
fn select(
    spans: &[Span<Known>],
    range: SectorRange,
    count: u32,
    newer_than: &Runs<Vote>,
) -> (Vec<Piece>, Vec<Wanted>) {
    let base = range.first().to_bits();
    let mut pieces: Vec<Piece> = Vec::new();
    let mut wanted = Vec::new();
    let mut known = newer_than.spans().peekable();
    for span in spans {
        let own = span.value.vote();
        if matches!(own, Vote::Lost | Vote::ZERO) {
            continue;
        }
        let mut offset = u32::try_from(span.first - base).expect("within the range");
        let end = (offset + count32(span)).min(count);
        while offset < end {
            while known
                .next_if(|(start, length, _)| start + length <= offset)
                .is_some()
            {}
            let (vote, until) = known
                .peek()
                .map_or((Vote::Lost, end), |(start, length, vote)| {
                    (*vote, start + length)
                });
            let until = until.min(end);
            if own > vote {
                let first = base + u64::from(offset);
                push(&mut pieces, &mut wanted, first, until - offset, &span.value);
            }
            offset = until;
        }
    }
    (pieces, wanted)
}

fn push(pieces: &mut Vec<Piece>, wanted: &mut Vec<Wanted>, first: u64, count: u32, known: &Known) {
    let stamp = known.bound();
    let place = wanted.len();
    let is_data = if let Some(entry) = known.entry
        && let Entry::Data {
            stamp,
            slot,
            checksum,
        } = entry
    {
        wanted.push(Wanted {
            address: first,
            entry,
            stamp,
            slot,
            checksum,
        });
        true
    } else {
        false
    };
    match pieces.last_mut() {
        Some(before) if before.continues(first, stamp, is_data) => {
            before.count += count;
            if let Some(data) = &mut before.data {
                data.end += 1;
            }
        }
        _ => pieces.push(Piece {
            first,
            count,
            stamp,
            data: is_data.then_some(place..place + 1),
        }),
    }
}

fn count32(span: &Span<Known>) -> u32 {
    u32::try_from(span.count()).expect("no longer than the range")
}
