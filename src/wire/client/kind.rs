//! What all messages of the classic protocol begin with.

/// What a request asks for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ClientKind {
    /// READ.
    Read,
    /// WRITE.
    Write,
    /// ATTACH, as all that follow of the extension.
    Attach,
    /// READ RANGE.
    ReadRange,
    /// WRITE RANGE.
    WriteRange,
    /// DISCARD.
    Discard,
    /// HEARTBEAT.
    Heartbeat,
    /// DETACH.
    Detach,
    /// HELLO.
    Hello,
}

impl ClientKind {
    /// The type's byte in a request.
    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Read => 1,
            Self::Write => 2,
            Self::Attach => 0x80,
            Self::ReadRange => 0x81,
            Self::WriteRange => 0x82,
            Self::Discard => 0x83,
            Self::Heartbeat => 0x84,
            Self::Detach => 0x85,
            Self::Hello => 0x86,
        }
    }

    pub(super) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Read),
            2 => Some(Self::Write),
            0x80 => Some(Self::Attach),
            0x81 => Some(Self::ReadRange),
            0x82 => Some(Self::WriteRange),
            0x83 => Some(Self::Discard),
            0x84 => Some(Self::Heartbeat),
            0x85 => Some(Self::Detach),
            0x86 => Some(Self::Hello),
            _ => None,
        }
    }

    /// Whether its requests name no sector: zeroes stand in its place.
    pub(super) const fn is_without_sector(self) -> bool {
        matches!(
            self,
            Self::Attach | Self::Heartbeat | Self::Detach | Self::Hello
        )
    }
}

/// The first bytes of every message, "atdd".
pub(super) const MAGIC: [u8; 4] = *b"atdd";
