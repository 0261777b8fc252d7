//! `atdd write`: a file or a pipe to sectors of the disk.

use std::fs::File;
use std::io::{self, Read};
use std::num::NonZeroU64;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use atdd::client::{AttachOptions, Attachment};
use atdd::domain::{SECTOR_SIZE, SECTOR_SIZE_U64};
use bytes::Bytes;
use clap::Args;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::attach;
use crate::output::notice;
use crate::progress::Progress;

/// Write sectors of the disk, which nobody else may use meanwhile
///
/// Sectors have 4096 bytes and are counted from 0. It returns once everything is on stable storage
/// on a majority of the processes.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Write {
    /// The cluster.toml that `atdd init` wrote; the client key is enough
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// The first sector to write, from 0 on
    #[arg(long, value_name = "N")]
    sector: u64,

    /// How many sectors to write [default: as many as the input has]
    #[arg(long, value_name = "M")]
    count: Option<NonZeroU64>,

    /// What to write [default: stdin]
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,

    /// Take the disk over from whoever holds it
    #[arg(long)]
    take_over: bool,
}

const EXAMPLES: &str = "\
Examples:
  atdd write --config cluster.toml --sector 0 --input disk.img
  head -c 8192 /dev/zero | atdd write --config cluster.toml --sector 100
  printf 'hello' | atdd write --config cluster.toml --sector 7

How much was written is said on stderr when it took a second or more. When the input does not fill its last sector, the rest of that sector becomes zeroes, which is said
on stderr. An input of less than --count sectors is an error.";

/// What is read and written at once, and how often.
const CHUNK_BYTES: usize = 1 << 20;
const CHUNKS_UNDER_WAY: usize = 8;

impl Write {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let cluster = attach::cluster(&self.config)?;
        let input = Input::open(self.input.as_deref(), self.count)?;
        let options = AttachOptions {
            take_over: self.take_over,
            ..AttachOptions::exclusive()
        };
        let sectors = attach::runtime()?.block_on(async {
            let disk = attach::attach(cluster, options).await?;
            let copied = copy(&disk, self.sector, input).await;
            disk.detach().await;
            copied
        })?;
        if let Some(count) = self.count.map(NonZeroU64::get) {
            ensure!(sectors > 0, "nothing was written, since the input is empty");
            ensure!(
                sectors == count,
                "the input ended after {sectors} of {count} sectors, which are written"
            );
        }
        if sectors == 0 {
            notice("nothing was written, since the input is empty");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Writes all of the input; returns how many sectors that are.
async fn copy(disk: &Attachment, first: u64, mut input: Input) -> Result<u64> {
    let end = disk.sectors();
    let room = end.saturating_sub(first);
    let wanted = input.sectors.unwrap_or(1);
    ensure!(
        wanted <= room,
        "the input has {wanted} sectors, and the disk of {end} sectors has room for {room} from \
         sector {first} on; nothing was written"
    );
    let progress = Progress::new(input.sectors.map(|sectors| sectors * SECTOR_SIZE_U64));
    let mut under_way = FuturesUnordered::new();
    let mut next = first;
    loop {
        let reading = tokio::task::spawn_blocking(move || input.chunk().map(|data| (data, input)));
        let read = reading.await.context("the thread that reads has died")?;
        let (data, again) = read.context("the input cannot be read")?;
        input = again;
        if data.is_empty() {
            break;
        }
        let bytes = u64::try_from(data.len()).expect("memory is below 2^64");
        if bytes / SECTOR_SIZE_U64 > end - next {
            while !under_way.is_empty() {
                written(under_way.next().await, &progress)?;
            }
            let done = match next.checked_sub(1).filter(|&last| last >= first) {
                Some(last) => format!("sectors {first} to {last} are written"),
                None => "nothing is written".to_owned(),
            };
            bail!(
                "the input is longer than the disk, which ends after sector {}; {done}",
                end - 1
            );
        }
        let at = next;
        next += bytes / SECTOR_SIZE_U64;
        under_way.push(async move { disk.write(at, data).await.map(|()| bytes) });
        if under_way.len() == CHUNKS_UNDER_WAY {
            written(under_way.next().await, &progress)?;
        }
    }
    while !under_way.is_empty() {
        written(under_way.next().await, &progress)?;
    }
    disk.flush().await.map_err(attach::in_words)?;
    if input.padded > 0 {
        notice(&format!(
            "the last sector is filled up with {} bytes of zeroes",
            input.padded
        ));
    }
    let bytes = (next - first) * SECTOR_SIZE_U64;
    if let Some(summary) = progress.summary("written", bytes) {
        notice(&summary);
    }
    Ok(next - first)
}

fn written(
    outcome: Option<Result<u64, atdd::client::ClientError>>,
    progress: &Progress,
) -> Result<()> {
    if let Some(outcome) = outcome {
        progress.advance(outcome.map_err(attach::in_words)?);
    }
    Ok(())
}

/// What is written, in whole sectors.
struct Input {
    file: File,
    /// How many sectors there are, if that is known before.
    sectors: Option<u64>,
    /// How many bytes may still be read.
    bytes_left: u64,
    /// By how many bytes of zeroes the last sector was filled up.
    padded: usize,
}

impl Input {
    fn open(path: Option<&Path>, count: Option<NonZeroU64>) -> Result<Self> {
        let file = if let Some(path) = path {
            let file = File::open(path);
            file.with_context(|| format!("{} cannot be read", path.display()))?
        } else {
            let stdin = io::stdin().as_fd().try_clone_to_owned();
            File::from(stdin.context("stdin is closed")?)
        };
        let metadata = file.metadata().context("the input cannot be read")?;
        // What is read of stdin may begin in the middle of its file.
        let known = (metadata.is_file() && path.is_some()).then_some(metadata.len());
        let there = known.map(|bytes| bytes.div_ceil(SECTOR_SIZE_U64));
        let count = count.map(NonZeroU64::get);
        if let (Some(there), Some(count)) = (there, count) {
            ensure!(
                there >= count,
                "the input has only {there} sectors, not {count}; nothing was written"
            );
        }
        Ok(Self {
            file,
            sectors: count.or(there),
            bytes_left: count.map_or(u64::MAX, |count| count.saturating_mul(SECTOR_SIZE_U64)),
            padded: 0,
        })
    }

    /// The next sectors; none at the end.
    fn chunk(&mut self) -> io::Result<Bytes> {
        let most = self
            .bytes_left
            .min(CHUNK_BYTES.try_into().expect("a mebibyte"));
        let mut data = Vec::new();
        let read = (&mut self.file).take(most).read_to_end(&mut data)?;
        self.bytes_left -= u64::try_from(read).expect("no more than was asked for");
        self.padded += data.len().next_multiple_of(SECTOR_SIZE) - data.len();
        data.resize(data.len().next_multiple_of(SECTOR_SIZE), 0);
        Ok(data.into())
    }
}
