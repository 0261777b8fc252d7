//! `atdd bench`: how fast the disk is, seen by a client.

mod load;
mod report;

use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use atdd::client::AttachOptions;
use atdd::config::{Cluster, DiskSize};
use clap::Args;

use crate::output::notice;
use crate::{attach, output};
use load::Plan;

/// Measure how fast the disk is; reads only, unless --read is below 100
#[derive(Args)]
#[command(after_help = EXAMPLES)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch that users know"
)]
pub(crate) struct Bench {
    /// The cluster.toml that `atdd init` wrote; the client key is enough
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// How many requests are under way at a time
    #[arg(long, value_name = "N", default_value_t = 32,
        value_parser = clap::value_parser!(u16).range(1..=1024))]
    depth: u16,

    /// How many of a hundred requests are reads; the others overwrite the disk
    #[arg(long, value_name = "PERCENT", default_value_t = 100,
        value_parser = clap::value_parser!(u8).range(0..=100))]
    read: u8,

    /// How much each request reads or writes, a multiple of 4KiB up to 32MiB
    #[arg(long, value_name = "SIZE", default_value = "4KiB", value_parser = block_size)]
    block_size: DiskSize,

    /// For how many seconds
    #[arg(long, value_name = "S", default_value_t = 10,
        value_parser = clap::value_parser!(u64).range(1..=86_400))]
    duration: u64,

    /// One block after another, instead of blocks at random
    #[arg(long)]
    sequential: bool,

    /// Print JSON, for programs
    #[arg(long)]
    json: bool,

    /// Take the disk over from whoever holds it
    #[arg(long)]
    take_over: bool,

    /// Overwrite the disk without asking
    #[arg(long)]
    yes: bool,
}

const EXAMPLES: &str = "\
Examples:
  atdd bench --config cluster.toml                                     random reads of 4 KiB
  atdd bench --config cluster.toml --sequential --block-size 1MiB --depth 4
  atdd bench --config cluster.toml --read 70 --yes                     overwrites what is on the disk

Sectors that nobody has written are read without touching a store. A write counts once it is on
stable storage on a majority of the processes.";

fn block_size(text: &str) -> Result<DiskSize> {
    const MOST_BYTES: u64 = 32 << 20;
    let size: DiskSize = text.parse()?;
    anyhow::ensure!(size.bytes() <= MOST_BYTES, "write 32MiB or less");
    Ok(size)
}

impl Bench {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let cluster = attach::cluster(&self.config)?;
        let blocks = cluster.size.sectors() / self.block_size.sectors();
        if blocks == 0 {
            bail!(
                "the disk of {} has no room for a block of {}; choose a smaller --block-size",
                cluster.size,
                self.block_size
            );
        }
        if self.read < 100 && !self.yes {
            confirm(&cluster)?;
        }
        let options = AttachOptions {
            take_over: self.take_over,
            ..if self.read < 100 {
                AttachOptions::exclusive()
            } else {
                AttachOptions::read_only()
            }
        };
        let plan = Plan {
            depth: self.depth,
            read_percent: self.read,
            block_sectors: self.block_size.sectors(),
            blocks,
            duration: Duration::from_secs(self.duration),
            sequential: self.sequential,
        };
        let runtime = tokio::runtime::Runtime::new().context("cannot start")?;
        let tally = runtime.block_on(async {
            let disk = attach::attach(cluster, options).await?;
            let tally = load::run(&disk, &plan).await;
            disk.detach().await;
            tally
        })?;
        output::print(&if self.json {
            format!("{:#}\n", report::as_json(&plan, &tally))
        } else {
            report::as_text(&plan, &tally)
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

/// Asks whether the disk may be overwritten.
fn confirm(cluster: &Cluster) -> Result<()> {
    let disk = format!("the disk of cluster {} ({})", cluster.id, cluster.size);
    if !io::stdin().is_terminal() {
        bail!("this overwrites {disk}; say so with --yes");
    }
    notice(&format!(
        "This overwrites {disk} at random places. Type yes to go on:"
    ));
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .context("the answer cannot be read")?;
    if answer.trim() != "yes" {
        bail!("nothing was written");
    }
    Ok(())
}
