//! Fields to bytes and back: every read is checked, and nothing is allocated for a length that
//! the bytes at hand do not bear out.

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::message::{LENGTH_BYTES, MESSAGE_BYTES_MAX, MessageError};
use crate::domain::{
    FENCE_BYTES, Fence, Generation, Rank, STAMP_BYTES, SectorAddress, SectorRange, Stamp, StoreId,
};

/// The bytes of messages as they are built: small fields gathered, values by reference.
#[derive(Debug, Default)]
pub struct Encoder {
    fields: BytesMut,
    /// Each value with the place among the fields that it stands at.
    values: Vec<(usize, Bytes)>,
    value_bytes: usize,
}

impl Encoder {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        self.fields.len() + self.value_bytes
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, in order; the encoder is empty again.
    pub fn take(&mut self) -> Vec<Bytes> {
        let mut pieces = Vec::with_capacity(2 * self.values.len() + 1);
        let mut cut = 0;
        for (place, value) in self.values.drain(..) {
            if place > cut {
                pieces.push(self.fields.split_to(place - cut).freeze());
                cut = place;
            }
            pieces.push(value);
        }
        if !self.fields.is_empty() {
            pieces.push(self.fields.split().freeze());
        }
        self.value_bytes = 0;
        pieces
    }

    /// Appends a message: its length, its type, and the fields that `body` puts there.
    ///
    /// # Panics
    /// When the message is longer than any may be.
    pub(super) fn message(&mut self, code: u8, body: impl FnOnce(&mut Self)) {
        let start = self.len();
        let prefix = self.fields.len();
        self.u32(0);
        self.u8(code);
        body(self);
        let length = self.len() - start - LENGTH_BYTES;
        assert!(length <= MESSAGE_BYTES_MAX, "no message has {length} bytes");
        let length = u32::try_from(length).expect("far below 4 GiB");
        self.fields[prefix..prefix + LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.slice(&[value]);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.slice(&value.to_be_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.slice(&value.to_be_bytes());
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.slice(&value.to_be_bytes());
    }

    pub(super) fn slice(&mut self, bytes: &[u8]) {
        self.fields.put_slice(bytes);
    }

    /// A value, by reference.
    pub(super) fn value(&mut self, bytes: &Bytes) {
        self.values.push((self.fields.len(), bytes.clone()));
        self.value_bytes += bytes.len();
    }

    /// A number of things.
    pub(super) fn count(&mut self, count: usize) {
        self.u16(u16::try_from(count).expect("what is counted is bounded"));
    }

    pub(super) fn store_id(&mut self, store: StoreId) {
        self.slice(&store.0);
    }

    pub(super) fn stamp(&mut self, stamp: Stamp) {
        self.slice(&stamp.to_bytes());
    }

    pub(super) fn fence(&mut self, fence: Fence) {
        self.slice(&fence.to_bytes());
    }

    /// A number that may be missing: a flag, and the number if it is there.
    pub(super) fn option(&mut self, number: Option<u64>) {
        self.flag(number.is_some());
        if let Some(number) = number {
            self.u64(number);
        }
    }

    pub(super) fn flag(&mut self, flag: bool) {
        self.u8(flag.into());
    }

    pub(super) fn range(&mut self, range: SectorRange) {
        self.u64(range.first().to_bits());
        self.u32(range.count());
    }
}

/// The fields of one message, taken from its front.
#[derive(Debug)]
pub(super) struct Fields(Bytes);

impl Fields {
    pub(super) fn new(message: Bytes) -> Self {
        Self(message)
    }

    pub(super) fn u8(&mut self) -> Result<u8, MessageError> {
        self.need(1)?;
        Ok(self.0.get_u8())
    }

    pub(super) fn u16(&mut self) -> Result<u16, MessageError> {
        self.need(2)?;
        Ok(self.0.get_u16())
    }

    pub(super) fn u32(&mut self) -> Result<u32, MessageError> {
        self.need(4)?;
        Ok(self.0.get_u32())
    }

    pub(super) fn u64(&mut self) -> Result<u64, MessageError> {
        self.need(8)?;
        Ok(self.0.get_u64())
    }

    pub(super) fn flag(&mut self) -> Result<bool, MessageError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(MessageError::Malformed("a flag")),
        }
    }

    pub(super) fn rank(&mut self) -> Result<Rank, MessageError> {
        Rank::new(self.u8()?).ok_or(MessageError::Malformed("a rank"))
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], MessageError> {
        let bytes = *self.0.first_chunk().ok_or(MessageError::Short)?;
        self.0.advance(N);
        Ok(bytes)
    }

    /// The next bytes, by reference.
    pub(super) fn value(&mut self, length: u64) -> Result<Bytes, MessageError> {
        let length = usize::try_from(length).map_err(|_| MessageError::Short)?;
        self.need(length)?;
        Ok(self.0.split_to(length))
    }

    /// The rest, by reference.
    pub(super) fn rest(&mut self) -> Bytes {
        self.0.split_off(0)
    }

    /// A number of things of at least `bytes_each`, as many as there is room for in what follows.
    pub(super) fn count(&mut self, bytes_each: usize) -> Result<usize, MessageError> {
        let count = self.u16()?.into();
        self.need(count * bytes_each)?;
        Ok(count)
    }

    pub(super) fn store_id(&mut self) -> Result<StoreId, MessageError> {
        Ok(StoreId(self.array()?))
    }

    pub(super) fn stamp(&mut self) -> Result<Stamp, MessageError> {
        let bytes = self.array::<STAMP_BYTES>()?;
        let stamp = Stamp::from_bytes(&bytes).filter(|stamp| stamp.is_countable());
        stamp.ok_or(MessageError::Malformed("a stamp"))
    }

    pub(super) fn fence(&mut self) -> Result<Fence, MessageError> {
        let bytes = self.array::<FENCE_BYTES>()?;
        let fence = Fence::from_bytes(&bytes).filter(|it| it.generation <= Generation::MAX);
        fence.ok_or(MessageError::Malformed("a fence"))
    }

    pub(super) fn generation(&mut self) -> Result<Generation, MessageError> {
        Generation::new(self.u64()?).ok_or(MessageError::Malformed("a generation"))
    }

    /// A generation that may be missing.
    pub(super) fn optional_generation(&mut self) -> Result<Option<Generation>, MessageError> {
        self.flag()?.then(|| self.generation()).transpose()
    }

    pub(super) fn range(&mut self) -> Result<SectorRange, MessageError> {
        let first = SectorAddress::from_bits(self.u64()?);
        let count = self.u32()?;
        SectorRange::new(first, count).ok_or(MessageError::Malformed("a range of sectors"))
    }

    pub(super) fn end(&self) -> Result<(), MessageError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(MessageError::Trailing)
        }
    }

    fn need(&self, bytes: usize) -> Result<(), MessageError> {
        if self.0.len() < bytes {
            Err(MessageError::Short)
        } else {
            Ok(())
        }
    }
}
