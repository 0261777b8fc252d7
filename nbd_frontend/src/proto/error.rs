//! The error numbers of replies, and why a request is refused.

use std::borrow::Cow;

/// The error numbers that the specification allows in replies.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum ErrorCode {
    /// `NBD_EPERM`: a write on a read-only export.
    NotPermitted,
    /// `NBD_EIO`: the device failed.
    Io,
    /// `NBD_EINVAL`: the request makes no sense, or reads past the end.
    Invalid,
    /// `NBD_ENOSPC`: the device is full, or the write goes past its end.
    NoSpace,
    /// `NBD_EOVERFLOW`: the request is larger than the server takes.
    Overflow,
    /// `NBD_ENOTSUP`: zeroing fast is not possible in the way that was asked for.
    NotSupported,
    /// `NBD_ESHUTDOWN`: the server is going away.
    ShuttingDown,
}

impl ErrorCode {
    /// The number on the wire (those of Linux' errno.h).
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::NotPermitted => 1,
            Self::Io => 5,
            Self::Invalid => 22,
            Self::NoSpace => 28,
            Self::Overflow => 75,
            Self::NotSupported => 95,
            Self::ShuttingDown => 108,
        }
    }
}

/// Why a request is answered with an error; clients that negotiated structured replies see the
/// text too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) text: Cow<'static, str>,
}

impl Refusal {
    /// A refusal with a text for the client's user.
    pub(crate) fn new(code: ErrorCode, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }
}
