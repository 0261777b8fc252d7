//! How a client attaches.

use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::domain::{AttachKind, Fence, JoinKey, OwnerId};

/// How a client attaches: [`exclusive`](Self::exclusive) is the usual way.
#[derive(Copy, Clone, Debug)]
pub struct AttachOptions {
    /// How it wants to use the disk.
    pub kind: AttachKind,
    /// Whether to fence whoever holds the disk, instead of being refused.
    pub take_over: bool,
    /// The fence of an earlier exclusive attachment, to go on from: it is refused, as fenced, if
    /// another owner had the disk since then. The gateways of one device are one owner.
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

    /// Whose the attachment is: the device's, if it is one of several gateways; or whose the earlier
    /// one was; or nobody's before.
    pub(super) fn owner(&self) -> OwnerId {
        if let AttachKind::Exclusive { join: Some(key) } = self.kind {
            return device_owner(key);
        }
        let before = self.continues.and_then(Fence::owner);
        before.unwrap_or_else(|| OwnerId(rand::random()))
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

/// The owner of all the attachments of a device: half of an HMAC-SHA256 with the key as its key over
/// a label. Everybody may see it; who sees it learns nothing of the key.
fn device_owner(key: JoinKey) -> OwnerId {
    const LABEL: &[u8] = b"atdd join owner v1";
    let mut mac = Hmac::<Sha256>::new_from_slice(&key.0).expect("HMAC takes keys of any length");
    mac.update(LABEL);
    let tag: [u8; 32] = mac.finalize().into_bytes().into();
    let half = tag.first_chunk().expect("16 bytes are half of them");
    OwnerId(*half)
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

    /// They must be one owner, too.
    #[test]
    fn golden_device_owner() {
        let joins = || AttachOptions::join("disk", b"secret").owner();
        assert_eq!(joins().to_string(), "29e63c307126a34ceb28badc2eacabdc");
        let exclusive = || AttachOptions::exclusive().owner();
        assert_ne!(exclusive(), exclusive());
    }
}
