//! The log on stderr.

use std::io::IsTerminal;

use anyhow::{Context, Result};
use clap::Args;
use tracing_subscriber::EnvFilter;

/// What is logged.
#[derive(Args)]
pub(crate) struct Logging {
    /// What to log on stderr: a level, or levels for parts of the program
    ///
    /// One of error, warn, info, debug and trace, or a list such as `info,atdd::net=debug`. The
    /// default is what the variable `RUST_LOG` says, or else info for `serve` and `nbd`, and warn
    /// for the other commands.
    #[arg(long, global = true, value_name = "FILTER")]
    pub(crate) log: Option<String>,
}

impl Logging {
    /// Sets the log up, for the life of the program.
    pub(crate) fn start(&self, serves: bool) -> Result<()> {
        let from_environment = std::env::var(EnvFilter::DEFAULT_ENV).ok();
        let (filter, origin) = match (&self.log, &from_environment) {
            (Some(filter), _) => (filter.as_str(), "--log"),
            (None, Some(filter)) if !filter.is_empty() => (filter.as_str(), "RUST_LOG"),
            _ if serves => ("info", "the default"),
            _ => ("warn", "the default"),
        };
        let filter: EnvFilter = filter.parse().with_context(|| {
            format!("{origin} is `{filter}`, which is no filter; write for example info,atdd=debug")
        })?;
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal())
            // A log that cannot be written must not end a process that serves a disk, as the
            // panic of a failed `eprintln!` would.
            .log_internal_errors(false)
            .init();
        Ok(())
    }
}
