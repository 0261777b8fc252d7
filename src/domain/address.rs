//! Where a sector is: a volume and an index, in one number.

use std::fmt;

/// Bytes in a sector: the unit of every register, of every store slot and of the wire.
pub const SECTOR_SIZE: usize = 4096;

/// [`SECTOR_SIZE`] for arithmetic on file offsets and device sizes.
pub const SECTOR_SIZE_U64: u64 = 4096;

/// Sector indexes are below this: 2^48 sectors, an exbibyte, in each volume.
pub const INDEX_LIMIT: u64 = 1 << INDEX_BITS;

const INDEX_BITS: u32 = 48;

/// A volume's number. The first volume is 0; a number is never reused.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Volume(pub u16);

/// A sector's place in the cluster: the volume in the upper 16 bits, the index in the lower 48.
///
/// The number itself is the form on the wire, on disk and in every checksum.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SectorAddress(u64);

impl SectorAddress {
    /// The sector `index` of `volume`, or `None` when the index is not below [`INDEX_LIMIT`].
    pub const fn new(volume: Volume, index: u64) -> Option<Self> {
        if index < INDEX_LIMIT {
            Some(Self(((volume.0 as u64) << INDEX_BITS) | index))
        } else {
            None
        }
    }

    /// The address that [`Self::to_bits`] gave; every number is one.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The address as one number, in the order of addresses.
    pub const fn to_bits(self) -> u64 {
        self.0
    }

    /// The volume that the sector belongs to.
    pub const fn volume(self) -> Volume {
        Volume((self.0 >> INDEX_BITS) as u16)
    }

    /// The sector's index in its volume.
    pub const fn index(self) -> u64 {
        self.0 & (INDEX_LIMIT - 1)
    }
}

impl fmt::Debug for SectorAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.volume().0, self.index())
    }
}

impl fmt::Display for SectorAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// One or more consecutive sectors of one volume.
#[derive(Copy, Clone, PartialEq, Eq, Hash)]
pub struct SectorRange {
    first: SectorAddress,
    count: u32,
}

impl SectorRange {
    /// `count` sectors from `first`, or `None` when that is none or passes the volume's end.
    pub const fn new(first: SectorAddress, count: u32) -> Option<Self> {
        if count == 0 || count as u64 > INDEX_LIMIT - first.index() {
            None
        } else {
            Some(Self { first, count })
        }
    }

    /// The range of this sector alone.
    pub const fn single(address: SectorAddress) -> Self {
        Self {
            first: address,
            count: 1,
        }
    }

    /// The lowest address of the range.
    pub const fn first(self) -> SectorAddress {
        self.first
    }

    /// The highest address of the range, inclusive.
    pub const fn last(self) -> SectorAddress {
        SectorAddress(self.first.0 + (self.count as u64 - 1))
    }

    /// How many sectors there are, at least one.
    pub const fn count(self) -> u32 {
        self.count
    }

    /// How many bytes the sectors hold.
    pub const fn bytes(self) -> u64 {
        self.count as u64 * SECTOR_SIZE_U64
    }

    /// Whether `address` lies within.
    pub const fn contains(self, address: SectorAddress) -> bool {
        self.first.0 <= address.0 && address.0 <= self.last().0
    }

    /// Whether any sector is in both.
    pub const fn overlaps(self, other: Self) -> bool {
        self.first.0 <= other.last().0 && other.first.0 <= self.last().0
    }

    /// The sectors that are in both.
    pub fn intersection(self, other: Self) -> Option<Self> {
        let first = self.first.max(other.first);
        let last = self.last().min(other.last());
        (first <= last).then(|| {
            let count = u32::try_from(last.0 - first.0 + 1).expect("no more than either range");
            Self { first, count }
        })
    }

    /// `count` sectors from the `offset`-th on.
    ///
    /// # Panics
    /// When that is none, or not all within this range.
    #[must_use]
    pub fn part(self, offset: u32, count: u32) -> Self {
        let end = offset
            .checked_add(count)
            .expect("a part lies within its range");
        assert!(
            count > 0 && end <= self.count,
            "a part lies within its range"
        );
        Self {
            first: SectorAddress(self.first.0 + u64::from(offset)),
            count,
        }
    }

    /// How far `address` is from the first sector.
    ///
    /// # Panics
    /// When the address is not in the range.
    pub fn offset_of(self, address: SectorAddress) -> u32 {
        assert!(self.contains(address), "the address lies within the range");
        u32::try_from(address.0 - self.first.0).expect("less than the count")
    }

    /// Every address of the range, ascending.
    pub fn addresses(self) -> impl DoubleEndedIterator<Item = SectorAddress> {
        (self.first.0..=self.last().0).map(SectorAddress)
    }
}

impl fmt::Debug for SectorRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.first, self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u64) -> SectorAddress {
        SectorAddress::new(Volume(0), index).unwrap()
    }

    fn range(first: u64, count: u32) -> SectorRange {
        SectorRange::new(at(first), count).unwrap()
    }

    #[test]
    fn an_address_keeps_its_volume_and_index() {
        let address = SectorAddress::new(Volume(7), INDEX_LIMIT - 1).unwrap();
        assert_eq!(address.volume(), Volume(7));
        assert_eq!(address.index(), INDEX_LIMIT - 1);
        assert_eq!(SectorAddress::from_bits(address.to_bits()), address);
        assert_eq!(SectorAddress::new(Volume(0), INDEX_LIMIT), None);
    }

    #[test]
    fn a_range_never_leaves_its_volume() {
        assert!(SectorRange::new(at(INDEX_LIMIT - 2), 2).is_some());
        assert!(SectorRange::new(at(INDEX_LIMIT - 2), 3).is_none());
        assert!(SectorRange::new(at(0), 0).is_none());
        let end_of_all = SectorAddress::new(Volume(u16::MAX), INDEX_LIMIT - 1).unwrap();
        assert_eq!(SectorRange::single(end_of_all).last(), end_of_all);
    }

    #[test]
    fn ranges_intersect_where_they_overlap() {
        assert_eq!(range(0, 10).intersection(range(5, 10)), Some(range(5, 5)));
        assert_eq!(range(0, 5).intersection(range(5, 5)), None);
        assert!(!range(0, 5).overlaps(range(5, 5)));
        assert!(range(0, 6).overlaps(range(5, 5)));
        assert_eq!(range(8, 8).part(2, 3), range(10, 3));
    }
}
