//! Who the store is, and what must be known before anything else.
//!
//! It is kept twice. An update writes one copy, syncs, writes the other and syncs; only then is it
//! acknowledged. So a crash leaves one whole copy, and a copy that rots takes nothing with it that
//! was acknowledged. The copy that is not the newest is written first.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 8 | `atddstor` |
//! | 8 | 4 | format: 2 once there is a fence, which older programs would forget; 1 before |
//! | 12 | 8 | checksum of both blocks without these 20 bytes, bound to the first block |
//! | 20 | 16 | store |
//! | 36 | 16 | cluster |
//! | 52 | 1 | rank |
//! | 53 | 8 | revision: the copy with the higher one is the newer |
//! | 61 | 4 | incarnation |
//! | 65 | 8 | *believed*: the last batch of earlier incarnations that counts |
//! | 73 | 8 | the sequence of this incarnation's first batch; those between never count |
//! | 81 | 8 | sequence of the root when this incarnation began |
//! | 89 | 1 | 1 if the cluster is born |
//! | 90 | 1 | processes in the birth |
//! | 91 | 32 | a bit for each of them, the lowest first: its store was met |
//! | 123 | 2 | fences; always 0 in format 1 |
//! | 125 | 40 each | fences in order of volume: volume 2, [`Fence::to_bytes`] 38; then 0 |
//! | 4096 | 4064 | the stores that were met at birth, in rank order, 16 bytes each |
//! | 8160 | 32 | 0 |
//!
//! A copy whose checksum holds is what some program wrote, so fences in it that make no sense here,
//! such as one of an unknown mode or of a generation beyond all counting, are not damage. Falling
//! back to the other copy might forget a fence that was acknowledged: the store is not opened
//! ([`StoreError::FencesUnknown`]).
//!
//! [`Fence::to_bytes`]: crate::domain::Fence::to_bytes

use std::io::IoSlice;

use bytes::{Buf, BufMut};

use super::block::{BLOCK_SIZE, Block};
use super::checksum::{Checksums, Kind};
use super::error::StoreError;
use super::fences::Fences;
use super::layout::{FORMAT, FORMAT_WITHOUT_FENCES, IDENTITY_BLOCKS, IDENTITY_PLACES};
use super::medium::{Medium, read_tolerant};
use crate::domain::{Birth, ClusterId, Fence, Incarnation, Rank, StoreId, Volume};

/// The contents of the identity blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) store: StoreId,
    pub(crate) cluster: ClusterId,
    pub(crate) rank: Rank,
    pub(crate) revision: u64,
    pub(crate) incarnation: Incarnation,
    /// The last batch of all earlier incarnations that counts.
    pub(crate) believed: u64,
    /// This incarnation's batches begin here.
    pub(crate) first_sequence: u64,
    /// No older root may be used.
    pub(crate) root_sequence: u64,
    pub(crate) birth: Option<Birth>,
    pub(crate) fences: Fences,
}

const MAGIC: &[u8; 8] = b"atddstor";
const FORMAT_AT: usize = MAGIC.len();
const CHECKSUM: usize = FORMAT_AT + 4;
const CONTENT: usize = CHECKSUM + 8;
const STORE_ID_BYTES: usize = 16;
const FENCES: usize = 123;
const BIRTH_STORES: usize = BLOCK_SIZE;
const _: () = assert!(BIRTH_STORES + Rank::MAX as usize * STORE_ID_BYTES <= 2 * BLOCK_SIZE);
const IDENTITY_BYTES: usize = IDENTITY_BLOCKS * BLOCK_SIZE;

/// The most fences that there is room for.
pub(crate) const FENCES_MAX: usize = Fences::fitting(BIRTH_STORES - FENCES);
const _: () = assert!(FENCES_MAX == 99);

impl Identity {
    /// The newer one of the copies that are whole, and which copy must be written first at the
    /// next update.
    pub(crate) fn read(medium: &dyn Medium) -> Result<(Self, usize), StoreError> {
        let mut copies = Vec::new();
        for (copy, place) in IDENTITY_PLACES.into_iter().enumerate() {
            let mut blocks = [Block::ZERO; IDENTITY_BLOCKS];
            read_tolerant(medium, place, &mut blocks)?;
            copies.push((copy, Self::decode(place, bytemuck::cast_slice(&blocks))?));
        }
        let newest = copies
            .into_iter()
            .filter_map(|(copy, identity)| Some((copy, identity?)))
            .max_by_key(|(_, identity)| identity.revision);
        let (copy, identity) = newest.ok_or(StoreError::IdentityDamaged)?;
        Ok((identity, 1 - copy))
    }

    /// How many of the copies are not whole.
    pub(crate) fn damaged_copies(medium: &dyn Medium) -> Result<u64, StoreError> {
        let mut damaged = 0;
        for place in IDENTITY_PLACES {
            let mut blocks = [Block::ZERO; IDENTITY_BLOCKS];
            read_tolerant(medium, place, &mut blocks)?;
            let whole = Self::decode(place, bytemuck::cast_slice(&blocks))?;
            damaged += u64::from(whole.is_none());
        }
        Ok(damaged)
    }

