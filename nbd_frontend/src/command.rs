//! From a request's header to a command that may be executed, or the error that answers it.
//!
//! Guarantees: a [`Command`] lies within the device, obeys the export's mode and carries no flag
//! that is not understood, so that nobody after this asks again.

use crate::proto::{CommandFlags, CommandKind, ErrorCode, Refusal, RequestHeader};

/// What the two sides agreed on, and the limits that follow.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) size_bytes: u64,
    pub(crate) read_only: bool,
    /// Structured replies were negotiated.
    pub(crate) structured_replies: bool,
    /// Bytes that one READ or WRITE may carry.
    pub(crate) payload_bytes_max: u64,
}

/// Bytes of the device, within its bounds.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct ByteRange {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// How zeroes are stored.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Zeroing {
    /// The space may be freed.
    Punch,
    /// The space must stay allocated, so that later writes cannot run out of it.
    Allocate,
}

/// A request that passed all checks.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    /// `single_chunk`: the answer must not be fragmented.
    Read {
        range: ByteRange,
        single_chunk: bool,
    },
    Write {
        range: ByteRange,
    },
    WriteZeroes {
        range: ByteRange,
        zeroing: Zeroing,
    },
    Trim {
        range: ByteRange,
    },
    Flush,
    /// A hint to have these bytes in memory: nothing is cached here, so nothing is to be done.
    Cache,
    Disconnect,
}

impl Command {
    /// Checks a request. FUA is taken on every command and needs nothing: a completed write of the
    /// device is on stable storage.
    pub(crate) fn check(header: &RequestHeader, terms: &Terms) -> Result<Self, Refusal> {
        check_flags(header, terms)?;
        let range = ByteRange {
            offset: header.offset,
            length: header.length,
        };
        match header.kind {
            CommandKind::Read => {
                check_within(range, terms, ErrorCode::Invalid)?;
                check_payload(range, terms)?;
                let single_chunk = header.flags.contains(CommandFlags::DF);
                Ok(Self::Read {
                    range,
                    single_chunk,
                })
            }
            CommandKind::Write => {
                check_writable(terms)?;
                check_within(range, terms, ErrorCode::NoSpace)?;
                check_payload(range, terms)?;
                Ok(Self::Write { range })
            }
            CommandKind::WriteZeroes => {
                check_writable(terms)?;
                check_within(range, terms, ErrorCode::NoSpace)?;
                Ok(Self::WriteZeroes {
                    range,
                    zeroing: zeroing(header.flags)?,
                })
            }
            CommandKind::Trim => {
                check_writable(terms)?;
                check_within(range, terms, ErrorCode::Invalid)?;
                Ok(Self::Trim { range })
            }
            CommandKind::Cache => {
                check_within(range, terms, ErrorCode::Invalid)?;
                Ok(Self::Cache)
            }
            CommandKind::Flush if range.offset != 0 || range.length != 0 => {
                Err(invalid("a flush has neither offset nor length"))
            }
            CommandKind::Flush => Ok(Self::Flush),
            CommandKind::Disconnect => Ok(Self::Disconnect),
            CommandKind::Other(number) => Err(invalid(format!("there is no command {number}"))),
        }
    }

    /// Bytes of memory that the command takes until it is answered, besides a small constant.
    pub(crate) fn memory_bytes(&self) -> u64 {
        match self {
            Self::Read { range, .. } | Self::Write { range } => range.length,
            _ => 0,
        }
    }
}

fn invalid(text: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(ErrorCode::Invalid, text)
}

fn check_flags(header: &RequestHeader, terms: &Terms) -> Result<(), Refusal> {
    let mut rest = header.flags.without(CommandFlags::FUA);
    match header.kind {
        CommandKind::Read if terms.structured_replies => rest = rest.without(CommandFlags::DF),
        CommandKind::WriteZeroes => {
            rest = rest
                .without(CommandFlags::NO_HOLE)
                .without(CommandFlags::FAST_ZERO);
        }
        _ => {}
    }
    // A disconnect is obeyed whatever its flags are: it has no reply that could carry the error.
    if rest.is_empty() || header.kind == CommandKind::Disconnect {
        Ok(())
    } else {
        Err(invalid(format!(
            "the command takes no such flags: {:#x}",
            rest.0
        )))
    }
}

fn check_writable(terms: &Terms) -> Result<(), Refusal> {
    if terms.read_only {
        return Err(Refusal::new(
            ErrorCode::NotPermitted,
            "the export is read-only",
        ));
    }
    Ok(())
}

fn check_within(range: ByteRange, terms: &Terms, code: ErrorCode) -> Result<(), Refusal> {
    let end = range.offset.checked_add(range.length);
    if end.is_none_or(|end| end > terms.size_bytes) {
        let text = format!(
            "{} bytes from {} on pass the end at {}",
            range.length, range.offset, terms.size_bytes
        );
        return Err(Refusal::new(code, text));
    }
    Ok(())
}

fn check_payload(range: ByteRange, terms: &Terms) -> Result<(), Refusal> {
    if range.length > terms.payload_bytes_max {
        let text = format!(
            "a request carries at most {} bytes",
            terms.payload_bytes_max
        );
        return Err(Refusal::new(ErrorCode::Overflow, text));
    }
    Ok(())
}

