//! `atdd status`: how the processes of a cluster are.

pub(crate) mod health;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use atdd::config::{Cluster, ClusterFile};
use atdd::domain::{Rank, StatusReport};
use clap::Args;
use futures_util::future::join_all;
use serde_json::json;

use crate::output;
use health::Health;

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
disk waits), 64 wrong usage, 78 wrong configuration.";

impl Status {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let cluster = ClusterFile::load(&self.config)?.cluster()?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let answers = runtime.context("cannot start")?.block_on(ask_all(&cluster));
        let health = Health::of(&answers);
        output::print(&if self.json {
            format!("{:#}\n", as_json(&cluster, &answers, &health))
        } else {
            format!("{}{health}\n", table::render(&cluster, &answers))
        })?;
        Ok(ExitCode::from(health.exit_code()))
    }
}

/// What one process answered, or why it did not.
pub(crate) struct Answer {
    pub(crate) rank: Rank,
    pub(crate) report: Result<StatusReport, String>,
}

/// Asks the process of this rank, within the deadline.
pub(crate) async fn ask(cluster: &Cluster, rank: Rank) -> Answer {
    let answer = tokio::time::timeout(DEADLINE, atdd::client::status(cluster, rank)).await;
    let report = match answer {
        Ok(Ok(report)) => Ok(report),
        Ok(Err(error)) => Err(format!("{:#}", anyhow::Error::from(error))),
        Err(_) => Err(format!("no answer in {} s", DEADLINE.as_secs())),
    };
    Answer { rank, report }
}

/// Asks all processes at once.
pub(crate) async fn ask_all(cluster: &Cluster) -> Vec<Answer> {
    join_all(cluster.processes.ranks().map(|rank| ask(cluster, rank))).await
}

const DEADLINE: Duration = Duration::from_secs(2);

fn as_json(cluster: &Cluster, answers: &[Answer], health: &Health) -> serde_json::Value {
    let processes = answers.iter().map(|answer| {
        let address = cluster.processes.address(answer.rank).to_string();
        let rank = answer.rank.number();
        match &answer.report {
            Ok(report) => json!({"rank": rank, "address": address, "up": true, "report": report}),
            Err(error) => json!({"rank": rank, "address": address, "up": false, "error": error}),
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
