//! `atdd read`: sectors of the disk to a file or a pipe.

use std::fs::File;
use std::io::{self, ErrorKind, IsTerminal, Seek, SeekFrom, Write};
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use atdd::client::{AttachOptions, Attachment, ClientError};
use atdd::domain::{SECTOR_SIZE, SECTOR_SIZE_U64};
use atdd::wire::SectorValues;
use clap::Args;
use futures_util::{StreamExt, stream};

use crate::output::notice;
use crate::progress::Progress;
use crate::{EXIT_USAGE, attach};

/// Read sectors of the disk, without disturbing whoever uses it
///
/// Sectors have 4096 bytes and are counted from 0. What somebody writes meanwhile may be seen or
/// not, sector by sector.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Read {
    /// The cluster.toml that `atdd init` wrote; the client key is enough
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// The first sector to read, from 0 on
    #[arg(long, value_name = "N")]
    sector: u64,

    /// How many sectors to read
    #[arg(long, value_name = "M", default_value_t = NonZeroU64::MIN)]
    count: NonZeroU64,

    /// Where to write them; a file that is there is replaced [default: stdout]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  atdd read --config cluster.toml --sector 0 | xxd | head
  atdd read --config cluster.toml --sector 0 --count 262144 --output disk.img

In a file, sectors of zeroes become holes.";

/// Sectors that are read at once, and how often.
const CHUNK_SECTORS: u64 = 1024;
const CHUNKS_AHEAD: usize = 4;

impl Read {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if self.output.is_none() && io::stdout().is_terminal() {
            notice(
                "atdd: sectors are no text for a terminal; name a file with --output, or pipe them \
                 on, for example to xxd",
            );
            return Ok(ExitCode::from(EXIT_USAGE));
        }
        let cluster = attach::cluster(&self.config)?;
        attach::runtime()?.block_on(async {
            let disk = attach::attach(cluster, AttachOptions::read_only()).await?;
            let copied = self.copy(&disk).await;
            disk.detach().await;
            copied
        })?;
        Ok(ExitCode::SUCCESS)
    }

    async fn copy(&self, disk: &Attachment) -> Result<()> {
        let (first, count) = (self.sector, self.count.get());
        check_range(first, count, disk.sectors())?;
        let mut sink = Sink::open(self.output.as_deref())?;
        let progress = Progress::new(Some(count * SECTOR_SIZE_U64));
        let starts = (0..count.div_ceil(CHUNK_SECTORS)).map(|chunk| chunk * CHUNK_SECTORS);
        let reads = starts.map(|start| {
            let sectors = CHUNK_SECTORS.min(count - start);
            async move { (sectors, disk.read(first + start, sectors).await) }
        });
        let mut reads = stream::iter(reads).buffered(CHUNKS_AHEAD);
        while let Some((sectors, values)) = reads.next().await {
            let values = values.map_err(attach::in_words)?;
            // A pipe may be full for as long as its reader likes; the session must go on living.
            let putting = tokio::task::spawn_blocking(move || sink.put(&values).map(|()| sink));
            match putting.await.context("the thread that writes has died")? {
                Ok(again) => sink = again,
                // Its reader has seen enough.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
                Err(error) => return Err(error).context("the output cannot be written"),
            }
            progress.advance(sectors * SECTOR_SIZE_U64);
        }
        sink.finish().context("the output cannot be written")
    }
}

fn check_range(first: u64, count: u64, sectors: u64) -> Result<()> {
    if first.checked_add(count).is_some_and(|end| end <= sectors) {
        return Ok(());
    }
    let last = first.saturating_add(count - 1);
    Err(ClientError::PastEnd {
        first,
        last,
        sectors,
    }
    .into())
}

/// Where sectors go.
struct Sink {
    file: File,
    /// Whether zeroes may be left out, and how long the file has to be in the end.
    holes: Option<u64>,
}

impl Sink {
    fn open(path: Option<&Path>) -> Result<Self> {
        let Some(path) = path else {
            let stdout = io::stdout().as_fd().try_clone_to_owned();
            let file = File::from(stdout.context("stdout is closed")?);
            return Ok(Self { file, holes: None });
        };
        let file = File::create(path);
        let file = file.with_context(|| format!("{} cannot be written", path.display()))?;
        let plain = file.metadata().is_ok_and(|metadata| metadata.is_file());
        let holes = plain.then_some(0);
        Ok(Self { file, holes })
    }

    fn put(&mut self, values: &[SectorValues]) -> io::Result<()> {
        for part in values {
            let bytes = match part {
                SectorValues::Data(data) => {
                    self.file.write_all(data)?;
                    u64::try_from(data.len()).expect("memory is below 2^64")
                }
                SectorValues::Zeroes(sectors) => {
                    self.put_zeroes(*sectors)?;
                    u64::from(*sectors) * SECTOR_SIZE_U64
                }
            };
            if let Some(length) = &mut self.holes {
                *length += bytes;
            }
        }
        Ok(())
    }

    fn put_zeroes(&mut self, sectors: u32) -> io::Result<()> {
        if self.holes.is_some() {
            let bytes = i64::from(sectors) * 4096;
            self.file.seek(SeekFrom::Current(bytes)).map(drop)
        } else {
            const ZEROES: [u8; SECTOR_SIZE] = [0; SECTOR_SIZE];
            (0..sectors).try_for_each(|_| self.file.write_all(&ZEROES))
        }
    }

    fn finish(self) -> io::Result<()> {
        match self.holes {
            Some(length) => self.file.set_len(length),
            None => Ok(()),
        }
    }
}
