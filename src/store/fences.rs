//! The fences that a store has on record, one for each volume that has one.

use bytes::{Buf, BufMut};

use super::error::StoreError;
use crate::domain::{FENCE_BYTES, Fence, Generation, Volume};

/// Fences by volume, ascending; a volume that has none is under [`Fence::INITIAL`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fences(Vec<(Volume, Fence)>);

/// Bytes of one fence in the identity.
const RECORD_BYTES: usize = 2 + FENCE_BYTES;
const _: () = assert!(RECORD_BYTES == 40);

impl Fences {
    /// The most that fit into so many bytes, their count included.
    pub(crate) const fn fitting(bytes: usize) -> usize {
        (bytes - 2) / RECORD_BYTES
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn of(&self, volume: Volume) -> Fence {
        self.place(volume)
            .map_or(Fence::INITIAL, |place| self.0[place].1)
    }

    /// The fences with this one for `volume`.
    ///
    /// # Panics
    /// When the volume has a fence of a higher generation: a process that went back would accept
    /// what it has refused, and acknowledge what was overtaken.
    pub(crate) fn with(
        &self,
        volume: Volume,
        fence: Fence,
        most: usize,
    ) -> Result<Self, StoreError> {
        let known = self.of(volume);
        assert!(
            fence.generation >= known.generation,
            "a fence never goes back: {fence:?} after {known:?}"
        );
        if !is_countable(&fence) {
            return Err(StoreError::FenceTooHigh {
                generation: fence.generation.0,
            });
        }
        let mut fences = self.clone();
        match self.place(volume) {
            Ok(place) => fences.0[place].1 = fence,
            Err(_) if self.0.len() >= most => {
                return Err(StoreError::TooManyFences {
                    volume: volume.0,
                    most,
                });
            }
            Err(place) => fences.0.insert(place, (volume, fence)),
        }
        Ok(fences)
    }

    /// Count and fences, as the identity has them.
    pub(crate) fn encode(&self, bytes: &mut Vec<u8>) {
        bytes.put_u16(u16::try_from(self.0.len()).expect("no more than fit into a block"));
        for (volume, fence) in &self.0 {
            bytes.put_u16(volume.0);
            bytes.put_slice(&fence.to_bytes());
        }
    }

    /// The fences that these bytes begin with; `None` when they are none, not in order, or of
    /// generations above [`Generation::MAX`].
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let count = bytes.try_get_u16().ok()?;
        let mut fences: Vec<(Volume, Fence)> = Vec::new();
        for _ in 0..count {
            let volume = Volume(bytes.try_get_u16().ok()?);
            let (fence, rest) = bytes.split_first_chunk::<FENCE_BYTES>()?;
            bytes = rest;
            if fences.last().is_some_and(|(before, _)| *before >= volume) {
                return None;
            }
            let fence = Fence::from_bytes(fence).filter(is_countable)?;
            fences.push((volume, fence));
        }
        Some(Self(fences))
    }

    fn place(&self, volume: Volume) -> Result<usize, usize> {
        self.0.binary_search_by_key(&volume, |(volume, _)| *volume)
    }
}

/// Whether somebody may have counted to its generation. A higher one would be refused at the next
/// start, and is not taken either.
fn is_countable(fence: &Fence) -> bool {
    fence.generation <= Generation::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(generation: u64) -> Fence {
        Fence {
            generation: Generation(generation),
            ..Fence::INITIAL
        }
    }

    #[test]
    fn fences_are_kept_in_order_of_volume() {
        let mut fences = Fences::default();
        for volume in [7, 0, 300, 7] {
            let next = fences.of(Volume(volume)).generation.0 + 1;
            fences = fences.with(Volume(volume), shared(next), 3).unwrap();
        }
        assert_eq!(fences.of(Volume(7)), shared(2));
        assert_eq!(fences.of(Volume(8)), Fence::INITIAL);
        let mut bytes = Vec::new();
        fences.encode(&mut bytes);
        assert_eq!(
            [bytes[3], bytes[2 + 41], bytes[2 + 81]],
            [0, 7, 300_u16.to_be_bytes()[1]]
        );
        assert_eq!(Fences::decode(&bytes), Some(fences.clone()));

        let error = fences.with(Volume(8), shared(1), 3).unwrap_err();
        assert!(matches!(
            error,
            StoreError::TooManyFences { volume: 8, most: 3 }
        ));

        assert_eq!(Fences::decode(&bytes[..bytes.len() - 1]), None);
        let (first, second) = bytes[2..82].split_at_mut(40);
        first.swap_with_slice(second);
        assert_eq!(Fences::decode(&bytes), None, "not in order");
    }

    /// A generation of which there is no next one made every later attach panic.
    #[test]
    fn a_generation_that_nobody_counted_to_is_neither_taken_nor_believed() {
        let none = Fences::default();
        let highest = none.with(Volume(0), shared(1 << 63), 3).unwrap();
        let mut bytes = Vec::new();
        highest.encode(&mut bytes);
        assert_eq!(Fences::decode(&bytes), Some(highest));
        for generation in [(1 << 63) + 1, u64::MAX] {
            let refused = none.with(Volume(0), shared(generation), 3);
            assert!(matches!(refused, Err(StoreError::FenceTooHigh { .. })));
            let recorded = Fences(vec![(Volume(0), shared(generation))]);
            let mut bytes = Vec::new();
            recorded.encode(&mut bytes);
            assert_eq!(Fences::decode(&bytes), None);
        }
    }

    #[test]
    #[should_panic(expected = "never goes back")]
    fn a_fence_never_goes_back() {
        let fences = Fences::default().with(Volume(0), shared(4), 3).unwrap();
        fences.with(Volume(0), shared(3), 3).ok();
    }
}
