//! `atdd nbd`: a gateway, which serves the disk of a cluster by NBD on a client's own machine.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use atdd::client::{AttachOptions, Gateway};
use atdd::config::{ClientKey, Cluster, KeyError};
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use nbd_frontend::{Address, DEFAULT_PORT, Options, Server};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use crate::{attach, io_timeout, nbd_address, output};

/// Serve the disk by NBD on this machine, until SIGTERM or Ctrl-C
///
/// The disk is attached when the first NBD client opens it, and given back when the last has left.
/// When the process that serves it dies, the gateway goes on through another.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Nbd {
    /// The cluster.toml that `atdd init` wrote; the client key is enough
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// The address to listen on
    #[arg(
        short,
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1",
        conflicts_with = "unix"
    )]
    bind: String,

    /// The port to listen on; 0 lets the system choose
    #[arg(short, long, value_name = "N", default_value_t = DEFAULT_PORT, conflicts_with = "unix")]
    port: u16,

    /// Listen on a unix socket instead; one that nobody answers on is replaced
    #[arg(short = 'U', long, value_name = "PATH")]
    unix: Option<PathBuf>,

    /// Refuse writes; the disk may be in use elsewhere at the same time
    #[arg(short, long, conflicts_with_all = ["take_over", "join", "shared"])]
    read_only: bool,

    /// Take the disk over from whoever holds it when the first client opens it
    ///
    /// Whatever they have not been answered by then is lost to them, and may or may not happen.
    #[arg(long)]
    take_over: bool,

    /// Serve one device together with the other gateways of this name
    ///
    /// Their clients count as one: the kernel's `nbd-client` over several connections, or
    /// multipath. Never use it for two hosts that each mount the disk.
    #[arg(long, value_name = "NAME", conflicts_with = "shared", value_parser = NonEmptyStringValueParser::new())]
    join: Option<String>,

    /// The secret of the gateways of that name, in the form of a client key: 64 hex digits, in a
    /// file that only its owner may read [default: the cluster's client key]
    #[arg(long, value_name = "FILE", requires = "join")]
    join_secret: Option<PathBuf>,

    /// Let several hosts write at the same time, which coordinate themselves
    ///
    /// For cluster filesystems. An ext4 or XFS that two hosts mount is destroyed.
    #[arg(long)]
    shared: bool,

    /// Fail what has waited for a majority for so many seconds [default: wait for ever]
    ///
    /// A filesystem that sees such a failure may go read-only until it is checked. Not with
    /// `--join`: what failed may still happen, after what was sent over another gateway.
    #[arg(long, value_name = "S", conflicts_with = "join", value_parser = io_timeout::parse)]
    io_timeout: Option<NonZeroU64>,
}

const EXAMPLES: &str = "\
Examples:
  atdd nbd --config cluster.toml             serves nbd://127.0.0.1:10809
  nbd-client -b 4096 127.0.0.1 /dev/nbd0     a block device, as root
  atdd nbd --config cluster.toml --unix /run/atdd.sock
  atdd nbd --config cluster.toml --join db1 --port 10810
                                             one of several gateways of one device

The first line on stdout is the URI of the disk, once clients can connect. A client that cannot have
the disk is told why, as is the log.";

const WORDING: nbd_address::Wording = nbd_address::Wording {
    elsewhere: "--port 10810 or --unix /tmp/disk.sock",
    unix: "--unix PATH",
};

/// How long requests may take when the gateway ends.
const GRACE: Duration = Duration::from_secs(3);

/// How long the disk may take after that to be given back, with what is still under way. It mostly
/// takes no time; whoever ends the gateway waits for it.
const RETURN_LIMIT: Duration = Duration::from_secs(10);

/// More do not get faster.
const THREADS_MAX: usize = 4;

impl Nbd {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let cluster = attach::cluster(&self.config)?;
        let address = self.address()?;
        nbd_address::check_length(&address)?;
        nbd_address::check_free(&address, WORDING)?;
        let options = self.attach_options(&cluster)?;
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.min(THREADS_MAX))
            .enable_all()
            .build();
        let runtime = runtime.context("cannot start the threads of the gateway")?;
        runtime.block_on(serve(cluster, &address, options))?;
        Ok(ExitCode::SUCCESS)
    }

    fn address(&self) -> Result<Address> {
        Ok(match &self.unix {
            Some(path) => Address::Unix(path.clone()),
            None if self.bind.contains(':') && !self.bind.starts_with('[') => {
                format!("[{}]:{}", self.bind, self.port).parse()?
            }
            None => format!("{}:{}", self.bind, self.port).parse()?,
        })
    }

    fn attach_options(&self, cluster: &Cluster) -> Result<AttachOptions> {
        let options = match &self.join {
            Some(name) => match &self.join_secret {
                Some(file) => AttachOptions::join(name, join_secret(file)?.bytes()),
                None => AttachOptions::join(name, cluster.client_key.bytes()),
            },
            None if self.read_only => AttachOptions::read_only(),
            None if self.shared => AttachOptions::shared(),
            None => AttachOptions::exclusive(),
        };
        Ok(AttachOptions {
            take_over: self.take_over,
            deadline: self
                .io_timeout
                .map(|limit| Duration::from_secs(limit.get())),
            ..options
        })
    }
}

fn join_secret(file: &Path) -> Result<ClientKey> {
    let path = file.display();
    ClientKey::load(file).map_err(|error| {
        let remedy = match error {
            KeyError::OpenToOthers { .. } => format!("run: chmod 600 {path}"),
            KeyError::Read(_)
            | KeyError::NotAFile
            | KeyError::WrongLength { .. }
            | KeyError::NotHex { .. } => "name a file of this user with 64 hex digits, the same for \
                all gateways of that name, or leave --join-secret out to use the cluster's client key"
                .to_owned(),
        };
        anyhow!("--join-secret: the file {path} {error}; {remedy}")
    })
}

async fn serve(cluster: Cluster, address: &Address, options: AttachOptions) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?;
    let terms = Options {
        description: "Atomic Disk Drive".to_owned(),
        read_only: options.kind == atdd::domain::AttachKind::ReadOnly,
        grace: GRACE,
        ..Options::default()
    };
    let gateway = Arc::new(Gateway::new(cluster, options));
    let server = Server::bind(address, terms, Arc::clone(&gateway)).await?;
    output::print(&format!("{}\n", server.uri()))?;
    server
        .run(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
        .await;
    if timeout(RETURN_LIMIT, gateway.returned()).await.is_err() {
        tracing::warn!(
            "ending without having given the disk back, since the processes do not answer; it is \
             free once they notice"
        );
    }
    Ok(())
}