    /// Writes both copies, `first` before the other; durable on return.
    pub(crate) fn write(&self, medium: &dyn Medium, first: usize) -> Result<(), StoreError> {
        for place in [IDENTITY_PLACES[first], IDENTITY_PLACES[1 - first]] {
            let bytes = self.encode(place);
            medium
                .write(place, &[IoSlice::new(&bytes)])
                .and_then(|()| medium.sync())
                .map_err(StoreError::io("writing the identity"))?;
        }
        Ok(())
    }

    /// The identity after the cluster is born.
    pub(crate) fn with_birth(&self, birth: &Birth) -> Self {
        Self {
            revision: self.revision + 1,
            birth: Some(birth.clone()),
            ..self.clone()
        }
    }

    /// The identity with this fence, if there is room for it.
    ///
    /// # Panics
    /// When the volume has a fence of a higher generation.
    pub(crate) fn with_fence(&self, volume: Volume, fence: Fence) -> Result<Self, StoreError> {
        Ok(Self {
            revision: self.revision + 1,
            fences: self.fences.with(volume, fence, FENCES_MAX)?,
            ..self.clone()
        })
    }

    pub(crate) fn encode(&self, place: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(IDENTITY_BYTES);
        bytes.put_slice(MAGIC);
        bytes.put_u32(if self.fences.is_empty() {
            FORMAT_WITHOUT_FENCES
        } else {
            FORMAT
        });
        bytes.put_u64(0);
        bytes.put_slice(&self.store.0);
        bytes.put_slice(&self.cluster.0);
        bytes.put_u8(self.rank.number());
        bytes.put_u64(self.revision);
        bytes.put_u32(self.incarnation.0);
        bytes.put_u64(self.believed);
        bytes.put_u64(self.first_sequence);
        bytes.put_u64(self.root_sequence);
        bytes.put_u8(u8::from(self.birth.is_some()));
        let stores = self.birth.as_ref().map_or(&[][..], |birth| &birth.stores);
        bytes.put_u8(u8::try_from(stores.len()).expect("no more than there are ranks"));
        let mut met = [0_u8; 32];
        for (place, _) in stores.iter().enumerate().filter(|(_, id)| id.is_some()) {
            met[place / 8] |= 1 << (place % 8);
        }
        bytes.put_slice(&met);
        assert_eq!(
            bytes.len(),
            FENCES,
            "the fields are as long as the table says"
        );
        self.fences.encode(&mut bytes);
        assert!(bytes.len() <= BIRTH_STORES, "at most FENCES_MAX fences");
        bytes.resize(BIRTH_STORES, 0);
        for id in stores {
            bytes.put_slice(&id.map_or([0; STORE_ID_BYTES], |id| id.0));
        }
        bytes.resize(IDENTITY_BYTES, 0);
        let checksum =
            Checksums::of_store(self.store).metadata(Kind::Identity, place, &bytes[CONTENT..]);
        bytes[CHECKSUM..CONTENT].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    /// The identity in these bytes; `None` when they are damaged.
    pub(crate) fn decode(place: u64, bytes: &[u8]) -> Result<Option<Self>, StoreError> {
        let mut rest = bytes;
        let mut magic = [0; MAGIC.len()];
        rest.copy_to_slice(&mut magic);
        let format = rest.get_u32();
        let checksum = rest.get_u64();
        let mut store = StoreId([0; STORE_ID_BYTES]);
        rest.copy_to_slice(&mut store.0);
        if magic != *MAGIC {
            return Ok(None);
        }
        if !(FORMAT_WITHOUT_FENCES..=FORMAT).contains(&format) {
            return Err(StoreError::UnknownFormat {
                found: format,
                known: FORMAT,
            });
        }
        let computed =
            Checksums::of_store(store).metadata(Kind::Identity, place, &bytes[CONTENT..]);
        if computed != checksum {
            return Ok(None);
        }
        let mut cluster = ClusterId([0; 16]);
        rest.copy_to_slice(&mut cluster.0);
        let Some(rank) = Rank::new(rest.get_u8()) else {
            return Ok(None);
        };
        let fences =
            Fences::decode(&bytes[FENCES..BIRTH_STORES]).ok_or(StoreError::FencesUnknown)?;
        Ok(Some(Self {
            store,
            cluster,
            rank,
            revision: rest.get_u64(),
            incarnation: Incarnation(rest.get_u32()),
            believed: rest.get_u64(),
            first_sequence: rest.get_u64(),
            root_sequence: rest.get_u64(),
            birth: decode_birth(rest, &bytes[BIRTH_STORES..]),
            fences,
        }))
    }
}

fn decode_birth(mut fields: &[u8], mut ids: &[u8]) -> Option<Birth> {
    let born = fields.get_u8() == 1;
    let count = usize::from(fields.get_u8());
    let met = &fields[..32];
    let stores = (0..count).map(|place| {
        let mut id = [0; STORE_ID_BYTES];
        ids.copy_to_slice(&mut id);
        (met[place / 8] & (1 << (place % 8)) != 0).then_some(StoreId(id))
    });
    let stores = stores.collect();
    born.then_some(Birth { stores })
}
