//! Whether what an exclusive generation saw or wrote was changed by anything older.
//!
//! Once an operation under an exclusive generation is answered, it has *established* the value of
//! the sector: from then on, under that generation and all later ones, every read returns that
//! value, or one that somebody was asked to write under that generation or a later one. That is
//! more than linearizability, for which a write of a dead client may take effect at any time.

use std::collections::BTreeMap;

use atdd::domain::{Fence, Generation};

/// What an attempt at an operation has to do with one sector.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Sight {
    /// When a register was asked.
    pub(crate) start: u64,
    /// When the client was answered.
    pub(crate) end: Option<u64>,
    /// Under which authority.
    pub(crate) fence: Fence,
    /// What was read or written.
    pub(crate) value: u64,
    /// Whether it was a read.
    pub(crate) seen: bool,
}

/// Says what an older generation changed, if it did. `newest` is the newest generation under which
/// a value was ever to be written.
pub(crate) fn check(
    sights: &[Sight],
    newest: impl Fn(u64) -> Option<Generation>,
) -> Result<(), String> {
    // When, and which value.
    let mut established: BTreeMap<Generation, Vec<(u64, u64)>> = BTreeMap::new();
    for sight in sights.iter().filter(|sight| sight.fence.is_exclusive()) {
        let values = established.entry(sight.fence.generation).or_default();
        values.extend(sight.end.map(|end| (end, sight.value)));
    }
    for (&generation, values) in &mut established {
        values.sort_unstable();
        for sight in sights.iter().filter(|sight| sight.seen) {
            let Some(end) = sight.end else {
                continue;
            };
            if newest(sight.value) >= Some(generation) {
                continue;
            }
            let before = values.iter();
            let mut before = before.take_while(|&&(established, _)| established < sight.start);
            if let Some(&(at, value)) = before.find(|&&(_, value)| value != sight.value) {
                return Err(format!(
                    "value {value} was established at {at} under {generation:?}, but from {} \
                     to {end} the older value {} is read under {:?}",
                    sight.start, sight.value, sight.fence.generation
                ));
            }
        }
    }
    Ok(())
}
