//! What `atdd dev` says: two lines when all is well, and what it waits for when it is not.

use std::path::Path;
use std::time::Duration;

use atdd::config::Cluster;
use atdd::domain::{ProcessState, Rank, StatusReport};
use nbd_frontend::Address;
use tokio::time::{Instant, sleep};

use super::data_dir::DataDir;
use crate::output::{self, notice};
use crate::status::health::{Health, state_in_words};
use crate::status::{Answer, ask, ask_all};

/// How far the start has come.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(super) enum Readiness {
    /// Not yet.
    Starting,
    /// It is, but the processes may not all have found one another.
    Served,
    /// They have, or had the time for it: what they miss from now on is news.
    Settled,
}

/// Returns once the first process serves the disk. It is asked over its own port, as any client
/// would ask, so that the answer is worth something. While it does not serve, says from time to
/// time what is missing.
pub(super) async fn wait_until_served(cluster: &Cluster, data: &DataDir) {
    let mut complaint = Instant::now() + PATIENCE;
    let mut said = String::new();
    loop {
        let first = cluster
            .processes
            .ranks()
            .next()
            .expect("a cluster has a process");
        if is_served(&ask(cluster, first).await) {
            return;
        }
        if Instant::now() >= complaint {
            complaint = Instant::now() + PATIENCE;
            let missing = what_is_missing(&ask_all(cluster).await, data);
            if missing != said {
                notice(&format!("atdd: waiting: {missing}"));
                said = missing;
            }
        }
        sleep(STEP).await;
    }
}

/// Returns once all is well, or when it has had the time to become so.
pub(super) async fn wait_until_settled(cluster: &Cluster) {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end && Health::of(&ask_all(cluster).await) != Health::Healthy {
        sleep(STEP).await;
    }
}

/// The two lines.
pub(super) fn print(data: &DataDir, nbd: &Address, pids: &[u32]) {
    let pids: Vec<_> = pids.iter().map(ToString::to_string).collect();
    let (plural, count) = match pids.len() {
        1 => ("", 1),
        count => ("es", count),
    };
    let lines = format!(
        "{} in {} on {count} process{plural} (pid {}), served at {nbd}; Ctrl-C stops it.\nNext: {}\n",
        data.file().size(),
        data.path().display(),
        pids.join(", "),
        next_commands(nbd, data.is_new()),
    );
    // The disk is served whether anybody reads this or not.
    if let Err(error) = output::print(&lines) {
        notice(&format!("atdd: {error:#}"));
    }
}

/// How long it is silent.
const PATIENCE: Duration = Duration::from_secs(3);

/// How often it is asked.
const STEP: Duration = Duration::from_millis(30);

fn is_served(answer: &Answer) -> bool {
    let served =
        |report: &StatusReport| report.nbd.is_some() && report.state == ProcessState::Serving;
    answer.report.as_ref().is_ok_and(served)
}

fn what_is_missing(answers: &[Answer], data: &DataDir) -> String {
    let log = |rank: Rank| data.log_path(rank).display().to_string();
    let missing = answers.iter().filter_map(|answer| match &answer.report {
        Ok(report) if report.state == ProcessState::Serving => {
            let silent = answer.rank.place() == 0 && report.nbd.is_none();
            silent.then(|| format!("process {} does not serve NBD yet", answer.rank))
        }
        // How long it waits changes all the time and says nothing new.
        Ok(report) => match &report.state {
            ProcessState::WaitingForMajority { .. } => {
                Some(format!("process {} reaches no majority", answer.rank))
            }
            state => Some(format!(
                "process {} is {}",
                answer.rank,
                state_in_words(state)
            )),
        },
        Err(error) => Some(format!(
            "process {} does not answer ({error}; its log is {})",
            answer.rank,
            log(answer.rank)
        )),
    });
    missing.collect::<Vec<_>>().join("; ")
}

fn next_commands(nbd: &Address, is_new: bool) -> String {
    let (uri, client) = match nbd {
        Address::Tcp { host, port } => {
            let host = match host.as_str() {
                "0.0.0.0" | "::" => "localhost".to_owned(),
                host => host.to_owned(),
            };
            let client = format!("{host} {port}");
            (Address::Tcp { host, port: *port }.uri(""), client)
        }
        Address::Unix(path) => {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            let client = format!("-unix {}", quoted(&path));
            // The shell would take the question mark for a pattern.
            (format!("'{}'", Address::Unix(path).uri("")), client)
        }
    };
    // Only a new disk may be formatted without a thought.
    let format = if is_new {
        "sudo mkfs.ext4 /dev/nbd0 && "
    } else {
        ""
    };
    format!(
        "nbdinfo {uri}; sudo nbd-client {client} /dev/nbd0 -b 4096 && \
         {format}sudo mount /dev/nbd0 /mnt"
    )
}

fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
    if text.bytes().all(plain) {
        text
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nbd_address;

    #[test]
    fn what_to_type_fits_the_address() {
        let next =
            |address: &str, is_new| next_commands(&nbd_address::parse(address).unwrap(), is_new);
        assert_eq!(
            next("127.0.0.1:10809", false),
            "nbdinfo nbd://127.0.0.1:10809; sudo nbd-client 127.0.0.1 10809 /dev/nbd0 -b 4096 && \
             sudo mount /dev/nbd0 /mnt"
        );
        assert!(next("0.0.0.0:7", true).contains("nbd://localhost:7"));
        assert!(next("[::1]:7", true).contains("nbd-client ::1 7 /dev/nbd0"));
        assert!(next("127.0.0.1:7", true).contains("-b 4096 && sudo mkfs.ext4 /dev/nbd0 &&"));
        let unix = next("unix:/tmp/a b", false);
        assert!(unix.contains("'nbd+unix:///?socket=/tmp/a%20b'"), "{unix}");
        assert!(unix.contains("-unix '/tmp/a b' /dev/nbd0"), "{unix}");
    }
}
