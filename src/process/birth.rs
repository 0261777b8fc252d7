//! When a process may believe that its cluster is born, and with which stores.
//!
//! Pure rules over what the processes have told one another. They guarantee that an empty store
//! never votes in a cluster where an earlier store of the same rank may have acknowledged
//! something: it would vote from amnesia. They rely on a store's identity being drawn anew
//! whenever its directory is made, and on a process recording its birth durably before it serves.
//!
//! - A process that is not born yet is born once it has met **all** others in one session each,
//!   and each of them is either not born or names this very store in its own record.
//! - Or once N/2+1 of the others name this very store. (Any two such majorities of the N-1 others
//!   share a process, and a process never names two stores for one rank, so no second directory
//!   of the rank can get as many.) This is how a process that crashed on the way to its birth, or
//!   was absent when the operator vouched for the first start, comes in later.
//! - Or at once when the operator vouches for a first start (`--new-cluster`), with the own store
//!   and those of at least a majority together, each of the others not born or naming this very
//!   store. With one process it is implied.
//! - A process that finds another store named for its rank is refused: its directory was lost.

use std::collections::BTreeMap;

use crate::domain::{Birth, Rank, StoreId};

/// What a process has said of itself in a session that is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Met {
    /// Its store.
    pub(crate) store: StoreId,
    /// Its record, if it is born.
    pub(crate) birth: Option<Birth>,
}

/// What follows from what is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Record this, durably, and serve.
    Born(Birth),
    /// Not yet: these have not been met, or do not yet name this store.
    Wait {
        /// In the order of ranks.
        missing: Vec<Rank>,
    },
    /// Never with this directory.
    Refused {
        /// Who knows better.
        by: Rank,
        /// The store that it names for this rank.
        named: StoreId,
    },
}

/// A process that has no record of its cluster's birth yet.
#[derive(Clone, Debug)]
pub(crate) struct Unborn {
    pub(crate) own: Rank,
    pub(crate) store: StoreId,
    pub(crate) processes: u8,
    /// The operator vouches that this is the cluster's first start.
    pub(crate) vouched: bool,
}

impl Unborn {
    /// What follows at once from the record of one that is born: whether this directory is refused.
    /// It names no two stores for a rank, whoever passes it on and whenever.
    pub(crate) fn refusal(&self, by: Rank, birth: &Birth) -> Option<Verdict> {
        let named = named(birth, self.own)?;
        (named != self.store).then_some(Verdict::Refused { by, named })
    }

    /// What follows when these processes are met at this moment.
    pub(crate) fn judge(&self, met: &BTreeMap<Rank, Met>) -> Verdict {
        let mut naming = 0;
        let mut missing = Vec::new();
        let mut agreeing = 0;
        for rank in Rank::all(self.processes).filter(|rank| *rank != self.own) {
            match met.get(&rank) {
                None => missing.push(rank),
                Some(Met { birth: None, .. }) => agreeing += 1,
                Some(Met {
                    birth: Some(birth), ..
                }) => match named(birth, self.own) {
                    Some(store) if store == self.store => {
                        naming += 1;
                        agreeing += 1;
                    }
                    Some(named) => return Verdict::Refused { by: rank, named },
                    None => missing.push(rank),
                },
            }
        }
        let majority = self.majority();
        let everyone = missing.is_empty();
        let vouched = self.vouched && agreeing + 1 >= majority;
        if everyone || naming >= majority || vouched {
            Verdict::Born(self.birth(met))
        } else {
            Verdict::Wait { missing }
        }
    }

    /// How many processes are more than half of them.
    pub(crate) fn majority(&self) -> usize {
        usize::from(self.processes) / 2 + 1
    }

    /// The record: every store that is met, and what those that were met have on record.
    fn birth(&self, met: &BTreeMap<Rank, Met>) -> Birth {
        let on_record = |rank: Rank| {
            met.values()
                .filter_map(|met| met.birth.as_ref())
                .find_map(|birth| named(birth, rank))
        };
        let stores = Rank::all(self.processes)
            .map(|rank| {
                if rank == self.own {
                    Some(self.store)
                } else {
                    on_record(rank).or_else(|| met.get(&rank).map(|met| met.store))
                }
            })
            .collect();
        Birth { stores }
    }
}

/// What a born process makes of another's store.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Recognition {
    /// It is the store on record.
    Known,
    /// The rank has no store on record: this one is to be recorded, durably, before it counts.
    Adopt,
    /// Another store is on record: this directory is new, or another's.
    Stranger {
        /// The store on record.
        recorded: StoreId,
    },
}

/// What a process with this record makes of the store that `rank` comes with.
pub(crate) fn recognize(birth: &Birth, rank: Rank, store: StoreId) -> Recognition {
    match named(birth, rank) {
        Some(recorded) if recorded == store => Recognition::Known,
        Some(recorded) => Recognition::Stranger { recorded },
        None => Recognition::Adopt,
    }
}

/// The record with one more store on it.
pub(crate) fn adopt(birth: &Birth, rank: Rank, store: StoreId) -> Birth {
    let mut adopted = birth.clone();
    if let Some(entry @ None) = adopted.stores.get_mut(rank.place()) {
        *entry = Some(store);
    }
    adopted
}

