//! How a client attaches.

use std::time::Duration;

use crate::domain::{AttachKind, JoinKey};

/// How a client attaches: [`exclusive`](Self::exclusive) is the usual way.
#[derive(Clone, Debug)]
pub struct AttachOptions {
    /// How it wants to use the disk.
    pub kind: AttachKind,
    /// Whether to fence whoever holds the disk, instead of being refused.
    pub take_over: bool,
    /// How long an attach, and each operation, waits for a majority before it fails; `None` for as
    /// long as it takes. An operation that failed so keeps its sectors, and may still take effect.
    pub deadline: Option<Duration>,
}

impl AttachOptions {
    /// Alone: nobody else writes.
    pub const fn exclusive() -> Self {
        Self::new(AttachKind::Exclusive { join: None })
    }

    /// As one of the gateways of one device, which all know this name and secret.
    pub fn join(_name: &str, _secret: &[u8]) -> Self {
        let _key: Option<JoinKey> = None;
        todo!("client")
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
            deadline: None,
        }
    }
}
