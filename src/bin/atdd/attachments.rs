//! `atdd attachments`: who uses the disk.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use atdd::client::{self, Utc};
use atdd::config::Cluster;
use atdd::domain::{AttachmentReport, AttachmentsReport, OwnerId, Rank, ReportedKind};
use clap::Args;
use futures_util::future::join_all;
use serde_json::json;

use crate::output::columns;
use crate::{attach, output};

/// List who uses the disk, or end an attachment
///
/// An attachment whose client is gone ends by itself within seconds.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Attachments {
    /// The cluster.toml that `atdd init` wrote; the client key is enough
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// Print JSON, for programs
    #[arg(long, conflicts_with = "release")]
    json: bool,

    /// End the attachments of this owner, as if another had taken the disk over
    ///
    /// What they have not been answered by then may or may not happen. The gateways of one device
    /// (`atdd nbd --join`) are one owner: they are ended together.
    #[arg(long, value_name = "OWNER")]
    release: Option<OwnerId>,
}

const EXAMPLES: &str = "\
Examples:
  atdd attachments --config cluster.toml
  atdd attachments --config cluster.toml --release 0123456789abcdef0123456789abcdef

The kinds: exclusive (the only one that writes), joined (a further gateway of the same device),
shared (hosts that coordinate themselves), read-only (disturbs nobody).

Exit codes: 0 done, 1 some process did not answer or nothing was released, 64 wrong usage, 78 wrong
configuration.";

/// What one process answered, or why it did not.
type Answer<T> = (Rank, Result<T, String>);

impl Attachments {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let cluster = attach::cluster(&self.config)?;
        let runtime = attach::runtime()?;
        if let Some(owner) = self.release {
            let asked = cluster.processes.ranks();
            let asked = asked.map(|rank| in_words(rank, client::release(&cluster, rank, owner)));
            return released(owner, &runtime.block_on(join_all(asked)));
        }
        let asked = cluster.processes.ranks();
        let asked = asked.map(|rank| in_words(rank, client::attachments(&cluster, rank)));
        let answers = runtime.block_on(join_all(asked));
        output::print(&if self.json {
            format!("{:#}\n", as_json(&cluster, &answers))
        } else {
            as_text(&answers)
        })?;
        let all = answers.iter().all(|(_, answer)| answer.is_ok());
        Ok(if all {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        })
    }
}

async fn in_words<T>(
    rank: Rank,
    answer: impl Future<Output = Result<T, client::StatusError>>,
) -> Answer<T> {
    let answer = answer.await;
    let in_words = |error| match error {
        client::StatusError::Refused(_) => format!("it does not let this client in: {error}"),
        error => format!("{:#}", anyhow::Error::from(error)),
    };
    (rank, answer.map_err(in_words))
}

fn released(owner: OwnerId, answers: &[Answer<bool>]) -> Result<ExitCode> {
    let by = answers.iter().filter(|(_, answer)| *answer == Ok(true));
    let by: Vec<_> = by.map(|(rank, _)| rank.to_string()).collect();
    if !by.is_empty() {
        output::print(&format!("released at process {}\n", by.join(", ")))?;
        return Ok(ExitCode::SUCCESS);
    }
    let silent = silent(answers);
    if silent.is_empty() {
        bail!(
            "nobody is attached as {owner}; `atdd attachments` without --release lists the owners"
        );
    }
    bail!("no process that answers runs an attachment of {owner}; {silent}");
}

/// The processes that did not answer, and why.
fn silent<T>(answers: &[Answer<T>]) -> String {
    let silent = answers.iter().filter_map(|(rank, answer)| {
        let error = answer.as_ref().err()?;
        Some(format!("process {rank} does not answer ({error})"))
    });
    silent.collect::<Vec<_>>().join("; ")
}

fn as_text(answers: &[Answer<AttachmentsReport>]) -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.unwrap_or_default().as_secs();
    let mut rows = vec![TITLES.map(str::to_owned)];
    for (rank, answer) in answers {
        let attachments = answer.iter().flat_map(|report| &report.attachments);
        rows.extend(attachments.map(|attachment| row(*rank, attachment, now)));
    }
    let heard = answers.iter().filter(|(_, answer)| answer.is_ok()).count();
    let mut text = match (rows.len(), heard) {
        (1, 0) => "no process says who uses the disk\n".to_owned(),
        (1, _) if heard < answers.len() => {
            "nobody uses the disk through the processes that answer\n".to_owned()
        }
        (1, _) => "nobody uses the disk\n".to_owned(),
        _ => columns(&rows),
    };
    let silent = silent(answers);
    if !silent.is_empty() {
        text = text + "incomplete: " + &silent + "\n";
    }
    text
}

