//! How large a disk is.

use std::fmt;
use std::str::FromStr;

use bytesize::ByteSize;

use crate::domain::{INDEX_LIMIT, SECTOR_SIZE_U64};

/// A disk's size: at least one sector, at most [`INDEX_LIMIT`].
///
/// Written as bytes or with a unit (`1GiB`, `512 MiB`, `2TB`), printed exactly, in the largest
/// binary unit of which it is a multiple.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DiskSize {
    sectors: u64,
}

impl DiskSize {
    /// The size of so many sectors.
    pub fn from_sectors(sectors: u64) -> Result<Self, SizeError> {
        match sectors {
            0 => Err(SizeError::Zero),
            1..=INDEX_LIMIT => Ok(Self { sectors }),
            _ => Err(SizeError::TooLarge),
        }
    }

    /// The size of so many bytes, a multiple of the sector size.
    pub fn from_bytes(bytes: u64) -> Result<Self, SizeError> {
        if bytes.is_multiple_of(SECTOR_SIZE_U64) {
            Self::from_sectors(bytes / SECTOR_SIZE_U64)
        } else {
            Err(SizeError::NotWholeSectors {
                bytes,
                below: Self::from_sectors(bytes / SECTOR_SIZE_U64).ok(),
            })
        }
    }

    /// How many sectors there are.
    pub const fn sectors(self) -> u64 {
        self.sectors
    }

    /// How many bytes there are.
    pub const fn bytes(self) -> u64 {
        self.sectors * SECTOR_SIZE_U64
    }
}

impl FromStr for DiskSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let bytes: ByteSize = text.trim().parse().map_err(|_| SizeError::NoNumber {
            text: text.to_owned(),
        })?;
        Self::from_bytes(bytes.as_u64())
    }
}

impl fmt::Display for DiskSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = self.bytes();
        let (unit, name) = UNITS
            .into_iter()
            .find(|(unit, _)| bytes.is_multiple_of(*unit))
            .expect("a sector is a multiple of the smallest unit");
        write!(f, "{}{name}", bytes / unit)
    }
}

impl fmt::Debug for DiskSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text or number is not the size of a disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// It cannot be read.
    #[error(
        "`{text}` is not a size; write bytes or a number with a unit, for example 512MiB or 1GiB"
    )]
    NoNumber {
        /// What was given.
        text: String,
    },
    /// It is not a whole number of sectors.
    #[error(
        "{bytes} bytes are not a multiple of {SECTOR_SIZE_U64}, the size of a sector; \
         write {}", near(below.as_ref())
    )]
    NotWholeSectors {
        /// What was given.
        bytes: u64,
        /// The next smaller size, if there is one.
        below: Option<DiskSize>,
    },
    /// A disk has a sector at least.
    #[error("a disk of size 0 holds nothing; write a size, for example 1GiB")]
    Zero,
    /// The index of a sector has 48 bits.
    #[error("the size is more than 1EiB (2^48 sectors of 4096 bytes); write a smaller one")]
    TooLarge,
}

/// Largest first, the last as small as divides a sector.
const UNITS: [(u64, &str); 6] = [
    (bytesize::EIB, "EiB"),
    (bytesize::PIB, "PiB"),
    (bytesize::TIB, "TiB"),
    (bytesize::GIB, "GiB"),
    (bytesize::MIB, "MiB"),
    (bytesize::KIB, "KiB"),
];

fn near(below: Option<&DiskSize>) -> String {
    match below {
        Some(size) => format!("{size} or a unit of 1024, such as GiB in place of GB"),
        None => "4KiB or more".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_written_exactly() {
        for (text, bytes, back) in [
            ("1GiB", 1 << 30, "1GiB"),
            ("1 GiB", 1 << 30, "1GiB"),
            ("1073741824", 1 << 30, "1GiB"),
            ("1.5GiB", 3 << 29, "1536MiB"),
            ("4096", 4096, "4KiB"),
            ("1048572KiB", (1 << 30) - 4096, "1048572KiB"),
            ("1EiB", 1 << 60, "1EiB"),
        ] {
            let size: DiskSize = text.parse().unwrap();
            assert_eq!((size.bytes(), size.to_string().as_str()), (bytes, back));
            assert_eq!(back.parse(), Ok(size));
        }
    }

    #[test]
    fn what_is_no_size_is_refused_with_an_example() {
        for (text, said) in [
            ("", "for example"),
            ("big", "for example"),
            ("-4096", "for example"),
            ("0", "1GiB"),
            ("5000", "4KiB"),
            ("1GB", "976560KiB"),
            ("100", "4KiB"),
            ("2EiB", "1EiB"),
            ("999999999999EiB", "not a multiple"),
        ] {
            let error = text.parse::<DiskSize>().unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
