//! Fences: what a process knows of the newest generation (`ATTACHMENTS.md`).

use std::fmt;
use std::str::FromStr;

use super::{Generation, Incarnation, Rank};

/// Who an attachment belongs to: drawn at random at each new attach, and kept when its client
/// fails over. All gateways of one device have the same, always.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OwnerId(pub [u8; 16]);

impl fmt::Display for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// The form of [`Display`](fmt::Display): 32 hex digits.
impl FromStr for OwnerId {
    type Err = OwnerIdError;

    fn from_str(text: &str) -> Result<Self, OwnerIdError> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| OwnerIdError)?;
        Ok(Self(bytes))
    }
}

/// Something is no [`OwnerId`].
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an owner is written as 32 hex digits")]
pub struct OwnerIdError;

impl fmt::Debug for OwnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Tells one exclusive open from every other: no coordinator uses a sequence number twice in an
/// incarnation.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag {
    /// The process that opened the generation, and that alone runs its operations.
    pub coordinator: Rank,
    /// The coordinator's incarnation.
    pub incarnation: Incarnation,
    /// Which of that incarnation's opens.
    pub sequence: u64,
}

/// Who may run operations under a generation.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mode {
    /// Every process, for every host that coordinates itself with the others. All shared opens of
    /// one number are one generation.
    Shared,
    /// One client of one process.
    Exclusive {
        /// The client's attachment.
        owner: OwnerId,
        /// The open.
        tag: Tag,
    },
    /// Every process, to read only. Such a generation follows an exclusive one that is read where
    /// nobody can tell whether its coordinator still runs: since every exclusive generation has one
    /// coordinator, readers elsewhere need one of their own. Its owner may go on as if it had not
    /// been. All such opens of one number and owner are one generation.
    Reading {
        /// The owner of the exclusive generation before.
        owner: OwnerId,
    },
}

/// What a process knows of a volume's newest generation.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fence {
    /// The generation's number.
    pub generation: Generation,
    /// Whose it is.
    pub mode: Mode,
}

/// The size of an encoded [`Fence`].
pub const FENCE_BYTES: usize = 38;

const MODE: usize = 8;
const OWNER: usize = MODE + 1;
const COORDINATOR: usize = OWNER + 16;
const INCARNATION: usize = COORDINATOR + 1;
const SEQUENCE: usize = INCARNATION + 4;
const _: () = assert!(SEQUENCE + 8 == FENCE_BYTES);

const SHARED: u8 = 0;
const EXCLUSIVE: u8 = 1;
const READING: u8 = 2;

impl Fence {
    /// The fence of a volume that nobody has ever attached: shared, generation 0, and open.
    pub const INITIAL: Self = Self {
        generation: Generation(0),
        mode: Mode::Shared,
    };

    /// Whether one client alone writes under it.
    pub const fn is_exclusive(self) -> bool {
        matches!(self.mode, Mode::Exclusive { .. })
    }

    /// Whether others than its owner may write under later generations only: the owner of an
    /// exclusive generation, or of the one that is read after it.
    pub const fn owner(self) -> Option<OwnerId> {
        match self.mode {
            Mode::Shared => None,
            Mode::Exclusive { owner, .. } | Mode::Reading { owner } => Some(owner),
        }
    }

    /// The encoding for wire and disk.
    ///
    /// | offset | size | field |
    /// |---|---|---|
    /// | 0 | 8 | generation |
    /// | 8 | 1 | mode: 0 shared, 1 exclusive, 2 reading |
    /// | 9 | 16 | owner; 0 if shared |
    /// | 25 | 1 | coordinator; 0 unless exclusive, as are the fields that follow |
    /// | 26 | 4 | its incarnation |
    /// | 30 | 8 | the open's sequence number |
    pub fn to_bytes(self) -> [u8; FENCE_BYTES] {
        let mut bytes = [0; FENCE_BYTES];
        bytes[..MODE].copy_from_slice(&self.generation.0.to_be_bytes());
        match self.mode {
            Mode::Shared => bytes[MODE] = SHARED,
            Mode::Exclusive { owner, tag } => {
                bytes[MODE] = EXCLUSIVE;
                bytes[OWNER..COORDINATOR].copy_from_slice(&owner.0);
                bytes[COORDINATOR] = tag.coordinator.number();
                bytes[INCARNATION..SEQUENCE].copy_from_slice(&tag.incarnation.0.to_be_bytes());
                bytes[SEQUENCE..].copy_from_slice(&tag.sequence.to_be_bytes());
            }
            Mode::Reading { owner } => {
                bytes[MODE] = READING;
                bytes[OWNER..COORDINATOR].copy_from_slice(&owner.0);
            }
        }
        bytes
    }

