//! `atdd store`: what can be done with a storage directory by itself.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
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
    progress(0, 0);
    bail!(
        "{}: the check of stores is not built yet",
        directory.display()
    )
}

fn style() -> ProgressStyle {
    ProgressStyle::with_template("{bar:40} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left")
        .expect("the template is a constant")
}
