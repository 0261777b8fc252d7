//! What a process says of itself.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Incarnation, Rank};

/// The state of one process, asked for by `atdd status`; travels as JSON.
///
/// Processes of different versions understand one another's: a field that is not known is
/// ignored, one that is not there has its default, and a state that is not known is
/// [`ProcessState::Unknown`]. So a field once added never changes its meaning or unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// Who speaks.
    #[serde(with = "rank_number")]
    pub rank: Rank,
    /// How often its store was started.
    #[serde(default, with = "incarnation_number")]
    pub incarnation: Incarnation,
    /// The version of its program.
    #[serde(default)]
    pub version: String,
    /// What it is doing.
    #[serde(default)]
    pub state: ProcessState,
    /// How many sectors take space in its store.
    #[serde(default)]
    pub sectors_stored: u64,
    /// How many sectors the disk has by its configuration.
    #[serde(default)]
    pub disk_sectors: u64,
    /// How many operations of clients are under way in it, those that wait included.
    #[serde(default)]
    pub operations_in_flight: u64,
    /// Every other process, in rank order.
    #[serde(default)]
    pub peers: Vec<PeerStatus>,
    /// Whether writes wait because the store's file system is full.
    #[serde(default)]
    pub waiting_for_space: bool,
    /// Where it serves NBD, if it does: the URI that clients take.
    #[serde(default)]
    pub nbd: Option<String>,
    /// The generation by which the disk was taken over from its NBD server, or released: it lets
    /// nobody in until the process is started again.
    #[serde(default)]
    pub nbd_taken_over_by: Option<u64>,
    /// The newest generation of the disk that is stable in its store.
    #[serde(default)]
    pub generation: u64,
    /// How many records its store has made since its start of ranges that were settled without
    /// their values.
    #[serde(default)]
    pub settle_records: u64,
}

/// What a process is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum ProcessState {
    /// Its store is being read; it serves nothing yet.
    Recovering,
    /// The cluster is not born: it has never met these processes, and serves nothing before that.
    WaitingForBirth {
        /// Who has not been met, ascending.
        #[serde(with = "rank_numbers")]
        missing: Vec<Rank>,
    },
    /// It reaches a majority and serves.
    Serving,
    /// It reaches no majority: operations wait.
    WaitingForMajority {
        /// For so many seconds.
        seconds: u64,
    },
    /// It was told to end and does.
    Stopping,
    /// A state of a newer version.
    #[default]
    #[serde(other)]
    Unknown,
}

/// How a process stands with another.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// The other.
    #[serde(with = "rank_number")]
    pub rank: Rank,
    /// Whether there is an authenticated connection to it.
    #[serde(default)]
    pub connected: bool,
}

/// A rank as a JSON number from 1 to 254.
pub(super) mod rank_number {
    use super::{Deserialize, Deserializer, Rank, Serialize, Serializer};
    use serde::de::Error;

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde asks for a reference"
    )]
    pub(in super::super) fn serialize<S: Serializer>(
        rank: &Rank,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        rank.number().serialize(to)
    }

    pub(in super::super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Rank, D::Error> {
        Rank::new(u8::deserialize(from)?).ok_or_else(|| D::Error::custom("0 and 255 are no ranks"))
    }
}

/// Ranks as a list of JSON numbers.
mod rank_numbers {
    use super::{Deserialize, Deserializer, Rank, Serializer};
    use serde::de::Error;

    pub(super) fn serialize<S: Serializer>(ranks: &[Rank], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(ranks.iter().map(|rank| rank.number()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Rank>, D::Error> {
        let ranks = Vec::<u8>::deserialize(from)?.into_iter().map(Rank::new);
        let ranks: Option<_> = ranks.collect();
        ranks.ok_or_else(|| D::Error::custom("0 and 255 are no ranks"))
    }
}

/// An incarnation as a JSON number.
mod incarnation_number {
    use super::{Deserialize, Deserializer, Incarnation, Serialize, Serializer};

    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde asks for a reference"
    )]
    pub(super) fn serialize<S: Serializer>(of: &Incarnation, to: S) -> Result<S::Ok, S::Error> {
        of.0.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Incarnation, D::Error> {
        u32::deserialize(from).map(Incarnation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(state: ProcessState) -> StatusReport {
        StatusReport {
            rank: Rank::new(2).unwrap(),
            incarnation: Incarnation(7),
            version: "0.1.0".to_owned(),
            state,
            sectors_stored: 1000,
            disk_sectors: 262_144,
            operations_in_flight: 3,
            peers: vec![PeerStatus {
                rank: Rank::new(1).unwrap(),
                connected: true,
            }],
            waiting_for_space: false,
            nbd: Some("nbd://127.0.0.1:10809".to_owned()),
            nbd_taken_over_by: Some(3),
            generation: 4,
            settle_records: 9,
        }
    }

    #[test]
    fn a_report_keeps_its_form_in_json() {
        let missing = Rank::all(3).skip(1).collect();
        let waiting = report(ProcessState::WaitingForBirth { missing });
        let json = serde_json::to_string(&waiting).unwrap();
        let golden = concat!(
            r#"{"rank":2,"incarnation":7,"version":"0.1.0","#,
            r#""state":{"is":"waiting_for_birth","missing":[2,3]},"#,
            r#""sectors_stored":1000,"disk_sectors":262144,"operations_in_flight":3,"#,
            r#""peers":[{"rank":1,"connected":true}],"waiting_for_space":false,"#,
            r#""nbd":"nbd://127.0.0.1:10809","nbd_taken_over_by":3,"#,
            r#""generation":4,"settle_records":9}"#
        );
        assert_eq!(json, golden);
        assert_eq!(
            serde_json::from_str::<StatusReport>(golden).unwrap(),
            waiting
        );
        for state in [
            ProcessState::Recovering,
            ProcessState::Serving,
            ProcessState::WaitingForMajority { seconds: 12 },
            ProcessState::Stopping,
            ProcessState::Unknown,
        ] {
            let json = serde_json::to_string(&report(state.clone())).unwrap();
            assert_eq!(
                serde_json::from_str::<StatusReport>(&json).unwrap(),
                report(state)
            );
        }
    }

    #[test]
    fn reports_of_older_and_newer_versions_are_understood() {
        let older: StatusReport = serde_json::from_str(r#"{"rank":1}"#).unwrap();
        assert_eq!(older.state, ProcessState::Unknown);
        assert_eq!((older.generation, older.settle_records), (0, 0));
        assert_eq!(older.nbd_taken_over_by, None);
        let newer = r#"{"rank":1,"state":{"is":"rebuilding","percent":3},"moon":"full"}"#;
        let newer: StatusReport = serde_json::from_str(newer).unwrap();
        assert_eq!(newer.state, ProcessState::Unknown);
        assert!(serde_json::from_str::<StatusReport>(r#"{"rank":255}"#).is_err());
        assert!(serde_json::from_str::<StatusReport>(r#"{"rank":0}"#).is_err());
    }
}
