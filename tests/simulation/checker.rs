//! Whether the history of one sector is linearizable.
//!
//! The zone check of Gibbons and Korach ("Testing Shared Memories", 1997, section 4.2). Every
//! write has a value of its own, so that a write and the reads of its value form a cluster whose
//! operations are neighbours in every order that explains the history. With `f` the earliest end
//! and `s` the latest start in a cluster, its value is certainly the sector's from `f` to `s` if
//! `f < s` (a forward zone); otherwise the whole cluster fits into a point between `s` and `f` (a
//! backward zone). The history is linearizable exactly if no read ends before its write begins, no
//! two forward zones overlap, and no backward zone lies within a forward one.
//!
//! An operation that was never answered may take effect at any time after its start: its end is
//! never. So a read of its value is explained, and without one it says nothing.

use std::collections::BTreeMap;

/// The value of a sector that was never written.
pub(crate) const INITIAL: u64 = 0;

/// What an operation did to the sector.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Wrote this value, which nothing else writes.
    Write(u64),
    /// Read this value.
    Read(u64),
}

/// An operation on the sector.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) start: u64,
    /// `None` when it was never answered. No two starts or ends are equal, and all are above 0.
    pub(crate) end: Option<u64>,
    pub(crate) action: Action,
}

/// Says why the history is not linearizable, if it is not.
pub(crate) fn check(history: &[Event]) -> Result<(), String> {
    let clusters = clusters(history)?;
    let mut forward: Vec<(Zone, u64)> = Vec::new();
    let mut backward: Vec<(Zone, u64)> = Vec::new();
    for (&value, cluster) in &clusters {
        let (low, high) = (cluster.first_end, cluster.last_start);
        if low < high {
            forward.push((Zone { low, high }, value));
        } else {
            let zone = Zone {
                low: high,
                high: low,
            };
            backward.push((zone, value));
        }
    }
    forward.sort_by_key(|(zone, _)| zone.low);
    for pair in forward.windows(2) {
        let ((earlier, a), (later, b)) = (pair[0], pair[1]);
        if later.low < earlier.high {
            return Err(format!(
                "values {a} in {earlier:?} and {b} in {later:?} are both the sector's at once"
            ));
        }
    }
    for (zone, value) in backward {
        let before = forward.partition_point(|(other, _)| other.low < zone.low);
        if let Some(&(around, other)) = before.checked_sub(1).map(|at| &forward[at])
            && zone.high < around.high
        {
            return Err(format!(
                "value {value} in {zone:?} lies within value {other} in {around:?}"
            ));
        }
    }
    Ok(())
}

#[derive(Copy, Clone, Debug)]
struct Zone {
    low: u64,
    high: u64,
}

struct Cluster {
    write_start: u64,
    first_end: u64,
    last_start: u64,
}

fn clusters(history: &[Event]) -> Result<BTreeMap<u64, Cluster>, String> {
    let initial = Cluster {
        write_start: 0,
        first_end: 0,
        last_start: 0,
    };
    let mut clusters = BTreeMap::from([(INITIAL, initial)]);
    for event in history {
        if let Action::Write(value) = event.action {
            let cluster = Cluster {
                write_start: event.start,
                first_end: event.end.unwrap_or(u64::MAX),
                last_start: event.start,
            };
            if clusters.insert(value, cluster).is_some() {
                return Err(format!("value {value} was written twice"));
            }
        }
    }
    for event in history {
        let (Action::Read(value), Some(end)) = (event.action, event.end) else {
            continue;
        };
        let Some(cluster) = clusters.get_mut(&value) else {
            return Err(format!("value {value} was read but never written"));
        };
        if end < cluster.write_start {
            return Err(format!("value {value} was read before it was written"));
        }
        cluster.first_end = cluster.first_end.min(end);
        cluster.last_start = cluster.last_start.max(event.start);
    }
    Ok(clusters)
}
