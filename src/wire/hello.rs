//! The plain hello that opens a session, one in each direction.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | [`SESSION_MAGIC`]: what makes a connection a session |
//! | 8 | 2 | version, [`VERSION`] |
//! | 10 | 1 | role: `01` peer, `02` client |
//! | 11 | 1 | rank of the sender; 0 for a client |
//! | 12 | 1 | processes in the sender's configuration; 0 for a client |
//! | 13 | 3 | zero |
//! | 16 | 16 | cluster |
//! | 32 | 4 | incarnation of the sender; 0 for a client |
//! | 36 | 4 | zero |
//! | 40 | 8 | identifier of the key that the sender means to use |
//!
//! Numbers are in network byte order. The first 16 bytes mean the same in every version. Nothing
//! in a hello is secret or believed by itself: both hellos are the prologue of the key exchange,
//! so that a session in which either was changed on its way never comes to be.

use super::auth::KeyIdentifier;
use crate::domain::{ClusterId, Incarnation, Rank};

/// The size of a hello.
pub const HELLO_BYTES: usize = 48;

/// The first bytes of a hello. The first is no ASCII, and the line ends make a connection through
/// something that rewrites text fail at once. Never the beginning of a classic message.
pub const SESSION_MAGIC: [u8; 8] = *b"\x8aADDs\r\n\x1a";

/// The version of sessions that this is.
pub const VERSION: u16 = 1;

const VERSION_AT: usize = SESSION_MAGIC.len();
const ROLE: usize = VERSION_AT + 2;
const RANK: usize = ROLE + 1;
const PROCESSES: usize = RANK + 1;
const ZERO_A: usize = PROCESSES + 1;
const CLUSTER: usize = ZERO_A + 3;
const INCARNATION: usize = CLUSTER + 16;
const ZERO_B: usize = INCARNATION + 4;
const KEY: usize = ZERO_B + 4;
const _: () = assert!(KEY + 8 == HELLO_BYTES);

/// A process as its hello names it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its rank.
    pub rank: Rank,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// How many processes its configuration has.
    pub processes: u8,
}

/// On whose behalf a session is opened; it decides the key and what may be asked.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Another process of the cluster, with the system key.
    Peer,
    /// A client of the disk, with the client key.
    Client,
}

impl Role {
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Peer => 1,
            Self::Client => 2,
        }
    }
}

/// What one end of a session says before anything else.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Of the session that the connector wants.
    pub role: Role,
    /// Who speaks: a process, or a client.
    pub sender: Option<Process>,
    /// The cluster that is meant.
    pub cluster: ClusterId,
    /// The key that is meant.
    pub key: KeyIdentifier,
}

impl Hello {
    /// The hello's bytes.
    pub fn to_bytes(&self) -> [u8; HELLO_BYTES] {
        let mut bytes = [0; HELLO_BYTES];
        bytes[..VERSION_AT].copy_from_slice(&SESSION_MAGIC);
        bytes[VERSION_AT..ROLE].copy_from_slice(&VERSION.to_be_bytes());
        bytes[ROLE] = self.role.code();
        if let Some(process) = self.sender {
            bytes[RANK] = process.rank.number();
            bytes[PROCESSES] = process.processes;
            bytes[INCARNATION..ZERO_B].copy_from_slice(&process.incarnation.0.to_be_bytes());
        }
        bytes[CLUSTER..INCARNATION].copy_from_slice(&self.cluster.0);
        bytes[KEY..].copy_from_slice(&self.key.0);
        bytes
    }

    /// The hello of these bytes.
    pub fn from_bytes(bytes: &[u8; HELLO_BYTES]) -> Result<Self, HelloError> {
        if bytes[..VERSION_AT] != SESSION_MAGIC {
            return Err(HelloError::NoSession);
        }
        let version = u16::from_be_bytes([bytes[VERSION_AT], bytes[VERSION_AT + 1]]);
        if version != VERSION {
            return Err(HelloError::Version { theirs: version });
        }
        let zeroes = [&bytes[ZERO_A..CLUSTER], &bytes[ZERO_B..KEY]];
        if zeroes
            .iter()
            .any(|field| field.iter().any(|&byte| byte != 0))
        {
            return Err(HelloError::Malformed);
        }
        let role = match bytes[ROLE] {
            1 => Role::Peer,
            2 => Role::Client,
            _ => return Err(HelloError::Malformed),
        };
        let incarnation = cut(bytes, INCARNATION);
        let sender = match (bytes[RANK], bytes[PROCESSES], incarnation) {
            (0, 0, [0, 0, 0, 0]) => None,
            (rank, processes, _) => {
                let rank = Rank::new(rank).filter(|rank| rank.number() <= processes);
                Some(Process {
                    rank: rank.ok_or(HelloError::Malformed)?,
                    incarnation: Incarnation(u32::from_be_bytes(incarnation)),
                    processes,
                })
            }
        };
        Ok(Self {
            role,
            sender,
            cluster: ClusterId(cut(bytes, CLUSTER)),
            key: KeyIdentifier(cut(bytes, KEY)),
        })
    }
}

fn cut<const N: usize>(bytes: &[u8; HELLO_BYTES], at: usize) -> [u8; N] {
    bytes[at..at + N]
        .try_into()
        .expect("exactly so many bytes were cut")
}

/// Why a hello cannot lead to a session.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum HelloError {
    /// It is no session's.
    #[error("what answers is no process of Atomic Disk Drive")]
    NoSession,
    /// Another version.
    #[error("it speaks version {theirs} of sessions, this process version {VERSION}")]
    Version {
        /// The version in the hello.
        theirs: u16,
    },
    /// Fields that no process sends.
    #[error("its hello is malformed")]
    Malformed,
    /// Another cluster.
    #[error("it belongs to cluster {theirs}, this process to {ours}")]
    Cluster {
        /// The cluster in the hello.
        theirs: ClusterId,
        /// The cluster here.
        ours: ClusterId,
    },
    /// Another number of processes: majorities would not intersect.
    #[error("its configuration has {theirs} processes, this one's has {ours}")]
    Processes {
        /// The number in the hello.
        theirs: u8,
        /// The number here.
        ours: u8,
    },
    /// The rank of this very process.
    #[error("it has rank {rank}, the rank of this very process")]
    OwnRank {
        /// The rank in the hello.
        rank: Rank,
    },
    /// Not the process that was dialled.
    #[error("it has rank {theirs}, but rank {expected} was expected at this address")]
    OtherRank {
        /// The rank in the hello.
        theirs: Rank,
        /// The rank that the configuration puts at the address.
        expected: Rank,
    },
    /// A process where a client was meant, or the other way round.
    #[error("its hello does not fit its role")]
    Role,
    /// Another key.
    #[error(
        "its {0} key is another one; give both ends the {0}.key of the same cluster",
        match role { Role::Peer => "system", Role::Client => "client" }
    )]
    Key {
        /// Which of the keys.
        role: Role,
    },
}
