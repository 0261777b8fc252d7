//! How a client attaches.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::domain::{AttachKind, Fence, JoinKey};

/// How a client attaches: [`exclusive`](Self::exclusive) is the usual way.
#[derive(Copy, Clone, Debug)]
pub struct AttachOptions {
    /// How it wants to use the disk.
    pub kind: AttachKind,
    /// Whether to fence whoever holds the disk, instead of being refused.
    pub take_over: bool,
    /// The fence of an earlier exclusive attachment, to go on from: it is refused, as fenced, if
    /// another owner had the disk since then. Never given by the gateways of one device together.
    pub continues: Option<Fence>,
    /// How long an attach, and each operation, waits for a majority before it fails; `None` for as
    /// long as it takes. An operation that failed so keeps its sectors, and may still take effect:
    /// not for gateways of one device, whose kernel would send it over another one.
    pub deadline: Option<Duration>,
}

impl AttachOptions {
    /// Alone: nobody else writes.
    pub const fn exclusive() -> Self {
        Self::new(AttachKind::Exclusive { join: None })
    }

    /// As one of the gateways of one device, which all know this name and secret.
    pub fn join(name: &str, secret: &[u8]) -> Self {
        let join = Some(join_key(name, secret));
        Self::new(AttachKind::Exclusive { join })
    }

    /// Beside other hosts, which coordinate themselves.
    pub const fn shared() -> Self {
        Self::new(AttachKind::Shared)
    }

    /// Without ever writing.
    pub const fn read_only() -> Self {
        Self::new(AttachKind::ReadOnly)
    }

    const fn new(kind: AttachKind) -> Self {
        Self {
            kind,
            take_over: false,
            continues: None,
            deadline: None,
        }
    }
}

/// HMAC-SHA256 with the secret as its key over a label and the name: who sees it learns neither.
fn join_key(name: &str, secret: &[u8]) -> JoinKey {
    const LABEL: &[u8] = b"atdd join v1";
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of any length");
    mac.update(LABEL);
    mac.update(name.as_bytes());
    JoinKey(mac.finalize().into_bytes().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gateways of different versions must join one another.
    #[test]
    fn golden_join_key() {
        let JoinKey(key) = join_key("disk", b"secret");
        assert_eq!(
            hex::encode(key),
            "a4222a945b4f9eeaf4766003f762975dbfda89c3c225cb0c9af10e9d235e0c3c"
        );
        assert_ne!(join_key("disk", b"Secret"), JoinKey(key));
        assert_ne!(join_key("disk2", b"secret"), JoinKey(key));
    }
}
