//! Bytes over a device of sectors: any offset, any length.
//!
//! Guarantees: no byte outside a request is changed, and none inside it is lost, whatever else is
//! written to the same sectors at the same time by this server (see
//! [`sector_locks`](crate::sector_locks)). The device is never asked for more than 8192 sectors in a read or
//! write, nor for more than [`DISCARD_SECTORS_MAX`] in a discard.
//!
//! A request is no more atomic than the sectors it touches, as with any disk.

use std::sync::{Arc, LazyLock};

use bytes::{Bytes, BytesMut};

use crate::command::{ByteRange, Zeroing};
use crate::device::{DeviceError, Piece, SECTOR_SIZE, SectorDevice};
use crate::sector_locks::{Mode, SectorLocks};

const SECTOR_BYTES: u64 = 4096;
const _: () = assert!(SECTOR_BYTES == SECTOR_SIZE as u64);

/// Sectors in one read or write of the device.
const TRANSFER_SECTORS_MAX: u64 = 8192;
/// Sectors in one discard, a gibibyte: few steps for a whole disk, and each can be interrupted.
const DISCARD_SECTORS_MAX: u64 = 1 << 18;
/// Bytes of zeroes that are kept for writing and sending them.
const ZEROES_BYTES: usize = 1 << 20;
const ZEROES_SECTORS: u64 = (ZEROES_BYTES / SECTOR_SIZE) as u64;

static ZEROES: LazyLock<Bytes> = LazyLock::new(|| Bytes::from(vec![0; ZEROES_BYTES]));

/// So many zeroes, in shared slices.
pub(crate) fn zeroes(mut length: u64) -> impl Iterator<Item = Bytes> {
    std::iter::from_fn(move || {
        let part = usize::try_from(length)
            .unwrap_or(ZEROES_BYTES)
            .min(ZEROES_BYTES);
        length -= u64::try_from(part).expect("at most a mebibyte");
        (part > 0).then(|| ZEROES.slice(..part))
    })
}

/// A part of what was read, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    Zeroes(u64),
    Data(Bytes),
}

impl Run {
    pub(crate) fn length(&self) -> u64 {
        match self {
            Self::Zeroes(length) => *length,
            Self::Data(data) => byte_count(data),
        }
    }
}

/// How many bytes so many sectors are.
pub(crate) fn size_bytes(sectors: u64) -> u64 {
    sectors
        .checked_mul(SECTOR_BYTES)
        .expect("devices end below 2^64 bytes")
}

fn byte_count(data: &[u8]) -> u64 {
    u64::try_from(data.len()).expect("a length in memory fits 64 bits")
}

/// A device of sectors, seen as bytes.
#[derive(Debug)]
pub(crate) struct ByteDevice<D> {
    device: D,
    /// Shared by all that change the same sectors, each through a device of its own.
    locks: Arc<SectorLocks>,
}

/// Whole sectors.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Sectors {
    first: u64,
    count: u64,
}

impl Sectors {
    /// All sectors that the range touches.
    fn touched(range: ByteRange) -> Self {
        let first = range.offset / SECTOR_BYTES;
        let end = (range.offset + range.length).div_ceil(SECTOR_BYTES);
        Self {
            first,
            count: end.saturating_sub(first),
        }
    }

    /// The sectors that lie in the range as a whole.
    fn inside(range: ByteRange) -> Self {
        let first = range.offset.div_ceil(SECTOR_BYTES);
        let end = (range.offset + range.length) / SECTOR_BYTES;
        Self {
            first,
            count: end.saturating_sub(first),
        }
    }

    /// The same sectors in parts of at most `count_max`.
    fn parts(self, count_max: u64) -> impl Iterator<Item = Self> {
        let end = self.first + self.count;
        let mut first = self.first;
        std::iter::from_fn(move || {
            let part = Self {
                first,
                count: count_max.min(end - first),
            };
            first += part.count;
            (part.count > 0).then_some(part)
        })
    }
}

/// A range cut where whole sectors begin and end.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Cut {
    /// Bytes before the first whole sector; all of them when there is none and the range lies in
    /// one sector.
    head: ByteRange,
    whole: Sectors,
    /// Bytes after the last whole sector.
    tail: ByteRange,
}

impl Cut {
    fn new(range: ByteRange) -> Self {
        let end = range.offset + range.length;
        let whole = Sectors::inside(range);
        let head_end = end.min(range.offset.next_multiple_of(SECTOR_BYTES));
        let tail_offset = head_end + whole.count * SECTOR_BYTES;
        Self {
            head: ByteRange {
                offset: range.offset,
                length: head_end - range.offset,
            },
            whole,
            tail: ByteRange {
                offset: tail_offset,
                length: end - tail_offset,
            },
        }
    }
}

impl<D: SectorDevice> ByteDevice<D> {
    pub(crate) fn new(device: D, locks: Arc<SectorLocks>) -> Self {
        Self { device, locks }
    }

    /// How many bytes there are.
    pub(crate) fn size_bytes(&self) -> u64 {
        size_bytes(self.device.sectors())
    }

    /// Returns once the device is lost to the client that uses it.
    pub(crate) fn lost(&self) -> impl Future<Output = ()> + Send {
        self.device.lost()
    }

    /// The client has asked for a change.
    pub(crate) fn asked_for_change(&self) {
        self.device.asked_for_change();
    }

    /// The client has said goodbye.
    pub(crate) fn said_goodbye(&self) {
        self.device.said_goodbye();
    }