const TITLES: [&str; 7] = [
    "process",
    "kind",
    "client",
    "since",
    "for",
    "generation",
    "owner",
];

fn row(rank: Rank, attachment: &AttachmentReport, now: u64) -> [String; 7] {
    let held = now.saturating_sub(attachment.since);
    [
        rank.to_string(),
        kind(attachment.kind).to_owned(),
        attachment.client.clone(),
        Utc(attachment.since).to_string(),
        in_units(Duration::from_secs(held)),
        attachment.generation.0.to_string(),
        attachment.owner.to_string(),
    ]
}

fn kind(kind: ReportedKind) -> &'static str {
    match kind {
        ReportedKind::Exclusive => "exclusive",
        ReportedKind::Joined => "joined",
        ReportedKind::Shared => "shared",
        ReportedKind::ReadOnly => "read-only",
        ReportedKind::Unknown => "of a newer version",
    }
}

/// A time in its two largest units.
fn in_units(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

fn as_json(cluster: &Cluster, answers: &[Answer<AttachmentsReport>]) -> serde_json::Value {
    let processes = answers.iter().map(|(rank, answer)| {
        let address = cluster.processes.address(*rank).to_string();
        let rank = rank.number();
        match answer {
            Ok(report) => json!({
                "rank": rank, "address": address, "up": true, "attachments": report.attachments,
            }),
            Err(error) => json!({"rank": rank, "address": address, "up": false, "error": error}),
        }
    });
    json!({
        "cluster": cluster.id.to_string(),
        "processes": processes.collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use atdd::domain::Generation;

    fn rank(number: u8) -> Rank {
        Rank::new(number).unwrap()
    }

    #[test]
    fn attachments_are_listed_and_silence_is_said() {
        let attachment = AttachmentReport {
            owner: OwnerId([0xab; 16]),
            kind: ReportedKind::Exclusive,
            generation: Generation(7),
            client: "10.0.0.9:5123".to_owned(),
            since: 1_000_000_000,
        };
        let line = row(rank(2), &attachment, 1_000_000_075).join(" | ");
        assert_eq!(
            line,
            format!(
                "2 | exclusive | 10.0.0.9:5123 | 2001-09-09 01:46:40 UTC | 1 min 15 s | 7 | {}",
                "ab".repeat(16)
            )
        );
        let report = |attachments| AttachmentsReport {
            rank: rank(1),
            attachments,
        };
        assert_eq!(
            as_text(&[(rank(1), Ok(report(vec![])))]),
            "nobody uses the disk\n"
        );
        let gone = || (rank(2), Err("gone".to_owned()));
        let text = as_text(&[(rank(1), Ok(report(vec![]))), gone()]);
        let begins = "nobody uses the disk through the processes that answer\nincomplete: ";
        assert!(text.starts_with(begins), "{text}");
        let text = as_text(&[gone()]);
        let begins = "no process says who uses the disk\nincomplete: ";
        assert!(text.starts_with(begins), "{text}");
        let text = as_text(&[
            (rank(1), Ok(report(vec![attachment]))),
            (rank(2), Err("connection refused".to_owned())),
        ]);
        assert_eq!(text.lines().count(), 3);
        assert!(
            text.ends_with("\nincomplete: process 2 does not answer (connection refused)\n"),
            "{text}"
        );
    }

    #[test]
    fn times_are_shown_in_two_units() {
        for (seconds, shown) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min 0 s"),
            (3_599, "59 min 59 s"),
            (3_600, "1 h 0 min"),
            (86_399, "23 h 59 min"),
            (180_000, "2 d 2 h"),
        ] {
            assert_eq!(in_units(Duration::from_secs(seconds)), shown);
        }
    }

    #[test]
    fn a_release_that_found_nobody_is_an_error() {
        let owner = OwnerId([0xab; 16]);
        let nobody = released(owner, &[(rank(1), Ok(false))]).unwrap_err();
        assert!(nobody.to_string().contains("nobody is attached as abab"));
        let answers = [(rank(1), Ok(false)), (rank(2), Err("gone".to_owned()))];
        let unsure = released(owner, &answers).unwrap_err();
        assert!(
            unsure
                .to_string()
                .ends_with("process 2 does not answer (gone)")
        );
    }
}
