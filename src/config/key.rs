//! The two secrets of a cluster, as hex digits in files that only their owner may read.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Held by every client: it signs the classic protocol and opens client sessions.
pub type ClientKey = Key<32>;

/// Held by the processes alone: it opens the sessions between them.
pub type SystemKey = Key<64>;

/// A secret of so many bytes. `Debug` does not print it.
#[derive(Clone, PartialEq, Eq)]
pub struct Key<const BYTES: usize>([u8; BYTES]);

impl<const BYTES: usize> Key<BYTES> {
    /// The key of these bytes.
    pub const fn from_bytes(bytes: [u8; BYTES]) -> Self {
        Self(bytes)
    }

    /// The key in this file: hex digits, and nothing after them but white space.
    ///
    /// The file must not be open to its group or to others in any way.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        // Asked before opening, because opening a pipe would wait for its writer.
        if !std::fs::metadata(path).map_err(KeyError::Read)?.is_file() {
            return Err(KeyError::NotAFile);
        }
        let mut file = File::open(path).map_err(KeyError::Read)?;
        let mode = file.metadata().map_err(KeyError::Read)?.mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(KeyError::OpenToOthers { mode });
        }
        Self::read(&mut file)
    }

    /// The bytes themselves, for the code that signs and derives with them.
    pub const fn bytes(&self) -> &[u8; BYTES] {
        &self.0
    }

    /// What the key's file contains: hex digits and a newline.
    pub fn to_file_content(&self) -> String {
        hex::encode(self.0) + "\n"
    }

    fn read(file: &mut impl Read) -> Result<Self, KeyError> {
        let mut text = Vec::new();
        file.take(FILE_BYTES_MAX)
            .read_to_end(&mut text)
            .map_err(KeyError::Read)?;
        let digits = text.trim_ascii_end();
        if let Some(place) = digits.iter().position(|byte| !byte.is_ascii_hexdigit()) {
            return Err(KeyError::NotHex { place: place + 1 });
        }
        let wrong_length = KeyError::WrongLength {
            found: digits.len(),
            expected: 2 * BYTES,
        };
        let mut bytes = [0; BYTES];
        hex::decode_to_slice(digits, &mut bytes).map_err(|_| wrong_length)?;
        Ok(Self(bytes))
    }
}

impl<const BYTES: usize> fmt::Debug for Key<BYTES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a key of {BYTES} bytes")
    }
}

/// Why a file gives no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It is missing, or this user may not read it.
    #[error("cannot be read: {0}")]
    Read(io::Error),
    /// It is a directory, a device or a pipe.
    #[error("is not a plain file")]
    NotAFile,
    /// Somebody else may read or change it.
    #[error("is open to other users (its mode is {mode:04o})")]
    OpenToOthers {
        /// Its permissions.
        mode: u32,
    },
    /// There are too few or too many digits.
    #[error("has {found} hex digits instead of {expected}")]
    WrongLength {
        /// How many there are, as far as was read.
        found: usize,
        /// How many there should be.
        expected: usize,
    },
    /// Something else stands among the digits.
    #[error("has something else than a hex digit at place {place}")]
    NotHex {
        /// Where, from 1 on.
        place: usize,
    },
}

/// No more is read of a key file: well above the longest key.
const FILE_BYTES_MAX: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn read(text: &str) -> Result<ClientKey, KeyError> {
        ClientKey::read(&mut text.as_bytes())
    }

    #[test]
    fn a_key_is_read_back_from_its_file() {
        let key = SystemKey::from_bytes([0x5a; 64]);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), key.to_file_content()).unwrap();
        assert_eq!(key.to_file_content().len(), 129);
        assert_eq!(SystemKey::load(file.path()).unwrap(), key);

        for mode in [0o640, 0o604, 0o620, 0o610] {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(file.path(), permissions).unwrap();
            let error = SystemKey::load(file.path()).unwrap_err();
            assert!(matches!(error, KeyError::OpenToOthers { mode: found } if found == mode));
        }
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let digits = "05".repeat(32);
        assert!(read(&digits).is_ok() && read(&format!("{digits}\r\n")).is_ok());
        assert!(matches!(
            read(""),
            Err(KeyError::WrongLength {
                found: 0,
                expected: 64
            })
        ));
        assert!(matches!(
            read(&digits[1..]),
            Err(KeyError::WrongLength { found: 63, .. })
        ));
        assert!(matches!(
            read(&digits[2..]),
            Err(KeyError::WrongLength { found: 62, .. })
        ));
        assert!(matches!(
            read(&(digits.clone() + "05")),
            Err(KeyError::WrongLength { .. })
        ));
        assert!(matches!(
            read(&format!("0x{digits}")),
            Err(KeyError::NotHex { place: 2 })
        ));
        assert!(matches!(
            read(&format!("{digits}\n{digits}")),
            Err(KeyError::NotHex { place: 65 })
        ));
    }

    #[test]
    fn a_key_is_never_printed() {
        let key = ClientKey::from_bytes([0xab; 32]);
        assert_eq!(format!("{key:?}"), "a key of 32 bytes");
    }
}
