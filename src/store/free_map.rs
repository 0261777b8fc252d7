//! The free map and the journal's place, as a root names them.
//!
//! One stream of numbers (LEB128), cut into *chunks*: runs of up to 64 blocks, each of which names
//! the next. There are two copies at different places, since without it nothing can be recovered.
//!
//! The stream:
//! 1. the number of the journal's runs, and for each its first block and its count. The first batch
//!    that the root does not cover begins at the first block of the first run;
//! 2. the end: blocks from there on were never used;
//! 3. the number of runs that are not in use, and for each, ascending: the blocks between the run
//!    before and this one, and twice its count, plus 1 if it is released.
//!
//! | offset | size | chunk |
//! |---|---|---|
//! | 0 | 20 | the next chunk (block 8, blocks 4, checksum 8); 0 blocks for none |
//! | 20 | 4 | bytes of the stream in this chunk |
//! | 24 | | those bytes, and zeroes up to the end of the block |
//!
//! A chunk's checksum is of all its blocks.

use std::io::IoSlice;

use bytes::{Buf, BufMut};

use super::block::{BLOCK_SIZE, Block, Run};
use super::checksum::{Checksums, Kind};
use super::error::StoreError;
use super::medium::{Medium, read_tolerant};
use super::space::FreeBlocks;

/// Where a chunk is, and how to tell that it is that chunk.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct ChunkRef {
    first: u64,
    /// 0 when there is no chunk.
    count: u32,
    checksum: u64,
}

/// The most blocks of a chunk: what is read at once.
const CHUNK_BLOCKS_MAX: u64 = 64;
const REFERENCE_BYTES: usize = 8 + 4 + 8;
const HEADER_BYTES: usize = REFERENCE_BYTES + 4;

/// A copy of the stream as it was read.
pub(crate) struct StreamCopy {
    pub(crate) stream: Vec<u8>,
    /// The blocks that it takes.
    pub(crate) runs: Vec<Run>,
}

/// What the stream says.
pub(crate) struct FreeMap {
    pub(crate) journal: Vec<Run>,
    pub(crate) blocks: FreeBlocks,
}

impl ChunkRef {
    pub(crate) const NONE: Self = Self {
        first: 0,
        count: 0,
        checksum: 0,
    };

    pub(crate) fn encode(self, bytes: &mut Vec<u8>) {
        bytes.put_u64(self.first);
        bytes.put_u32(self.count);
        bytes.put_u64(self.checksum);
    }

    pub(crate) fn decode(bytes: &mut &[u8]) -> Self {
        Self {
            first: bytes.get_u64(),
            count: bytes.get_u32(),
            checksum: bytes.get_u64(),
        }
    }
}

impl FreeMap {
    /// The stream.
    pub(crate) fn encode(journal: &[Run], blocks: &FreeBlocks) -> Vec<u8> {
        let mut bytes = Vec::new();
        put_number(&mut bytes, to_u64(journal.len()));
        for run in journal {
            put_number(&mut bytes, run.first);
            put_number(&mut bytes, run.count);
        }
        put_number(&mut bytes, blocks.end);
        let mut runs = Vec::new();
        let mut count = 0_u64;
        let mut end = 0;
        for (run, released) in unused(blocks) {
            put_number(&mut runs, run.first - end);
            put_number(&mut runs, run.count * 2 + u64::from(released));
            end = run.end();
            count += 1;
        }
        put_number(&mut bytes, count);
        bytes.extend_from_slice(&runs);
        bytes
    }

    /// What the stream says, or `None` when it can not be.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let bytes = &mut bytes;
        let mut journal = Vec::new();
        for _ in 0..take_number(bytes)? {
            journal.push(Run::new(take_number(bytes)?, take_number(bytes)?));
        }
        let mut blocks = FreeBlocks {
            end: take_number(bytes)?,
            ..FreeBlocks::default()
        };
        let mut end = 0;
        for _ in 0..take_number(bytes)? {
            let first = end + take_number(bytes)?;
            let length = take_number(bytes)?;
            let run = Run::new(first, length / 2);
            end = run.end();
            if end > blocks.end {
                return None;
            }
            if length % 2 == 1 {
                blocks.released.insert(run);
            } else {
                blocks.free.insert(run);
            }
        }
        bytes.is_empty().then_some(Self { journal, blocks })
    }
}

