//! Which cluster something belongs to.

use std::fmt;
use std::str::FromStr;

/// What tells one cluster from every other: drawn at random by `atdd init`, 32 hex digits as text.
///
/// Stores carry it, and sessions name it, so that no process serves or joins the wrong cluster.
#[derive(Copy, Clone, PartialEq, Eq, Hash)]
pub struct ClusterId(pub [u8; 16]);

/// A text is not the identity of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not the identity of a cluster; write the 32 hex digits that `atdd init` drew, as \
     every process's cluster.toml has them"
)]
pub struct ClusterIdError(String);

impl FromStr for ClusterId {
    type Err = ClusterIdError;

    fn from_str(text: &str) -> Result<Self, ClusterIdError> {
        let mut bytes = [0; 16];
        match hex::decode_to_slice(text, &mut bytes) {
            Ok(()) => Ok(Self(bytes)),
            Err(_) => Err(ClusterIdError(text.to_owned())),
        }
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_32_hex_digits() {
        let digits = "00112233445566778899aabbccddeeff";
        assert_eq!(digits.parse::<ClusterId>().unwrap().to_string(), digits);
        let one_more = format!("{digits}00");
        for faulty in [&digits[2..], &one_more, "xx112233445566778899aabbccddeeff"] {
            let error = faulty.parse::<ClusterId>().unwrap_err().to_string();
            assert!(error.contains(faulty), "{error}");
        }
    }
}
