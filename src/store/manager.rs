//! What the rest of the process sees of a store.

use std::sync::Arc;

use super::floor::beyond_volumes;
use crate::domain::{Extent, Held, Runs, SectorRange, Vote};

/// Values to be stored together.
#[derive(Clone, Debug)]
pub struct StoreRequest {
    /// Named by the [`Completion::Stored`].
    pub token: u64,
    /// The values; they do not overlap.
    pub extents: Vec<Extent>,
}

impl StoreRequest {
    /// Whether some of it is for a volume that there can not be.
    pub(crate) fn beyond_volumes(&self) -> bool {
        self.extents
            .iter()
            .any(|extent| beyond_volumes(extent.range))
    }
}

/// Something that was asked of the store is done.
#[derive(Clone, Debug)]
pub enum Completion {
    /// Every sector of a [`StoreRequest`] holds, on stable storage, its value or a newer one; or,
    /// of one that leaves the value unchanged, whatever it held, settled under the generation or a
    /// later one.
    Stored {
        /// Which request.
        token: u64,
    },
    /// Some sector of a [`StoreRequest`] is lost together with its stamp, and may have held a newer
    /// value, or belongs to a volume that there can not be: the request is not acknowledged, and
    /// never will be.
    Refused {
        /// Which request.
        token: u64,
    },
    /// A load that could not be answered at once.
    Loaded {
        /// Which load.
        token: u64,
        /// What is held, from stable state only.
        held: Held,
    },
}

/// Where completions go: a worker's inbox. Its owner has at most so many requests under way, so
/// it never blocks and never refuses.
pub trait Completions: Send + Sync {
    /// Takes what is done, in the order in which it became so.
    fn complete(&self, completions: Vec<Completion>);
}

/// The sectors of one process, on a disk or in memory.
///
/// Guarantees, for every implementation (the conformance suite checks them on each):
/// - A load sees stable state only: what a crash right after it would still find.
/// - `Stored` comes only when each sector's stable stamp is at least the request's; a value whose
///   stamp is not newer than what the sector holds changes nothing.
/// - A damaged copy is [`Vote::Lost`], never zeroes and never an older value. Storing a stamp
///   that is not below the damaged copy's heals it. Below it, where that stamp is known, a store
///   changes nothing and is completed all the same, as if the damage had come after it; the copy
///   stays lost. Below the highest that it may have been, where the stamp is lost too, a store is
///   [`Completion::Refused`].
/// - [`Content::Unchanged`](crate::domain::Content::Unchanged) raises the settled generation of
///   whatever the sectors hold, damaged copies and sectors never written included, and of nothing
///   else: from then on votes, values and comparisons have the raised stamp. It costs as much for a
///   range as for a sector. Stores that are under way together take effect one after the other,
///   in the order in which they were asked for; but for one that has to wait for the medium first, or
///   for space, which comes later. Only with `Unchanged` does the order make a difference, and only to stores
///   settled under an older generation, which is why nothing may be asked for under a generation
///   before every store of an older one is completed.
/// - Volumes' numbers are below [`VOLUME_LIMIT`](super::VOLUME_LIMIT). Sectors of others have no
///   vote, and stores to them are refused: they can only come from a peer's fault.
pub trait SectorsManager: Send + Sync {
    /// Votes for the sectors of `range`, and with `newer_than` (one vote for each sector) also the
    /// values that are newer than those. Answers at once when nothing has to be waited for, and
    /// through `completions` under `token` otherwise.
    fn load(
        &self,
        token: u64,
        range: SectorRange,
        newer_than: Option<Runs<Vote>>,
        completions: &Arc<dyn Completions>,
    ) -> Option<Held>;

    /// Begins to store the requests' values; each is completed by itself, as soon as it is stable.
    fn store(&self, requests: Vec<StoreRequest>, completions: &Arc<dyn Completions>);
}
