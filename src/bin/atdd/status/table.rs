//! The answers of all processes as a table.

use atdd::config::Cluster;
use atdd::domain::StatusReport;

use super::Answer;
use super::health::state_in_words;
use crate::output::columns;

/// One line for each process, in columns, under a line of titles.
pub(super) fn render(cluster: &Cluster, answers: &[Answer]) -> String {
    let mut rows = vec![TITLES.map(str::to_owned)];
    rows.extend(answers.iter().map(|answer| row(cluster, answer)));
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

fn row(cluster: &Cluster, answer: &Answer) -> [String; COLUMNS] {
    let rank = answer.rank.to_string();
    let address = cluster.processes.address(answer.rank).to_string();
    let nothing = || "-".to_owned();
    let Ok(report) = &answer.report else {
        let row = [rank, address, "down".to_owned()].into_iter();
        let row: Vec<_> = row
            .chain(std::iter::repeat_with(nothing))
            .take(COLUMNS)
            .collect();
        return row.try_into().expect("as many as there are columns");
    };
    [
        rank,
        address,
        state_in_words(&report.state),
        report.incarnation.0.to_string(),
        report.sectors_stored.to_string(),
        report.operations_in_flight.to_string(),
        peers(report),
        report.nbd.clone().unwrap_or_else(nothing),
    ]
}

fn peers(report: &StatusReport) -> String {
    let connected = report.peers.iter().filter(|peer| peer.connected).count();
    format!("{connected}/{}", report.peers.len())
}
