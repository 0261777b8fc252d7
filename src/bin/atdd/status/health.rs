//! What the answers of all processes say of the cluster.

use std::collections::BTreeMap;
use std::fmt;

use atdd::domain::{ProcessState, Rank, StatusReport};

use super::{Answer, Silence};
use crate::EXIT_CONFIG;

/// How a cluster is, with the reasons where it is not well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// All processes serve and reach one another.
    Healthy,
    /// The disk works, but something is down or missing.
    Degraded(Vec<String>),
    /// No process that answers reaches a majority: the disk waits.
    NoMajority(Vec<String>),
    /// Nothing is known, since processes do not let this client in.
    Refused(Vec<String>),
}

impl Health {
    /// Judges the answers. A process that says it serves reaches a majority, whatever this asker
    /// can reach.
    pub(crate) fn of(answers: &[Answer]) -> Self {
        let mut reasons: Vec<_> = answers.iter().flat_map(reasons).collect();
        let refusals = refusals(answers);
        let refused = !refusals.is_empty();
        reasons.extend(refusals);
        let serves = |answer: &Answer| match &answer.report {
            Ok(report) => report.state == ProcessState::Serving,
            Err(_) => false,
        };
        let anybody = answers.iter().any(serves);
        if !anybody && refused {
            Self::Refused(reasons)
        } else if !anybody {
            Self::NoMajority(reasons)
        } else if !reasons.is_empty() {
            Self::Degraded(reasons)
        } else {
            Self::Healthy
        }
    }

    /// The exit code of `atdd status`.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Healthy => 0,
            Self::Degraded(_) => 1,
            Self::NoMajority(_) => 2,
            Self::Refused(_) => EXIT_CONFIG,
        }
    }

    /// One word for programs.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded(_) => "degraded",
            Self::NoMajority(_) => "no_majority",
            Self::Refused(_) => "refused",
        }
    }

    /// Why it is not healthy, process by process.
    pub(crate) fn reasons(&self) -> &[String] {
        match self {
            Self::Healthy => &[],
            Self::Degraded(reasons) | Self::NoMajority(reasons) | Self::Refused(reasons) => reasons,
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Healthy => f.write_str("healthy"),
            Self::Degraded(reasons) => write!(f, "degraded: {}", reasons.join("; ")),
            Self::NoMajority(reasons) => write!(f, "no majority: {}", reasons.join("; ")),
            Self::Refused(reasons) => write!(f, "not let in: {}", reasons.join("; ")),
        }
    }
}

/// What a process does, in words.
pub(crate) fn state_in_words(state: &ProcessState) -> String {
    match state {
        ProcessState::Recovering => "recovering".to_owned(),
        ProcessState::WaitingForBirth { missing } => {
            format!("waiting for the first meeting with {}", list(missing))
        }
        ProcessState::Serving => "serving".to_owned(),
        ProcessState::WaitingForMajority { seconds } => {
            format!("waiting for a majority for {seconds} s")
        }
        ProcessState::Stopping => "stopping".to_owned(),
        ProcessState::Unknown => "in a state of a newer version".to_owned(),
    }
}

fn reasons(answer: &Answer) -> Vec<String> {
    let process = format!("process {}", answer.rank);
    let report = match &answer.report {
        Ok(report) => report,
        Err(Silence::Down(why)) => return vec![format!("{process} is down ({why})")],
        Err(Silence::Refuses(_)) => return Vec::new(),
    };
    let mut reasons = Vec::new();
    if report.state != ProcessState::Serving {
        reasons.push(format!("{process} is {}", state_in_words(&report.state)));
    }
    if report.waiting_for_space {
        reasons.push(format!("{process} waits for space on its disk"));
    }
    let missing = missing_peers(report);
    // Nobody is reached before the first meeting; whom that waits for is said already.
    let unborn = matches!(report.state, ProcessState::WaitingForBirth { .. });
    if !missing.is_empty() && !unborn {
        reasons.push(format!("{process} does not reach {}", list(&missing)));
    }
    if let Some(by) = report.nbd_taken_over_by {
        reasons.push(format!(
            "the NBD server of {process} lets nobody in, since the disk was taken over from it or \
             released (generation {by}): once none of its clients has the disk mounted, start the \
             process again"
        ));
    }
    reasons
}

/// Who does not let this client in, and why: mostly all for the same reason.
fn refusals(answers: &[Answer]) -> Vec<String> {
    let mut refusals: BTreeMap<&str, Vec<Rank>> = BTreeMap::new();
    for answer in answers {
        if let Err(Silence::Refuses(why)) = &answer.report {
            refusals.entry(why).or_default().push(answer.rank);
        }
    }
    let refusals = refusals.into_iter().map(|(why, ranks)| {
        let verb = if ranks.len() == 1 { "does" } else { "do" };
        format!("{} {verb} not let this client in: {why}", list(&ranks))
    });
    refusals.collect()
}

