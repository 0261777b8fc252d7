//! `atdd dev`: a whole cluster on this machine, in one command.
//!
//! Each process is a child `atdd serve`. It ends when its stdin closes, so that whatever happens
//! to this process, none stays behind.

mod announce;
mod data_dir;
mod lock;
mod log_tail;
mod member;
mod ports;
mod shown;
mod supervise;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use atdd::config::DiskSize;
use clap::Args;
use nbd_frontend::Address;

use crate::logging::Logging;
use crate::nbd_address;
use data_dir::DataDir;
use member::Member;

/// Run a whole cluster on this machine, with its disk served by NBD, until Ctrl-C
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Dev {
    /// Where everything is kept between runs: configuration, keys, data and logs
    #[arg(long, default_value = "atdd-data")]
    dir: PathBuf,

    /// How many processes; cannot change later [default: 3, or as many as DIR has]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=254))]
    processes: Option<u8>,

    /// The size of the disk; a larger one than before grows it [default: 1GiB, or as large as it is]
    #[arg(long)]
    size: Option<DiskSize>,

    /// Where to serve the disk by NBD
    #[arg(
        long,
        value_name = nbd_address::FORM,
        value_parser = nbd_address::parse,
        default_value = "127.0.0.1:10809"
    )]
    nbd: Address,
}

const EXAMPLES: &str = "\
Examples:
  atdd dev
  atdd dev --dir /srv/disk --size 20GiB --nbd unix:/tmp/disk.sock
  atdd status --config atdd-data/cluster.toml      (while it runs, in another terminal)

The log of process N is in DIR/process-N.log; warnings and errors are shown here too.";

impl Dev {
    pub(crate) fn run(self, logging: &Logging) -> Result<ExitCode> {
        let data = DataDir::open(&self.dir, self.processes, self.size)?;
        nbd_address::check_free(&self.nbd, nbd_address::NBD)?;
        let processes = data.file().processes();
        let members = processes.ranks().map(|rank| {
            let mut arguments = data.serve_arguments(rank);
            if rank.place() == 0 {
                arguments.extend(["--nbd".into(), nbd_address::argument(&self.nbd)]);
            }
            if let Some(filter) = &logging.log {
                arguments.extend(["--log".into(), filter.into()]);
            }
            Member::new(rank, arguments, data.log_path(rank))
        });
        let members = members.collect();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.context("cannot start")?;
        runtime.block_on(supervise::run(members, &data, &self.nbd))?;
        Ok(ExitCode::SUCCESS)
    }
}