    /// The fence of this encoding, or `None` when it is none's.
    pub fn from_bytes(bytes: &[u8; FENCE_BYTES]) -> Option<Self> {
        let number = |at: usize| {
            u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes were cut"))
        };
        let incarnation = bytes[INCARNATION..SEQUENCE]
            .try_into()
            .expect("four bytes were cut");
        let owner = OwnerId(
            bytes[OWNER..COORDINATOR]
                .try_into()
                .expect("sixteen bytes were cut"),
        );
        let is_empty_from = |at: usize| bytes[at..].iter().all(|&byte| byte == 0);
        let mode = match bytes[MODE] {
            SHARED if is_empty_from(OWNER) => Mode::Shared,
            READING if is_empty_from(COORDINATOR) => Mode::Reading { owner },
            EXCLUSIVE => Mode::Exclusive {
                owner,
                tag: Tag {
                    coordinator: Rank::new(bytes[COORDINATOR])?,
                    incarnation: Incarnation(u32::from_be_bytes(incarnation)),
                    sequence: number(SEQUENCE),
                },
            },
            _ => return None,
        };
        Some(Self {
            generation: Generation(number(0)),
            mode,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn encodings_keep_the_fence(
            generation: u64,
            owner: [u8; 16],
            coordinator in 1..=Rank::MAX,
            incarnation: u32,
            sequence: u64,
        ) {
            let tag = Tag {
                coordinator: Rank::new(coordinator).unwrap(),
                incarnation: Incarnation(incarnation),
                sequence,
            };
            let owner = OwnerId(owner);
            for mode in [Mode::Shared, Mode::Exclusive { owner, tag }, Mode::Reading { owner }] {
                let fence = Fence { generation: Generation(generation), mode };
                prop_assert_eq!(Fence::from_bytes(&fence.to_bytes()), Some(fence));
            }
        }
    }

    #[test]
    fn golden_fence() {
        let fence = Fence {
            generation: Generation(0x0102),
            mode: Mode::Exclusive {
                owner: OwnerId([0xaa; 16]),
                tag: Tag {
                    coordinator: Rank::new(3).unwrap(),
                    incarnation: Incarnation(4),
                    sequence: 5,
                },
            },
        };
        let mut bytes = [0; FENCE_BYTES];
        bytes[6..9].copy_from_slice(&[1, 2, 1]);
        bytes[9..25].fill(0xaa);
        bytes[25] = 3;
        bytes[29] = 4;
        bytes[37] = 5;
        assert_eq!(fence.to_bytes(), bytes);
        bytes[MODE] = 3;
        assert_eq!(Fence::from_bytes(&bytes), None);
        bytes[MODE] = READING;
        assert_eq!(Fence::from_bytes(&bytes), None, "nobody opened it alone");
        bytes[25..].fill(0);
        let owner = OwnerId([0xaa; 16]);
        let mode = Mode::Reading { owner };
        let fence = Fence { mode, ..fence };
        assert_eq!(Fence::from_bytes(&bytes), Some(fence));
        assert_eq!(fence.to_bytes(), bytes);
        bytes[MODE] = SHARED;
        assert_eq!(
            Fence::from_bytes(&bytes),
            None,
            "shared fences have no owner"
        );
        assert_eq!(Fence::INITIAL.to_bytes(), [0; FENCE_BYTES]);
    }
}