    /// The bytes of the range, in order.
    pub(crate) async fn read(&self, range: ByteRange) -> Result<Vec<Run>, DeviceError> {
        let sectors = Sectors::touched(range);
        let mut runs = Vec::new();
        for part in sectors.parts(TRANSFER_SECTORS_MAX) {
            let pieces = self.device.read(part.first, part.count).await?;
            check_pieces(&pieces, part.count);
            runs.extend(pieces.into_iter().map(|piece| match piece {
                Piece::Zeroes(count) => Run::Zeroes(count * SECTOR_BYTES),
                Piece::Data(data) => Run::Data(data),
            }));
        }
        let skip = range.offset - sectors.first * SECTOR_BYTES;
        Ok(trim_runs(runs, skip, range.length))
    }

    /// Writes the bytes from `offset` on.
    pub(crate) async fn write(&self, offset: u64, mut data: Bytes) -> Result<(), DeviceError> {
        let range = ByteRange {
            offset,
            length: byte_count(&data),
        };
        let cut = Cut::new(range);
        if cut.head.length == 0 && cut.tail.length == 0 {
            return self.write_sectors(cut.whole.first, data).await;
        }
        let index = |length: u64| usize::try_from(length).expect("a part of what is in memory");
        let head = data.split_to(index(cut.head.length));
        let tail = data.split_off(index(cut.whole.count * SECTOR_BYTES));
        // The three hold one claim each and wait for nothing of one another. The box keeps this
        // rare case from making every write's future large.
        let parts = Box::pin(async {
            tokio::join!(
                self.change_sector(cut.head.offset, &head),
                self.write_sectors(cut.whole.first, data),
                self.change_sector(cut.tail.offset, &tail),
            )
        });
        let (head, whole, tail) = parts.await;
        head.and(whole).and(tail)
    }

    /// Makes the range read as zeroes.
    pub(crate) async fn zero(&self, range: ByteRange, how: Zeroing) -> Result<(), DeviceError> {
        let cut = Cut::new(range);
        for edge in [cut.head, cut.tail] {
            for part in zeroes(edge.length) {
                self.change_sector(edge.offset, &part).await?;
            }
        }
        match how {
            Zeroing::Punch => self.discard_sectors(cut.whole).await,
            Zeroing::Allocate => {
                for part in cut.whole.parts(ZEROES_SECTORS) {
                    for data in zeroes(part.count * SECTOR_BYTES) {
                        self.write_sectors(part.first, data).await?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Frees the sectors that lie in the range as a whole; a trim is a hint, so nothing is done to
    /// the bytes around them.
    pub(crate) async fn trim(&self, range: ByteRange) -> Result<(), DeviceError> {
        self.discard_sectors(Sectors::inside(range)).await
    }

    /// Returns once everything completed before is on stable storage.
    pub(crate) async fn flush(&self) -> Result<(), DeviceError> {
        self.device.flush().await
    }

    async fn write_sectors(&self, first: u64, mut data: Bytes) -> Result<(), DeviceError> {
        let count = byte_count(&data) / SECTOR_BYTES;
        for part in (Sectors { first, count }).parts(TRANSFER_SECTORS_MAX) {
            let bytes = usize::try_from(part.count * SECTOR_BYTES).expect("at most 32 MiB");
            let _claim = self.locks.claim(part.first, part.count, Mode::Shared).await;
            self.device.write(part.first, data.split_to(bytes)).await?;
        }
        Ok(())
    }

    async fn discard_sectors(&self, sectors: Sectors) -> Result<(), DeviceError> {
        for part in sectors.parts(DISCARD_SECTORS_MAX) {
            let _claim = self.locks.claim(part.first, part.count, Mode::Shared).await;
            self.device.discard(part.first, part.count).await?;
        }
        Ok(())
    }

    /// Replaces a few bytes within one sector.
    async fn change_sector(&self, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        if data.is_empty() {
            return Ok(());
        }
        let sector = offset / SECTOR_BYTES;
        let at = usize::try_from(offset % SECTOR_BYTES).expect("below the size of a sector");
        let _claim = self.locks.claim(sector, 1, Mode::Exclusive).await;
        let pieces = self.device.read(sector, 1).await?;
        check_pieces(&pieces, 1);
        let mut whole = BytesMut::zeroed(SECTOR_SIZE);
        for piece in &pieces {
            // The one that is not empty has the sector's size, as checked above.
            if let Piece::Data(old) = piece
                && !old.is_empty()
            {
                whole.copy_from_slice(old);
            }
        }
        whole[at..at + data.len()].copy_from_slice(data);
        self.device.write(sector, whole.freeze()).await
    }
}

/// A device that gives more or less than it was asked for would put every later reply out of step.
fn check_pieces(pieces: &[Piece], count: u64) {
    let sectors: u64 = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Zeroes(count) => *count,
            Piece::Data(data) => {
                assert!(
                    data.len() % SECTOR_SIZE == 0,
                    "the device gave a part of a sector"
                );
                byte_count(data) / SECTOR_BYTES
            }
        })
        .sum();
    assert!(
        sectors == count,
        "the device was asked for {count} sectors and gave {sectors}"
    );
}

/// `length` bytes of the runs, after the first `skip`; empty runs are left out.
fn trim_runs(runs: Vec<Run>, mut skip: u64, length: u64) -> Vec<Run> {
    let mut rest = length;
    let mut trimmed = Vec::with_capacity(runs.len());
    for run in runs {
        let begin = skip.min(run.length());
        let end = run.length().min(begin + rest);
        skip -= begin;
        rest -= end - begin;
        if begin == end {
            continue;
        }
        trimmed.push(match run {
            Run::Zeroes(_) => Run::Zeroes(end - begin),
            Run::Data(data) => {
                let index = |at: u64| usize::try_from(at).expect("within data in memory");
                Run::Data(data.slice(index(begin)..index(end)))
            }
        });
    }
    trimmed
}

#[cfg(test)]
mod tests;
