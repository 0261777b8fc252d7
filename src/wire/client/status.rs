//! How requests end.

/// How a request ended. A client that never attached is answered the first three only.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum ClientStatus {
    /// It is complete in the register.
    Ok,
    /// Its tag was wrong.
    AuthFailure,
    /// There is no such sector.
    InvalidSectorIndex,
    /// Somebody holds the disk.
    Held,
    /// Another attachment has taken the disk over, or an operator has ended this one: final.
    Fenced,
    /// Another process serves it: attach there.
    Elsewhere,
    /// Another attach was under way at the same time: try again after a random pause.
    Contended,
    /// The process is going away: try another.
    ShuttingDown,
    /// No majority of intact copies is left.
    Unreadable,
    /// A change, and the attachment is read-only.
    ReadOnly,
    /// The operator's deadline has passed.
    TimedOut,
    /// The connection is not attached.
    NotAttached,
    /// Its fields make no request.
    Invalid,
}

impl ClientStatus {
    /// Those that there are; each stands at its code.
    const ALL: [Self; 13] = [
        Self::Ok,
        Self::AuthFailure,
        Self::InvalidSectorIndex,
        Self::Held,
        Self::Fenced,
        Self::Elsewhere,
        Self::Contended,
        Self::ShuttingDown,
        Self::Unreadable,
        Self::ReadOnly,
        Self::TimedOut,
        Self::NotAttached,
        Self::Invalid,
    ];

    /// The status's byte in a response.
    pub(super) const fn code(self) -> u8 {
        self as u8
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }
}

const _: () = assert!(each_stands_at_its_code());

const fn each_stands_at_its_code() -> bool {
    let mut at = 0;
    while at < ClientStatus::ALL.len() {
        if ClientStatus::ALL[at].code() as usize != at {
            return false;
        }
        at += 1;
    }
    true
}
