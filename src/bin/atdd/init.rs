//! `atdd init`: the files of a new cluster.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use atdd::config::{CLIENT_KEY_FILE, CLUSTER_FILE, DiskSize, Processes, SYSTEM_KEY_FILE};
use clap::Args;

use crate::output;

/// Make the configuration and the keys of a new cluster
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Init {
    /// Where to write cluster.toml, client.key and system.key; nothing is overwritten
    dir: PathBuf,

    /// Where each process listens, in the order of ranks from 1 on; 3 and 5 are usual
    #[arg(long, value_name = "HOST:PORT,…")]
    processes: Processes,

    /// The size of the disk, for example 100GiB; it may grow later
    #[arg(long)]
    size: DiskSize,
}

const EXAMPLES: &str = "\
Example:
  atdd init /etc/atdd --processes 10.0.0.1:7000,10.0.0.2:7000,10.0.0.3:7000 --size 100GiB

Copy all three files to every process's machine, cluster.toml and client.key to every client's.";

impl Init {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let file = atdd::config::init(&self.dir, &self.processes, self.size)?;
        let count = file.processes().count();
        output::print(&format!(
            "Wrote {CLUSTER_FILE}, {CLIENT_KEY_FILE} and {SYSTEM_KEY_FILE} in {}: {} on {count} \
             process{}.\n\
             Copy them to each process's machine, and start it there with its own rank N:\n  \
             atdd serve --config {} --rank N --data DIR\n",
            self.dir.display(),
            file.size(),
            if count == 1 { "" } else { "es" },
            file.path().display()
        ))?;
        Ok(ExitCode::SUCCESS)
    }
}