/// Freeing space is always fast; zeroes that keep it are as slow as any other data.
fn zeroing(flags: CommandFlags) -> Result<Zeroing, Refusal> {
    if !flags.contains(CommandFlags::NO_HOLE) {
        Ok(Zeroing::Punch)
    } else if flags.contains(CommandFlags::FAST_ZERO) {
        let text = "zeroes that keep their space are as slow as other data";
        Err(Refusal::new(ErrorCode::NotSupported, text))
    } else {
        Ok(Zeroing::Allocate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: u64 = 1 << 30;
    const TERMS: Terms = Terms {
        size_bytes: SIZE,
        read_only: false,
        structured_replies: true,
        payload_bytes_max: 1 << 26,
    };

    fn header(kind: CommandKind, offset: u64, length: u64) -> RequestHeader {
        RequestHeader {
            flags: CommandFlags(0),
            kind,
            cookie: 1,
            offset,
            length,
        }
    }

    fn code(header: &RequestHeader, terms: &Terms) -> Option<ErrorCode> {
        Command::check(header, terms)
            .err()
            .map(|refusal| refusal.code)
    }

    #[test]
    fn the_end_of_the_device_is_enforced_with_the_errors_of_each_command() {
        for (kind, expected) in [
            (CommandKind::Read, ErrorCode::Invalid),
            (CommandKind::Trim, ErrorCode::Invalid),
            (CommandKind::Cache, ErrorCode::Invalid),
            (CommandKind::Write, ErrorCode::NoSpace),
            (CommandKind::WriteZeroes, ErrorCode::NoSpace),
        ] {
            assert_eq!(code(&header(kind, SIZE - 1, 1), &TERMS), None, "{kind:?}");
            assert_eq!(code(&header(kind, SIZE, 0), &TERMS), None, "{kind:?}");
            assert_eq!(
                code(&header(kind, SIZE - 1, 2), &TERMS),
                Some(expected),
                "{kind:?}"
            );
            assert_eq!(
                code(&header(kind, SIZE + 1, 0), &TERMS),
                Some(expected),
                "{kind:?}"
            );
            assert_eq!(
                code(&header(kind, u64::MAX, 2), &TERMS),
                Some(expected),
                "{kind:?}"
            );
        }
    }

    #[test]
    fn a_read_only_export_is_never_written() {
        let terms = Terms {
            read_only: true,
            ..TERMS
        };
        for kind in [
            CommandKind::Write,
            CommandKind::WriteZeroes,
            CommandKind::Trim,
        ] {
            assert_eq!(
                code(&header(kind, 0, 4096), &terms),
                Some(ErrorCode::NotPermitted)
            );
        }
        for kind in [CommandKind::Read, CommandKind::Cache] {
            assert_eq!(code(&header(kind, 0, 4096), &terms), None);
        }
        assert_eq!(code(&header(CommandKind::Flush, 0, 0), &terms), None);
    }

    #[test]
    fn each_command_takes_its_own_flags_and_fua() {
        let kinds = [
            (CommandKind::Read, 0b0_0101),
            (CommandKind::Write, 0b0_0001),
            (CommandKind::Flush, 0b0_0001),
            (CommandKind::Trim, 0b0_0001),
            (CommandKind::Cache, 0b0_0001),
            (CommandKind::WriteZeroes, 0b1_0011),
        ];
        for (kind, allowed) in kinds {
            for bit in 0..16 {
                let flags = CommandFlags(1 << bit);
                let expected = (flags.0 & allowed == 0).then_some(ErrorCode::Invalid);
                assert_eq!(
                    code(
                        &RequestHeader {
                            flags,
                            ..header(kind, 0, 0)
                        },
                        &TERMS
                    ),
                    expected,
                    "{kind:?} with bit {bit}"
                );
            }
        }
        let unfragmented = RequestHeader {
            flags: CommandFlags::DF,
            ..header(kinds[0].0, 0, 0)
        };
        let simple = Terms {
            structured_replies: false,
            ..TERMS
        };
        assert_eq!(code(&unfragmented, &simple), Some(ErrorCode::Invalid));
    }

    #[test]
    fn fast_zeroes_are_those_that_free_their_space() {
        let zeroes = header(CommandKind::WriteZeroes, 0, 4096);
        let punched = RequestHeader {
            flags: CommandFlags(0b1_0000),
            ..zeroes
        };
        assert_eq!(code(&punched, &TERMS), None);
        let kept = RequestHeader {
            flags: CommandFlags(0b1_0010),
            ..zeroes
        };
        assert_eq!(code(&kept, &TERMS), Some(ErrorCode::NotSupported));
    }

    #[test]
    fn oversize_is_an_overflow_only_where_there_is_a_payload() {
        for kind in [CommandKind::Read, CommandKind::Write] {
            assert_eq!(code(&header(kind, 0, 1 << 26), &TERMS), None);
            assert_eq!(
                code(&header(kind, 0, (1 << 26) + 1), &TERMS),
                Some(ErrorCode::Overflow)
            );
        }
        for kind in [
            CommandKind::Trim,
            CommandKind::WriteZeroes,
            CommandKind::Cache,
        ] {
            assert_eq!(code(&header(kind, 0, SIZE), &TERMS), None);
        }
    }

    #[test]
    fn what_is_not_understood_is_invalid() {
        assert_eq!(
            code(&header(CommandKind::Other(9), 0, 0), &TERMS),
            Some(ErrorCode::Invalid)
        );
        assert_eq!(
            code(&header(CommandKind::Flush, 0, 1), &TERMS),
            Some(ErrorCode::Invalid)
        );
    }
}