fn missing_peers(report: &StatusReport) -> Vec<Rank> {
    let missing = report.peers.iter().filter(|peer| !peer.connected);
    missing.map(|peer| peer.rank).collect()
}

fn list(ranks: &[Rank]) -> String {
    let ranks: Vec<_> = ranks.iter().map(ToString::to_string).collect();
    match ranks.as_slice() {
        [rank] => format!("process {rank}"),
        _ => format!("processes {}", ranks.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atdd::domain::PeerStatus;

    fn rank(number: u8) -> Rank {
        Rank::new(number).unwrap()
    }

    fn down(number: u8) -> Answer {
        Answer {
            rank: rank(number),
            report: Err(Silence::Down("connection refused".to_owned())),
        }
    }

    fn refuses(number: u8, why: &str) -> Answer {
        Answer {
            rank: rank(number),
            report: Err(Silence::Refuses(why.to_owned())),
        }
    }

    fn up(number: u8, state: ProcessState, unreached: &[u8]) -> Answer {
        let mut report: StatusReport =
            serde_json::from_str(&format!("{{\"rank\":{number}}}")).unwrap();
        report.state = state;
        let others = (1..=3).filter(|other| *other != number);
        report.peers = others
            .map(|other| PeerStatus {
                rank: rank(other),
                connected: !unreached.contains(&other),
            })
            .collect();
        Answer {
            rank: rank(number),
            report: Ok(report),
        }
    }

    #[test]
    fn healthy_is_when_all_serve_and_reach_one_another() {
        let all = [1, 2, 3].map(|number| up(number, ProcessState::Serving, &[]));
        assert_eq!(Health::of(&all), Health::Healthy);
        assert_eq!(Health::of(&all).exit_code(), 0);
    }

    #[test]
    fn anything_amiss_is_degraded_and_named() {
        let health = Health::of(&[
            up(1, ProcessState::Serving, &[3]),
            up(2, ProcessState::Recovering, &[]),
            down(3),
        ]);
        assert_eq!(health.exit_code(), 1);
        assert_eq!(
            health.to_string(),
            "degraded: process 1 does not reach process 3; process 2 is recovering; \
             process 3 is down (connection refused)"
        );
        let mut full = [1, 2, 3].map(|number| up(number, ProcessState::Serving, &[]));
        full[1].report.as_mut().unwrap().waiting_for_space = true;
        assert_eq!(
            Health::of(&full).reasons(),
            ["process 2 waits for space on its disk"]
        );
    }

    #[test]
    fn whoever_is_not_let_in_hears_why_and_not_that_all_is_down() {
        let key = "another key; copy it";
        let health = Health::of(&[refuses(1, key), refuses(2, key), down(3)]);
        assert_eq!((health.exit_code(), health.name()), (78, "refused"));
        assert_eq!(
            health.to_string(),
            "not let in: process 3 is down (connection refused); \
             processes 1, 2 do not let this client in: another key; copy it"
        );
        let serving = up(1, ProcessState::Serving, &[]);
        let one = Health::of(&[serving, refuses(2, "another rank")]);
        assert_eq!(
            one.to_string(),
            "degraded: process 2 does not let this client in: another rank"
        );
    }

    #[test]
    fn an_nbd_server_that_lets_nobody_in_is_not_healthy() {
        let mut all = [1, 2, 3].map(|number| up(number, ProcessState::Serving, &[]));
        all[1].report.as_mut().unwrap().nbd_taken_over_by = Some(7);
        let health = Health::of(&all);
        assert_eq!(health.exit_code(), 1);
        let said = health.to_string();
        assert!(
            said.contains("the NBD server of process 2 lets nobody in"),
            "{said}"
        );
        assert!(said.contains("(generation 7)") && said.contains("start the process again"));
    }

    #[test]
    fn no_majority_is_when_nobody_serves() {
        let waiting = ProcessState::WaitingForMajority { seconds: 9 };
        let health = Health::of(&[up(1, waiting, &[2, 3]), down(2), down(3)]);
        assert_eq!(health.exit_code(), 2);
        assert!(health.to_string().starts_with(
            "no majority: process 1 is waiting for a majority for 9 s; \
             process 1 does not reach processes 2, 3;"
        ));
        assert_eq!(Health::of(&[down(1), down(2), down(3)]).exit_code(), 2);
        let missing = vec![rank(3)];
        let unborn = ProcessState::WaitingForBirth { missing };
        assert_eq!(
            Health::of(&[up(1, unborn.clone(), &[]), up(2, unborn, &[])]).exit_code(),
            2
        );
    }
}
