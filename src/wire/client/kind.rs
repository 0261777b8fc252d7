//! What all messages of the classic protocol begin with.

/// Whether a sector is read or written.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ClientKind {
    /// READ.
    Read,
    /// WRITE.
    Write,
}

impl ClientKind {
    /// The type's byte in a request.
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Read => 1,
            Self::Write => 2,
        }
    }

    pub(super) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Read),
            2 => Some(Self::Write),
            _ => None,
        }
    }
}

/// The first bytes of every message, "atdd".
pub(super) const MAGIC: [u8; 4] = *b"atdd";
