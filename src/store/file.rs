//! The medium that is a file.
//!
//! Sectors and pages are read through the page cache and written through it, followed by
//! `fdatasync`. Recovery reads past it with `O_DIRECT`; where that is refused, the cache is dropped
//! first.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, FallocateFlags, OFlags, fadvise, fallocate};
use rustix::io::{Errno, ReadWriteFlags};

use super::block::{BLOCK_SIZE, BLOCK_SIZE_U64, Block, Run};
use super::medium::Medium;

/// A file of blocks.
pub(crate) struct FileMedium {
    file: File,
    /// The same file without the page cache; `None` where the file system has no such thing.
    direct: Option<File>,
    /// Whether the file system can say that a read would wait.
    reads_at_once: AtomicBool,
    /// Whether the file system can give space out ahead of need.
    allocates: AtomicBool,
}

/// Whether to read past the page cache where that is possible.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub enum DirectReads {
    /// Where the file system allows it.
    #[default]
    Auto,
    /// Never: as on file systems that refuse it.
    Never,
}

/// The most slices of one vectored write (`IOV_MAX`).
const SLICES_MAX: usize = 1024;

impl FileMedium {
    /// Opens the file and drops what the page cache has of it, so that whatever is read from now on
    /// was read from the medium.
    pub(crate) fn open(path: &Path, direct_reads: DirectReads) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Self::with_file(file, path, direct_reads)
    }

    /// As [`Self::open`], for reading alone.
    pub(crate) fn open_read_only(path: &Path) -> io::Result<Self> {
        Self::with_file(File::open(path)?, path, DirectReads::Auto)
    }

    /// Makes a new, empty file, for its owner alone: whoever may read it may read the disk.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        Self::with_file(file, path, DirectReads::Never)
    }

    fn with_file(file: File, path: &Path, direct_reads: DirectReads) -> io::Result<Self> {
        let direct = match direct_reads {
            DirectReads::Auto => open_direct(path)?,
            DirectReads::Never => None,
        };
        if let Err(error) = file.sync_data() {
            // An earlier process's write failed. What it was is not on the medium, and is dropped.
            tracing::warn!(%error, "writes of an earlier process did not reach the medium");
        }
        fadvise(&file, 0, None, Advice::DontNeed)?;
        Ok(Self {
            file,
            direct,
            reads_at_once: AtomicBool::new(true),
            allocates: AtomicBool::new(true),
        })
    }

    /// Whether recovery reads past the page cache.
    pub(crate) const fn is_direct(&self) -> bool {
        self.direct.is_some()
    }

    /// Gets space by writing zeroes, where the file system knows no other way.
    fn write_zeroes(&self, run: Run) -> io::Result<()> {
        let zeroes = vec![0; BLOCK_SIZE];
        for block in run.first..run.end() {
            self.file.write_all_at(&zeroes, block * BLOCK_SIZE_U64)?;
        }
        self.file.sync_data()
    }
}

/// Opens the file without the page cache, unless the file system refuses.
fn open_direct(path: &Path) -> io::Result<Option<File>> {
    let flags = i32::try_from(OFlags::DIRECT.bits()).expect("flags are an int");
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.raw_os_error() == Some(Errno::INVAL.raw_os_error()) => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let status = rustix::fs::statx(
        &file,
        "",
        rustix::fs::AtFlags::EMPTY_PATH,
        rustix::fs::StatxFlags::DIOALIGN,
    );
    let block = u32::try_from(BLOCK_SIZE).expect("a small number");
    // Kernels before 6.1 do not say; then a block is aligned enough for every device that is.
    let fits = status.map_or(true, |status| {
        let known = status.stx_mask & rustix::fs::StatxFlags::DIOALIGN.bits() != 0;
        let fits = |align: u32| align != 0 && block.is_multiple_of(align);
        !known || (fits(status.stx_dio_mem_align) && fits(status.stx_dio_offset_align))
    });
    Ok(fits.then_some(file))
}

impl Medium for FileMedium {
    fn read(&self, first: u64, into: &mut [u8]) -> io::Result<()> {
        read_up_to_end(&self.file, first, into)
    }

    fn read_at_once(&self, first: u64, into: &mut [u8]) -> io::Result<bool> {
        if !self.reads_at_once.load(Ordering::Relaxed) {
            return Ok(false);
        }
        let length = into.len();
        let read = rustix::io::preadv2(
            &self.file,
            &mut [IoSliceMut::new(into)],
            first * BLOCK_SIZE_U64,
            ReadWriteFlags::NOWAIT,
        );
        match read {
            Ok(read) => Ok(read == length),
            Err(Errno::AGAIN) => Ok(false),
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                self.reads_at_once.store(false, Ordering::Relaxed);
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn read_stable(&self, first: u64, into: &mut [Block]) -> io::Result<()> {
        // Without direct reads the page cache was dropped when the file was opened.
        let file = self.direct.as_ref().unwrap_or(&self.file);
        read_up_to_end(file, first, bytemuck::cast_slice_mut(into))
    }

    fn write(&self, first: u64, pieces: &[IoSlice<'_>]) -> io::Result<()> {
        let mut offset = first * BLOCK_SIZE_U64;
        let mut pieces = pieces.to_vec();
        let mut rest = &mut pieces[..];
        while !rest.is_empty() {
            let most = rest.len().min(SLICES_MAX);
            match rustix::io::pwritev(&self.file, &rest[..most], offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    offset += u64::try_from(written).expect("memory is smaller");
                    IoSlice::advance_slices(&mut rest, written);
                }
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn allocate(&self, run: Run) -> io::Result<()> {
        if self.allocates.load(Ordering::Relaxed) {
            let (offset, length) = (run.first * BLOCK_SIZE_U64, run.count * BLOCK_SIZE_U64);
            match fallocate(&self.file, FallocateFlags::empty(), offset, length) {
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                    tracing::warn!("the file system gives out no space ahead; zeroes are written");
                    self.allocates.store(false, Ordering::Relaxed);
                }
                outcome => return outcome.map_err(io::Error::from),
            }
        }
        self.write_zeroes(run)
    }

    fn release(&self, run: Run) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let (offset, length) = (run.first * BLOCK_SIZE_U64, run.count * BLOCK_SIZE_U64);
        fallocate(&self.file, flags, offset, length).map_err(io::Error::from)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len().div_ceil(BLOCK_SIZE_U64))
    }
}

/// Reads whole blocks; what lies beyond the end is zeroes.
fn read_up_to_end(file: &File, first: u64, into: &mut [u8]) -> io::Result<()> {
    let mut done = 0;
    while done < into.len() {
        let offset = first * BLOCK_SIZE_U64 + u64::try_from(done).expect("memory is smaller");
        match file.read_at(&mut into[done..], offset) {
            Ok(0) => {
                into[done..].fill(0);
                break;
            }
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
