//! The answers of all processes as a table.

use atdd::config::Cluster;
use atdd::domain::StatusReport;

use super::health::state_in_words;
use super::held::Holders;
use super::{Answer, Silence};
use crate::output::columns;

/// One line for each process, in columns, under a line of titles.
pub(super) fn render(cluster: &Cluster, answers: &[Answer], holders: &Holders) -> String {
    let mut rows = vec![TITLES.map(str::to_owned)];
    rows.extend(answers.iter().map(|answer| row(cluster, answer, holders)));
    columns(&rows)
}

const COLUMNS: usize = 8;

const TITLES: [&str; COLUMNS] = [
    "rank",
    "address",
    "state",
    "incarnation",
    "sectors",
    "in flight",
    "peers",
    "nbd",
];

fn row(cluster: &Cluster, answer: &Answer, holders: &Holders) -> [String; COLUMNS] {
    let rank = answer.rank.to_string();
    let address = cluster.processes.address(answer.rank).to_string();
    let nothing = || "-".to_owned();
    let report = match &answer.report {
        Ok(report) => report,
        Err(silence) => {
            let state = match silence {
                Silence::Down(_) => "down",
                Silence::Refuses(_) => "refuses",
            };
            let row = [rank, address, state.to_owned()].into_iter();
            let row = row.chain(std::iter::repeat_with(nothing));
            let row: Vec<_> = row.take(COLUMNS).collect();
            return row.try_into().expect("as many as there are columns");
        }
    };
    [
        rank,
        address,
        state_in_words(&report.state),
        report.incarnation.0.to_string(),
        report.sectors_stored.to_string(),
        report.operations_in_flight.to_string(),
        peers(report),
        nbd(report, holders).unwrap_or_else(nothing),
    ]
}

/// Where NBD is served, and whether clients are let in.
fn nbd(report: &StatusReport, holders: &Holders) -> Option<String> {
    let uri = report.nbd.as_ref()?;
    Some(
        match (report.nbd_taken_over_by, holders.keeps_out(report)) {
            (Some(_), _) => format!("{uri} (lets nobody in)"),
            (None, Some(holder)) => format!("{uri} (held by {holder})"),
            (None, None) => uri.clone(),
        },
    )
}

fn peers(report: &StatusReport) -> String {
    let connected = report.peers.iter().filter(|peer| peer.connected).count();
    format!("{connected}/{}", report.peers.len())
}