fn named(birth: &Birth, rank: Rank) -> Option<StoreId> {
    birth.stores.get(rank.place()).copied().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank(number: u8) -> Rank {
        Rank::new(number).unwrap()
    }

    fn store(number: u8) -> StoreId {
        StoreId([number; 16])
    }

    fn record(stores: &[u8]) -> Birth {
        Birth {
            stores: stores
                .iter()
                .map(|&number| (number > 0).then(|| store(number)))
                .collect(),
        }
    }

    fn unborn(processes: u8) -> Unborn {
        Unborn {
            own: rank(1),
            store: store(1),
            processes,
            vouched: false,
        }
    }

    fn met(others: &[(u8, u8, Option<&[u8]>)]) -> BTreeMap<Rank, Met> {
        let entry = |&(number, id, birth): &(u8, u8, Option<&[u8]>)| {
            (
                rank(number),
                Met {
                    store: store(id),
                    birth: birth.map(record),
                },
            )
        };
        others.iter().map(entry).collect()
    }

    #[test]
    fn all_must_meet() {
        let unborn = unborn(3);
        assert_eq!(
            unborn.judge(&met(&[(2, 2, None)])),
            Verdict::Wait {
                missing: vec![rank(3)]
            },
            "two of three are a majority, and still not all"
        );
        assert_eq!(
            unborn.judge(&met(&[(2, 2, None), (3, 3, None)])),
            Verdict::Born(record(&[1, 2, 3]))
        );
    }

    #[test]
    fn one_process_is_born_alone() {
        assert_eq!(unborn(1).judge(&met(&[])), Verdict::Born(record(&[1])));
    }

    #[test]
    fn a_crash_on_the_way_to_birth_is_made_up_for() {
        let others = met(&[(2, 2, Some(&[1, 2, 3])), (3, 3, None)]);
        assert_eq!(unborn(3).judge(&others), Verdict::Born(record(&[1, 2, 3])));
    }

    #[test]
    fn a_lost_directory_is_refused_even_by_one() {
        let others = met(&[(2, 2, Some(&[9, 2, 3]))]);
        assert_eq!(
            unborn(3).judge(&others),
            Verdict::Refused {
                by: rank(2),
                named: store(9)
            }
        );
    }

    #[test]
    fn one_witness_is_not_enough_where_others_are_silent() {
        // Process 3 may have named another store of rank 1 that has acknowledged since.
        let others = met(&[(2, 2, Some(&[1, 2, 3]))]);
        assert_eq!(
            unborn(3).judge(&others),
            Verdict::Wait {
                missing: vec![rank(3)]
            }
        );
        let others = met(&[(2, 2, Some(&[1, 2, 3])), (3, 3, Some(&[1, 2, 3]))]);
        assert_eq!(
            unborn(5).judge(&others).waiting(),
            Some(vec![rank(4), rank(5)])
        );
        let others = met(&[
            (2, 2, Some(&[1, 2, 3, 4, 5])),
            (3, 3, Some(&[1, 2, 3, 4, 5])),
            (4, 4, Some(&[1, 2, 3, 4, 5])),
        ]);
        assert_eq!(
            unborn(5).judge(&others),
            Verdict::Born(record(&[1, 2, 3, 4, 5]))
        );
    }

    #[test]
    fn a_record_alone_refuses_another_directory() {
        let unborn = unborn(3);
        let other = record(&[9, 2, 3]);
        assert_eq!(
            unborn.refusal(rank(2), &other),
            Some(Verdict::Refused {
                by: rank(2),
                named: store(9)
            })
        );
        assert_eq!(unborn.refusal(rank(2), &record(&[1, 2, 3])), None);
        assert_eq!(unborn.refusal(rank(2), &record(&[0, 2, 3])), None);
    }

    #[test]
    fn the_operator_vouches_for_a_majority_once() {
        let vouching = Unborn {
            vouched: true,
            ..unborn(3)
        };
        assert_eq!(
            vouching.judge(&met(&[])),
            Verdict::Wait {
                missing: vec![rank(2), rank(3)]
            }
        );
        assert_eq!(
            vouching.judge(&met(&[(2, 2, None)])),
            Verdict::Born(record(&[1, 2, 0]))
        );
        let first_of_two = met(&[(2, 2, Some(&[1, 2, 0]))]);
        assert_eq!(
            vouching.judge(&first_of_two),
            Verdict::Born(record(&[1, 2, 0]))
        );
        let born_without = met(&[(2, 2, Some(&[0, 2, 3]))]);
        assert_eq!(
            vouching.judge(&born_without),
            Verdict::Wait {
                missing: vec![rank(2), rank(3)]
            },
            "a cluster that is born is not born again by the switch"
        );
    }

    #[test]
    fn who_was_absent_is_adopted_once() {
        let birth = record(&[1, 2, 0]);
        assert_eq!(recognize(&birth, rank(3), store(3)), Recognition::Adopt);
        let birth = adopt(&birth, rank(3), store(3));
        assert_eq!(recognize(&birth, rank(3), store(3)), Recognition::Known);
        assert_eq!(
            recognize(&birth, rank(3), store(4)),
            Recognition::Stranger { recorded: store(3) }
        );
        assert_eq!(
            adopt(&birth, rank(3), store(4)),
            birth,
            "a store on record is never replaced"
        );
    }

    impl Verdict {
        fn waiting(self) -> Option<Vec<Rank>> {
            match self {
                Self::Wait { missing } => Some(missing),
                _ => None,
            }
        }
    }
}
