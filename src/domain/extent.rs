//! Values with their stamps: what is stored, sent and voted on.

use bytes::Bytes;

use super::{Runs, SectorRange, Stamp};

/// What consecutive sectors hold.
#[derive(Clone, PartialEq, Eq)]
pub enum Content {
    /// Zeroes that take no space: never written, or trimmed.
    Zeroes,
    /// The sectors' bytes one after another, [`SECTOR_SIZE`](super::SECTOR_SIZE) each.
    Data(Bytes),
    /// What the sectors hold already, whatever it is: only their settled generation is raised to
    /// that of the stamp, whose other fields are 0. Only in stores, to processes that voted for the
    /// value which is settled; a range costs one record.
    Unchanged,
}

impl std::fmt::Debug for Content {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Zeroes => f.write_str("zeroes"),
            Self::Data(bytes) => write!(f, "{} bytes", bytes.len()),
            Self::Unchanged => f.write_str("unchanged"),
        }
    }
}

/// Consecutive sectors that all have the same stamp, with what they hold.
///
/// With [`Content::Zeroes`] and a stamp above zero it is a *tombstone*: the sectors were written
/// once and trimmed, and the stamp must never be forgotten, or an old copy would come back to life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Which sectors.
    pub range: SectorRange,
    /// The stamp of every one of them.
    pub stamp: Stamp,
    /// What they hold.
    pub content: Content,
}

impl Extent {
    /// The extent of these sectors under this stamp.
    ///
    /// # Panics
    /// When data is not exactly as long as the sectors.
    pub fn new(range: SectorRange, stamp: Stamp, content: Content) -> Self {
        if let Content::Data(bytes) = &content {
            assert_eq!(
                u64::try_from(bytes.len()),
                Ok(range.bytes()),
                "data fills its sectors exactly"
            );
        }
        Self {
            range,
            stamp,
            content,
        }
    }

    /// How many bytes of data travel with the extent; zeroes cost nothing.
    pub fn data_bytes(&self) -> usize {
        match &self.content {
            Content::Zeroes | Content::Unchanged => 0,
            Content::Data(bytes) => bytes.len(),
        }
    }
}

/// What a process can say of one sector.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Vote {
    /// Nothing: its copy is damaged. Never zeroes, and never a low stamp; below every stamp only
    /// so that whoever asks is sent the value of anyone who has one.
    Lost,
    /// It holds, on stable storage, the value of this stamp.
    Stamp(Stamp),
}

impl Vote {
    /// The vote for a sector that was never written.
    pub const ZERO: Self = Self::Stamp(Stamp::ZERO);

    /// The stamp, unless the copy is lost.
    pub const fn stamp(self) -> Option<Stamp> {
        match self {
            Self::Lost => None,
            Self::Stamp(stamp) => Some(stamp),
        }
    }
}

/// What a process holds of a range, from stable state only: its votes, and the values asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// A vote for each sector from the range's first on. It may end before the range does, where
    /// the rest would take too many runs; it covers one sector at least.
    pub votes: Runs<Vote>,
    /// The values asked for, ascending; each sector's stamp is that of its vote. Zero stamps are
    /// left out: they read as zeroes.
    pub values: Vec<Extent>,
}
