//! Verifying a whole store without changing it: every page, every sector, every block.

use super::block::{Block, Run};
use super::block_set::BlockSet;
use super::cache::Found;
use super::checksum::Checksums;
use super::engine::read_page;
use super::entry::{Entry, laid_over};
use super::error::StoreError;
use super::floor::is_floor;
use super::identity::Identity;
use super::layout::FIXED_BLOCKS;
use super::medium::{Medium, read_tolerant};
use super::page::PageRef;
use super::recovery::Image;
use super::spans::Span;
use crate::domain::SectorAddress;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Sectors that hold data.
    pub data_sectors: u64,
    /// Sectors that were trimmed.
    pub tombstone_sectors: u64,
    /// Pages of the map.
    pub map_pages: u64,
    /// Batches of the journal that a start would replay.
    pub batches: u64,
    /// The last batch was torn and never acknowledged; a start drops it.
    pub last_batch_torn: bool,
    /// Blocks that the file takes.
    pub blocks: u64,
    /// Blocks in use by nothing that are not free either: space lost to damage.
    pub blocks_leaked: u64,
    /// Sectors whose data do not match their checksum; the first thousand of them.
    pub damaged_sectors: Vec<SectorAddress>,
    /// How many those are in all.
    pub damaged_sector_count: u64,
    /// Pages of the map that are damaged: the sectors of their ranges have no vote.
    pub damaged_pages: u64,
    /// Copies of identity and free map that are damaged, while the other copy is whole.
    pub damaged_copies: u64,
    /// Blocks that are used by two, or used and free, and data where only floors are kept: a fault
    /// of this program.
    pub contradictions: u64,
    /// Spans of sectors that were settled together, without their values.
    pub floors: u64,
}

/// What a check comes to.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is whole.
    Healthy,
    /// Nothing is lost, but one of two copies of something is damaged; the next start or checkpoint
    /// writes it anew.
    Worn,
    /// Some sectors have no vote until they are repaired from the other processes.
    Damaged,
    /// The store contradicts itself: do not use it, and report the fault.
    Inconsistent,
}

impl Report {
    /// What it comes to.
    pub const fn verdict(&self) -> Verdict {
        if self.contradictions > 0 {
            Verdict::Inconsistent
        } else if self.damaged_sector_count > 0 || self.damaged_pages > 0 {
            Verdict::Damaged
        } else if self.damaged_copies > 0 {
            Verdict::Worn
        } else {
            Verdict::Healthy
        }
    }
}

/// How far a check has come: blocks verified, of how many.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Blocks verified so far.
    pub done: u64,
    /// Blocks to verify.
    pub total: u64,
}

/// The most damaged sectors that a report lists.
const LISTED_MAX: usize = 1000;
/// Sectors that are gathered and then read in the order of their slots.
const GATHERED_MAX: usize = 1 << 15;
/// Sectors that are read at once.
const READ_MAX: usize = 256;

struct Audit<'a> {
    medium: &'a dyn Medium,
    checksums: Checksums,
    image: &'a Image,
    used: BlockSet,
    report: Report,
    gathered: Vec<(SectorAddress, Entry)>,
    /// The floor that was met last.
    floor: Option<Span<Entry>>,
    progress: &'a mut dyn FnMut(Progress),
    done: u64,
}

/// Verifies what a recovery would find.
pub(crate) fn audit(
    medium: &dyn Medium,
    identity: &Identity,
    progress: &mut dyn FnMut(Progress),
) -> Result<Report, StoreError> {
    let image = Image::read(medium, identity)?;
    let report = Report {
        data_sectors: image.totals.data,
        tombstone_sectors: image.totals.tombstones,
        batches: u64::try_from(image.batches).expect("memory is smaller"),
        last_batch_torn: image.dropped,
        blocks: image.blocks.end - image.blocks.released.len(),
        damaged_copies: u64::try_from(2 - image.free_map_copies).expect("two at most")
            + Identity::damaged_copies(medium)?,
        ..Report::default()
    };
    let mut audit = Audit {
        medium,
        checksums: Checksums::of_store(identity.store),
        image: &image,
        used: BlockSet::default(),
        report,
        gathered: Vec::new(),
        floor: None,
        progress,
        done: 0,
    };
    audit.claim(Run::new(0, FIXED_BLOCKS));
    image.journal.iter().for_each(|run| audit.claim(*run));
    image.free_map.iter().for_each(|run| audit.claim(*run));
    match &image.root.map {
        Some(root) => audit.page(root, 0, u64::MAX)?,
        None => audit.items(&[], 0, u64::MAX)?,
    }
    audit.verify_gathered()?;
    audit.compare_blocks();
    Ok(audit.report)
}

