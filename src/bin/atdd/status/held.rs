//! Who holds the disk, and keeps the clients of NBD servers out.

use atdd::client;
use atdd::config::Cluster;
use atdd::domain::{AttachmentsReport, Rank, ReportedKind, StatusReport};
use futures_util::future::join_all;

/// Those who hold the disk, by what the processes that answer say.
#[derive(Debug, Default)]
pub(super) struct Holders(Vec<(Rank, String)>);

/// What an NBD server of a process is called as a client.
const NBD_SERVER: &str = "NBD at ";

impl Holders {
    /// Asks all processes at once. Of one that does not answer, the status says so.
    pub(super) async fn ask(cluster: &Cluster) -> Self {
        let asked = cluster.processes.ranks();
        let asked = asked.map(|rank| client::attachments(cluster, rank));
        Self::of(join_all(asked).await.into_iter().flatten())
    }

    fn of(reports: impl Iterator<Item = AttachmentsReport>) -> Self {
        let held = reports.flat_map(|report| {
            let holding = report
                .attachments
                .into_iter()
                .filter(|attachment| attachment.kind != ReportedKind::ReadOnly);
            holding.map(move |attachment| (report.rank, attachment.client))
        });
        Self(held.collect())
    }

    /// The one for whose sake the NBD server of this process lets nobody in, if it has a server.
    pub(super) fn keeps_out(&self, report: &StatusReport) -> Option<String> {
        report.nbd.as_ref()?;
        let own = |(process, client): &&(Rank, String)| {
            *process == report.rank && client.starts_with(NBD_SERVER)
        };
        let (process, client) = self.0.iter().find(|holder| !own(holder))?;
        Some(format!("{client} through process {process}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holders(client: &str, kind: &str) -> Holders {
        let report = format!(
            r#"{{"rank":2,"attachments":[
                {{"owner":"{}","kind":"{kind}","client":"{client}"}}]}}"#,
            "ab".repeat(16)
        );
        Holders::of(std::iter::once(serde_json::from_str(&report).unwrap()))
    }

    fn status(rank: u8) -> StatusReport {
        serde_json::from_str(&format!(r#"{{"rank":{rank},"nbd":"nbd://here"}}"#)).unwrap()
    }

    #[test]
    fn whoever_holds_the_disk_keeps_all_others_out() {
        let server = holders("NBD at nbd://here", "exclusive");
        let by = "NBD at nbd://here through process 2";
        assert_eq!(server.keeps_out(&status(1)).as_deref(), Some(by));
        assert_eq!(
            server.keeps_out(&status(2)),
            None,
            "they are its own clients"
        );
        let silent = StatusReport {
            nbd: None,
            ..status(1)
        };
        assert_eq!(server.keeps_out(&silent), None);
        for kind in ["exclusive", "joined", "shared"] {
            let by = holders("10.0.0.9:1", kind).keeps_out(&status(2));
            assert_eq!(by.as_deref(), Some("10.0.0.9:1 through process 2"));
        }
        let reader = holders("10.0.0.9:1", "read_only");
        assert_eq!(reader.keeps_out(&status(2)), None);
        assert_eq!(Holders::default().keeps_out(&status(2)), None);
    }
}
