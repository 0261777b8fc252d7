//! What the processes of a cluster and its clients have in common.

use std::str::FromStr;

use super::{AddressError, ClientKey, DiskSize, HostPort};
use crate::domain::{ClusterId, ClusterIdError, Rank};

/// A cluster as its clients know it; a process knows more, in its
/// [`Configuration`](super::Configuration).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// What tells this cluster from every other.
    pub id: ClusterId,
    /// Where its processes listen.
    pub processes: Processes,
    /// How large its disk is.
    pub size: DiskSize,
    /// The secret of its clients.
    pub client_key: ClientKey,
}

/// The addresses of a cluster's processes in rank order: 1 to 254, no two the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Processes(Vec<HostPort>);

impl Processes {
    /// The processes at these addresses, the first of rank 1.
    pub fn new(addresses: Vec<HostPort>) -> Result<Self, ClusterError> {
        if addresses.is_empty() || addresses.len() > usize::from(Rank::MAX) {
            return Err(ClusterError::Count {
                count: addresses.len(),
            });
        }
        for (place, address) in addresses.iter().enumerate() {
            if let Some(first) = addresses[..place].iter().position(|other| other == address) {
                return Err(ClusterError::SameAddress {
                    address: address.clone(),
                    ranks: (first + 1, place + 1),
                });
            }
        }
        Ok(Self(addresses))
    }

    /// How many there are, from 1 to 254.
    pub fn count(&self) -> u8 {
        u8::try_from(self.0.len()).expect("checked when it was made")
    }

    /// Every rank, ascending.
    pub fn ranks(&self) -> impl DoubleEndedIterator<Item = Rank> + Clone + use<> {
        Rank::all(self.count())
    }

    /// The rank of this number, if there is such a process.
    pub fn rank(&self, number: u64) -> Option<Rank> {
        let rank = Rank::new(u8::try_from(number).ok()?)?;
        (rank.place() < self.0.len()).then_some(rank)
    }

    /// Where the process of this rank listens.
    ///
    /// # Panics
    /// When the rank is none of this cluster's.
    pub fn address(&self, rank: Rank) -> &HostPort {
        &self.0[rank.place()]
    }

    /// All addresses in rank order.
    pub fn addresses(&self) -> &[HostPort] {
        &self.0
    }
}

/// `HOST:PORT,HOST:PORT,…`, the form of the command line.
impl FromStr for Processes {
    type Err = ClusterError;

    fn from_str(text: &str) -> Result<Self, ClusterError> {
        let addresses = text.split(',').map(|address| address.trim().parse());
        Self::new(addresses.collect::<Result<_, AddressError>>()?)
    }
}

/// Why something cannot describe a cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClusterError {
    /// The identity cannot be read.
    #[error(transparent)]
    Id(#[from] ClusterIdError),
    /// One address cannot be read.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// There are too few or too many.
    #[error(
        "a cluster has from 1 to 254 processes, and {count} are listed; list the address of each \
         process once, in the order of ranks"
    )]
    Count {
        /// How many are listed.
        count: usize,
    },
    /// Two processes cannot listen at the same place.
    #[error(
        "{address} is listed for rank {} and for rank {}; give each process an address of its own",
        ranks.0, ranks.1
    )]
    SameAddress {
        /// The address in question.
        address: HostPort,
        /// Who has it.
        ranks: (usize, usize),
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_have_ranks_from_one_on() {
        let processes: Processes = "a:1, b:2,a:2".parse().unwrap();
        assert_eq!(processes.count(), 3);
        let third = processes.rank(3).unwrap();
        assert_eq!(processes.address(third).to_string(), "a:2");
        assert_eq!(processes.ranks().last(), Some(third));
        for number in [0, 4, 255, 256, 257, u64::MAX] {
            assert_eq!(processes.rank(number), None);
        }
    }

    #[test]
    fn what_cannot_be_a_cluster_is_refused() {
        assert!(matches!(
            "".parse::<Processes>(),
            Err(ClusterError::Address(_))
        ));
        assert!(matches!(
            "a:1,".parse::<Processes>(),
            Err(ClusterError::Address(_))
        ));
        assert_eq!(
            "a:1,b:1,A:1".parse::<Processes>().unwrap_err().to_string(),
            "a:1 is listed for rank 1 and for rank 3; give each process an address of its own"
        );
        let list = |count: u32| (1..=count).map(|port| format!("a:{port}").parse().unwrap());
        assert!(Processes::new(list(254).collect()).is_ok());
        let too_many = Processes::new(list(255).collect());
        assert_eq!(too_many, Err(ClusterError::Count { count: 255 }));
        assert_eq!(
            Processes::new(vec![]),
            Err(ClusterError::Count { count: 0 })
        );
    }
}
