//! Introductions to bytes and back.

use super::super::codec::{Encoder, Fields};
use super::super::holder::{HOLDER_BYTES_MIN, holder, put_holder};
use super::super::message::MessageError;
use super::{Credit, HOLDERS_MAX, Introduction, PeerMessage};
use crate::domain::{Birth, Rank, StoreId};

const BORN_BYTES: usize = 1 + 16;

/// # Panics
/// When there are more holders than an introduction names.
pub(super) fn put_introduction(introduction: &Introduction, credit: Credit, out: &mut Encoder) {
    out.store_id(introduction.store);
    out.flag(introduction.empty);
    out.u32(credit.requests);
    out.u64(credit.bytes);
    let stores = introduction
        .birth
        .as_ref()
        .map_or(&[][..], |birth| &birth.stores);
    out.count(stores.len());
    for store in stores {
        out.flag(store.is_some());
        out.store_id(store.unwrap_or(StoreId([0; 16])));
    }
    let holders = &introduction.holders;
    assert!(
        holders.len() <= HOLDERS_MAX,
        "an introduction names so many holders at most"
    );
    out.count(holders.len());
    for holder in holders {
        put_holder(holder, out);
    }
}

pub(super) fn introduction(fields: &mut Fields) -> Result<PeerMessage, MessageError> {
    let store = fields.store_id()?;
    let empty = fields.flag()?;
    let credit = Credit {
        requests: fields.u32()?,
        bytes: fields.u64()?,
    };
    let processes = fields.count(BORN_BYTES)?;
    if processes > usize::from(Rank::MAX) {
        return Err(MessageError::Malformed("a birth"));
    }
    let stores = (0..processes).map(|_| match (fields.flag()?, fields.store_id()?) {
        (true, store) => Ok(Some(store)),
        (false, StoreId([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])) => Ok(None),
        (false, _) => Err(MessageError::Malformed("a birth")),
    });
    let stores = stores.collect::<Result<Vec<_>, _>>()?;
    let birth = (processes > 0).then_some(Birth { stores });
    let holders = fields.count(HOLDER_BYTES_MIN)?;
    if holders > HOLDERS_MAX {
        return Err(MessageError::Malformed("the holders"));
    }
    let holders = (0..holders)
        .map(|_| holder(fields))
        .collect::<Result<_, _>>()?;
    let introduction = Introduction {
        store,
        birth,
        empty,
        holders,
    };
    Ok(PeerMessage::Introduction {
        introduction,
        credit,
    })
}
