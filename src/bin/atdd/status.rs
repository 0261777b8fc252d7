//! `atdd status`: how the processes of a cluster are.

pub(crate) mod health;
mod held;
mod table;

use std::fmt;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use atdd::client::StatusError;
use atdd::config::{Cluster, ClusterFile};
use atdd::domain::{Rank, StatusReport};
use clap::Args;
use futures_util::future::join_all;
use serde_json::json;

use crate::output;
use health::Health;
use held::Holders;

/// Ask every process of a cluster how it is
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Status {
    /// The cluster.toml that `atdd init` wrote
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Example:
  atdd status --config /etc/atdd/cluster.toml

Exit codes: 0 healthy, 1 degraded (something is down or missing, the disk works), 2 no majority (the
disk waits), 64 wrong usage, 78 wrong configuration (also when the processes do not let this client
in: another key, another cluster).";

impl Status {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let cluster = ClusterFile::load(&self.config)?.cluster()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let asking = async { tokio::join!(ask_all(&cluster), Holders::ask(&cluster)) };
        let (answers, holders) = runtime.context("cannot start")?.block_on(asking);
        let health = Health::of(&answers);
        output::print(&if self.json {
            format!("{:#}\n", as_json(&cluster, &answers, &holders, &health))
        } else {
            let table = table::render(&cluster, &answers, &holders);
            format!("{table}{health}\n")
        })?;
        Ok(ExitCode::from(health.exit_code()))
    }
}

/// What one process answered, or why it did not.
pub(crate) struct Answer {
    pub(crate) rank: Rank,
    pub(crate) report: Result<StatusReport, Silence>,
}

/// Why a process does not say how it is.
#[derive(Clone, Debug)]
pub(crate) enum Silence {
    /// It does not answer at all.
    Down(String),
    /// It does not let this client in: with what to do about it.
    Refuses(String),
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Down(why) | Self::Refuses(why)) = self;
        f.write_str(why)
    }
}

/// Asks the process of this rank, within the deadline.
pub(crate) async fn ask(cluster: &Cluster, rank: Rank) -> Answer {
    let answer = tokio::time::timeout(DEADLINE, atdd::client::status(cluster, rank)).await;
    let report = match answer {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(error @ StatusError::Refused(_))) => Err(Silence::Refuses(error.to_string())),
        Ok(Err(error)) => Err(Silence::Down(format!("{:#}", anyhow::Error::from(error)))),
        Err(_) => Err(Silence::Down(format!(
            "no answer in {} s",
            DEADLINE.as_secs()
        ))),
    };
    Answer { rank, report }
}

/// Asks all processes at once.
pub(crate) async fn ask_all(cluster: &Cluster) -> Vec<Answer> {
    join_all(cluster.processes.ranks().map(|rank| ask(cluster, rank))).await
}

const DEADLINE: Duration = Duration::from_secs(2);

fn as_json(
    cluster: &Cluster,
    answers: &[Answer],
    holders: &Holders,
    health: &Health,
) -> serde_json::Value {
    let processes = answers.iter().map(|answer| {
        let address = cluster.processes.address(answer.rank).to_string();
        let rank = answer.rank.number();
        match &answer.report {
            Ok(report) => json!({
                "rank": rank, "address": address, "up": true, "report": report,
                "nbd_held_by": holders.keeps_out(report),
            }),
            Err(error) => json!({
                "rank": rank, "address": address, "up": false, "error": error.to_string(),
            }),
        }
    });
    json!({
        "cluster": cluster.id.to_string(),
        "size": cluster.size.bytes(),
        "health": health.name(),
        "reasons": health.reasons(),
        "processes": processes.collect::<Vec<_>>(),
    })
}
