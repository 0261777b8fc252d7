//! The floor: settled generations that were raised by ranges.
//!
//! [`Content::Unchanged`](crate::domain::Content::Unchanged) settles whatever the sectors of a range
//! hold. To write each sector's stamp anew would cost a record a sector. Instead the range gets a
//! *floor*, one record: the stamp of a sector is the one that it was stored under, settled under the
//! floor if it was not under a later generation. That is its *effective* stamp, and nobody outside
//! of the store sees another. What is on disk stays as it is, the checksum of the data included,
//! which is bound to the stamp that they were stored under. A sector that was never written has
//! under a floor the zero stamp with the floor's generation, and zeroes.
//!
//! # Why a floor raises nothing that it should not
//! It holds for what is stored in the sectors later, too. That is right because a process answers
//! under a generation only once its fence is stable, and with it every store of older generations
//! that it had accepted; whatever it stores from then on is settled under that generation or a later
//! one, and a floor of it changes nothing about that. So a floor only ever raises what the sector
//! held when it was asked for.
//!
//! # How it is kept
//! As tombstones of a *shadow volume*: the floor of a sector is found at its address with the top bit
//! set, under the stamp (generation, 0, 0, none, 0). Journal, map, checkpoints and recovery take it
//! as any other extent, of two of which the newer wins. So volumes' numbers end where the shadows
//! begin, and a floor goes only when a higher one takes its place. Neighbours that are equal become
//! one span. Where there are no floors nothing is looked up for them ([`Index`]).
//!
//! When a page of the map is damaged that has floors, the floors of its range are lost: a sector of
//! it has no vote, unless it was stored under a generation that no floor of the page can exceed.
//!
//! [`Index`]: super::index::Index

use crate::domain::SectorRange;

/// The numbers of volumes are below this.
pub const VOLUME_LIMIT: u16 = 1 << 15;

/// Where the shadow volumes begin.
pub(crate) const FLOORS: u64 = 1 << 63;
const _: () = assert!((VOLUME_LIMIT as u64) << 48 == FLOORS);

/// Whether the sectors belong to a volume that there can not be.
pub(crate) const fn beyond_volumes(range: SectorRange) -> bool {
    range.first().volume().0 >= VOLUME_LIMIT
}
