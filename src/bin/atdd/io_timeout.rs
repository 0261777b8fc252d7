//! `--io-timeout`: how long requests may wait for a majority.

use std::num::NonZeroU64;

use anyhow::{Context, Result};

/// Reads the value of `--io-timeout`.
pub(crate) fn parse(text: &str) -> Result<NonZeroU64> {
    let seconds: u64 = text.parse().context(
        "write whole seconds, from 1 on; leave --io-timeout out to wait for as long as it takes",
    )?;
    NonZeroU64::new(seconds).context(
        "every request would fail at once; write 1 or more seconds, or leave --io-timeout out to \
         wait for as long as it takes",
    )
}
