//! `atdd store`: what can be done with a storage directory by itself.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use atdd::domain::SECTOR_SIZE_U64;
use atdd::store::{self, Progress, Report};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use crate::output;

/// Examine a process's storage directory
#[derive(Args)]
pub(crate) struct Store {
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Subcommand)]
enum StoreCommand {
    Check(Check),
}

/// Read every sector and every record of a stopped process's storage directory, and verify them
#[derive(Args)]
#[command(after_help = EXAMPLES)]
struct Check {
    /// The directory that was given to `atdd serve --data`; nothing in it is changed
    dir: PathBuf,
}

const EXAMPLES: &str = "\
Example:
  atdd store check /var/lib/atdd

Exit codes: 0 everything is intact, 1 something is damaged or the directory cannot be read.";

impl Store {
    pub(crate) fn run(self) -> Result<ExitCode> {
        match self.command {
            StoreCommand::Check(check) => check.run(),
        }
    }
}

impl Check {
    fn run(self) -> Result<ExitCode> {
        let bar = ProgressBar::new(0).with_style(style());
        bar.enable_steady_tick(Duration::from_millis(200));
        let verdict = verify(&self.dir, &mut |done, total| {
            bar.set_length(total);
            bar.set_position(done);
        });
        bar.finish_and_clear();
        let verdict = verdict?;
        let damages = verdict
            .damages
            .iter()
            .map(|damage| format!("damaged: {damage}\n"));
        let damages: String = damages.collect();
        output::print(&format!(
            "{damages}{}: {}\n",
            self.dir.display(),
            verdict.summary
        ))?;
        Ok(if verdict.damages.is_empty() {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

/// What a check found, in words.
struct Verdict {
    summary: String,
    damages: Vec<String>,
}

/// The library's check; `progress` hears how many bytes of how many have been read.
fn verify(directory: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Verdict> {
    let mut in_bytes = |progress_made: Progress| {
        progress(
            progress_made.done * SECTOR_SIZE_U64,
            progress_made.total * SECTOR_SIZE_U64,
        );
    };
    let report = store::check(directory, &mut in_bytes)?;
    Ok(Verdict {
        summary: summary(&report),
        damages: damages(&report),
    })
}

fn summary(report: &Report) -> String {
    let verdict = match report.verdict() {
        store::Verdict::Healthy => "healthy",
        store::Verdict::Worn => {
            "nothing is lost, but a spare copy is damaged; the next start writes it anew"
        }
        store::Verdict::Damaged => {
            "damaged; the sectors named have no vote here until they are written again"
        }
        store::Verdict::Inconsistent => {
            "the store contradicts itself, which is a fault of atdd: keep the directory, report it"
        }
    };
    let torn = if report.last_batch_torn {
        "; the last batch is torn, as a crash before its acknowledgement leaves it; the next start \
         drops it"
    } else {
        ""
    };
    format!(
        "{verdict} ({} sectors, {} trimmed, {} pages of the map, {} batches to replay{torn})",
        report.data_sectors, report.tombstone_sectors, report.map_pages, report.batches
    )
}

fn damages(report: &Report) -> Vec<String> {
    let mut damages: Vec<String> = report
        .damaged_sectors
        .iter()
        .map(|address| {
            let (index, byte) = (address.index(), address.index() * SECTOR_SIZE_U64);
            format!("sector {index}, at byte {byte} of the disk")
        })
        .collect();
    let mut count = |number: u64, what: &str, plural: &str| match number {
        0 => {}
        1 => damages.push(format!("1 {what}")),
        _ => damages.push(format!("{number} {plural}")),
    };
    let listed = u64::try_from(report.damaged_sectors.len()).expect("memory is smaller");
    count(
        report.damaged_sector_count - listed,
        "more sector",
        "more sectors",
    );
    count(report.damaged_pages, "page of the map", "pages of the map");
    count(report.damaged_copies, "spare copy", "spare copies");
    count(
        report.contradictions,
        "block that contradicts the map",
        "blocks that contradict the map",
    );
    damages
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:24} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left")
        .expect("the template is a constant")
}
