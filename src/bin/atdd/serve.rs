//! `atdd serve`: one process of a cluster.

use std::io::Read;
use std::num::{NonZeroU8, NonZeroU64};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use atdd::config::Configuration;
use clap::Args;
use nbd_frontend::Address;
use rustix::process::{Signal, getpid, kill_process};

use crate::{io_timeout, nbd_address};

/// Run one process of a cluster, until SIGTERM or Ctrl-C
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Serve {
    /// The cluster.toml that `atdd init` wrote
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// Which of the processes in cluster.toml this one is, from 1 on
    #[arg(long, value_name = "N")]
    rank: u64,

    /// Where this process stores its copy of the disk; made at the first start
    #[arg(long, value_name = "DIR")]
    data: PathBuf,

    /// Serve the disk by NBD too; a unix socket that nobody answers on is replaced
    #[arg(long, value_name = nbd_address::FORM, value_parser = nbd_address::parse)]
    nbd: Option<Address>,

    /// How many workers share the sectors [default: one for every two processors, at most 4]
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroU8>,

    /// Fail what has waited for a majority for so many seconds [default: wait for ever]
    ///
    /// A filesystem that sees such a failure may go read-only until it is checked.
    #[arg(long, value_name = "S", value_parser = io_timeout::parse)]
    io_timeout: Option<NonZeroU64>,

    /// Vouch that the cluster is new, so that a majority may begin before the others are there
    ///
    /// Only for the very first start: never use it to replace a directory that was lost.
    #[arg(long)]
    new_cluster: bool,

    /// End when stdin is closed, as `atdd dev` wants of its children
    #[arg(long, hide = true)]
    exit_with_stdin: bool,
}

const EXAMPLES: &str = "\
Examples:
  atdd serve --config /etc/atdd/cluster.toml --rank 1 --data /var/lib/atdd
  atdd serve --config /etc/atdd/cluster.toml --rank 1 --data /var/lib/atdd --nbd 127.0.0.1:10809

The first time, the processes wait until all of them are there.";

impl Serve {
    pub(crate) fn run(self) -> Result<ExitCode> {
        if self.exit_with_stdin {
            end_with_stdin().context("cannot watch stdin")?;
        }
        let configuration = self.configuration()?;
        // One worker needs no second thread, and no wake-ups across threads.
        let mut runtime = match configuration.workers() {
            1 => tokio::runtime::Builder::new_current_thread(),
            workers => {
                let mut runtime = tokio::runtime::Builder::new_multi_thread();
                runtime.worker_threads(usize::from(workers));
                runtime
            }
        };
        let runtime = runtime.enable_all().build();
        let runtime = runtime.context("cannot start the threads of the process")?;
        let ended = runtime.block_on(atdd::process::run_register_process(configuration));
        // What still waits is for a disk that does not answer, and may do so for ever.
        runtime.shutdown_background();
        ended?;
        Ok(ExitCode::SUCCESS)
    }

    fn configuration(self) -> Result<Configuration> {
        let mut configuration = Configuration::load(&self.config, self.rank, self.data)?;
        configuration.nbd = self.nbd;
        configuration.threads = self.threads;
        configuration.io_timeout_seconds = self.io_timeout;
        configuration.new_cluster = self.new_cluster;
        Ok(configuration)
    }
}

/// How long the process has for its orderly end once stdin is closed: whoever started it is gone,
/// and nobody else would ever end it.
const GRACE: Duration = Duration::from_secs(10);

/// Sends this process SIGTERM when stdin closes: one way of ending serves both cases.
fn end_with_stdin() -> std::io::Result<()> {
    let watcher = std::thread::Builder::new().name("stdin".to_owned());
    watcher.spawn(|| {
        let mut ignored = [0; 256];
        while matches!(std::io::stdin().read(&mut ignored), Ok(1..)) {}
        if kill_process(getpid(), Signal::TERM).is_ok() {
            std::thread::sleep(GRACE);
        }
        tracing::error!("the orderly end took too long");
        std::process::exit(1);
    })?;
    Ok(())
}