/// How many bytes of a stream these blocks hold.
pub(crate) fn capacity(blocks: &[Run]) -> usize {
    let bytes = |run: &Run| {
        let chunks = run.count.div_ceil(CHUNK_BLOCKS_MAX);
        to_usize(run.count) * BLOCK_SIZE - to_usize(chunks) * HEADER_BYTES
    };
    blocks.iter().map(bytes).sum()
}

/// How many blocks to add for so many bytes more.
pub(crate) fn blocks_for_stream(bytes: usize) -> u64 {
    to_u64(bytes.div_ceil(BLOCK_SIZE - HEADER_BYTES))
}

/// Writes one copy of the stream into these blocks, which are enough; not synced.
pub(crate) fn write_chunks(
    medium: &dyn Medium,
    checksums: Checksums,
    stream: &[u8],
    blocks: &[Run],
) -> Result<ChunkRef, StoreError> {
    let mut chunks = Vec::new();
    let mut rest = stream;
    for run in blocks {
        let mut left = Some(*run);
        while let Some(run) = left {
            let (chunk, others) = run.split_at(CHUNK_BLOCKS_MAX);
            let room = to_usize(chunk.count) * BLOCK_SIZE - HEADER_BYTES;
            let (content, more) = rest.split_at(room.min(rest.len()));
            chunks.push((chunk, content));
            rest = more;
            left = others;
        }
    }
    assert!(rest.is_empty(), "the blocks hold the stream");
    let mut next = ChunkRef::NONE;
    for (run, content) in chunks.into_iter().rev() {
        let mut bytes = Vec::with_capacity(to_usize(run.count) * BLOCK_SIZE);
        next.encode(&mut bytes);
        bytes.put_u32(u32::try_from(content.len()).expect("less than a chunk"));
        bytes.put_slice(content);
        bytes.resize(to_usize(run.count) * BLOCK_SIZE, 0);
        next = ChunkRef {
            first: run.first,
            count: u32::try_from(run.count).expect("at most CHUNK_BLOCKS_MAX"),
            checksum: checksums.metadata(Kind::Space, run.first, &bytes),
        };
        medium
            .write(run.first, &[IoSlice::new(&bytes)])
            .map_err(StoreError::io("writing the free map"))?;
    }
    Ok(next)
}

/// The stream of one copy and the blocks that it takes; `None` when a chunk is damaged.
pub(crate) fn read_chunks(
    medium: &dyn Medium,
    checksums: Checksums,
    first: ChunkRef,
) -> Result<Option<StreamCopy>, StoreError> {
    let mut stream = Vec::new();
    let mut runs = Vec::new();
    let mut next = first;
    while next.count > 0 {
        let run = Run::new(next.first, u64::from(next.count));
        if run.count > CHUNK_BLOCKS_MAX {
            return Ok(None);
        }
        let mut blocks = vec![Block::ZERO; to_usize(run.count)];
        read_tolerant(medium, run.first, &mut blocks)?;
        let bytes: &[u8] = bytemuck::cast_slice(&blocks);
        if checksums.metadata(Kind::Space, run.first, bytes) != next.checksum {
            return Ok(None);
        }
        let mut rest = bytes;
        next = ChunkRef::decode(&mut rest);
        let length = to_usize(u64::from(rest.get_u32()));
        let Some(content) = rest.get(..length) else {
            return Ok(None);
        };
        stream.extend_from_slice(content);
        runs.push(run);
    }
    Ok(Some(StreamCopy { stream, runs }))
}

/// The runs that are not in use, ascending, and whether each is released.
fn unused(blocks: &FreeBlocks) -> impl Iterator<Item = (Run, bool)> {
    let mut free = blocks.free.runs().peekable();
    let mut released = blocks.released.runs().peekable();
    std::iter::from_fn(move || {
        let released_first = match (free.peek(), released.peek()) {
            (Some(free), Some(released)) => released.first < free.first,
            (None, Some(_)) => true,
            _ => false,
        };
        if released_first {
            Some((released.next()?, true))
        } else {
            Some((free.next()?, false))
        }
    })
}

fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.put_u8(u8::try_from(number & 0x7f).expect("seven bits") | 0x80);
        number >>= 7;
    }
    bytes.put_u8(u8::try_from(number).expect("seven bits"));
}

fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn to_usize(number: u64) -> usize {
    usize::try_from(number).expect("it lies in memory")
}

fn to_u64(number: usize) -> u64 {
    u64::try_from(number).expect("memory is smaller")
}