impl Audit<'_> {
    /// Verifies a page of the range `low..=high`, what it holds, and what the overlay has there.
    fn page(&mut self, reference: &PageRef, low: u64, high: u64) -> Result<(), StoreError> {
        self.claim(Run::single(reference.block));
        self.report.map_pages += 1;
        self.advance(1);
        let page = match read_page(self.medium, self.checksums, reference)? {
            Found::Whole(page) => page,
            Found::Damaged => {
                self.report.damaged_pages += 1;
                return self.items(&[], low, high);
            }
        };
        if page.is_leaf() {
            let items: Vec<_> = page.items().collect();
            return self.items(&items, low, high);
        }
        let children: Vec<_> = page.children().collect();
        for (place, child) in children.iter().enumerate() {
            let child_low = if place == 0 { low } else { child.first };
            let next = children.get(place + 1).map(|next| next.first - 1);
            self.page(&child.page, child_low, next.unwrap_or(high))?;
        }
        Ok(())
    }

    /// Verifies what map and overlay together say of a range.
    fn items(&mut self, items: &[Span<Entry>], low: u64, high: u64) -> Result<(), StoreError> {
        let overlay = self.image.overlay.within(low, high).map(|span| Span {
            first: span.first,
            last: span.last,
            value: *span.value,
        });
        for span in laid_over(items, overlay) {
            match span.value {
                Entry::Tombstone { .. } if is_floor(span.first) => self.count_floor(span),
                Entry::Data { .. } if is_floor(span.first) => self.report.contradictions += 1,
                Entry::Data { slot, .. } => {
                    self.claim(Run::single(slot));
                    self.gathered
                        .push((SectorAddress::from_bits(span.first), span.value));
                }
                Entry::Tombstone { .. } => {}
                Entry::Lost { .. } => self.report.damaged_sector_count += 1,
            }
        }
        if self.gathered.len() >= GATHERED_MAX {
            self.verify_gathered()?;
        }
        Ok(())
    }

    /// Counts a floor, unless it goes on with the one before, from another page.
    fn count_floor(&mut self, span: Span<Entry>) {
        let goes_on = self.floor.is_some_and(|before| {
            before.value == span.value && before.last.checked_add(1) == Some(span.first)
        });
        self.report.floors += u64::from(!goes_on);
        self.floor = Some(span);
    }

    /// Reads the gathered sectors in the order of their slots, those together that lie together.
    fn verify_gathered(&mut self) -> Result<(), StoreError> {
        let mut gathered = std::mem::take(&mut self.gathered);
        gathered.sort_by_key(|(_, entry)| entry.slot());
        let slot = |entry: &Entry| entry.slot().expect("only data were gathered");
        let runs = gathered.chunk_by(|(_, a), (_, b)| slot(a) + 1 == slot(b));
        for run in runs.flat_map(|run| run.chunks(READ_MAX)) {
            let mut blocks = vec![Block::ZERO; run.len()];
            read_tolerant(self.medium, slot(&run[0].1), &mut blocks)?;
            for ((address, entry), block) in run.iter().zip(&blocks) {
                let Entry::Data {
                    stamp, checksum, ..
                } = *entry
                else {
                    continue;
                };
                if self.checksums.data(*address, stamp, &block.0) != checksum {
                    self.report.damaged_sector_count += 1;
                    if self.report.damaged_sectors.len() < LISTED_MAX {
                        self.report.damaged_sectors.push(*address);
                    }
                }
            }
            self.advance(u64::try_from(run.len()).expect("memory is smaller"));
        }
        Ok(())
    }

    fn claim(&mut self, run: Run) {
        for block in (run.first..run.end()).map(Run::single) {
            if self.used.touches(block) {
                self.report.contradictions += 1;
            } else {
                self.used.insert(block);
            }
        }
    }

    /// Every block is in use by one thing, or free, or released.
    fn compare_blocks(&mut self) {
        let blocks = &self.image.blocks;
        for run in self.used.runs() {
            let wrong = (run.first..run.end()).filter(|block| {
                *block >= blocks.end
                    || blocks.free.contains(*block)
                    || blocks.released.contains(*block)
            });
            self.report.contradictions += u64::try_from(wrong.count()).expect("a small number");
        }
        let accounted = self.used.len() + blocks.free.len() + blocks.released.len();
        self.report.blocks_leaked = blocks.end.saturating_sub(accounted);
    }

    fn advance(&mut self, blocks: u64) {
        let image = self.image;
        self.done += blocks;
        let size = image.root.map_size;
        (self.progress)(Progress {
            done: self.done,
            total: (image.totals.data + size.leaves + size.inner).max(self.done),
        });
    }
}
