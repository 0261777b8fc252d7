//! Responses: what clients are answered.
//!
//! | offset | size | field |
//! |---|---|---|
//! | 0 | 4 | magic `61 74 64 64` |
//! | 4 | 2 | padding, zero |
//! | 6 | 1 | status: `00` Ok, `01` `AuthFailure`, `02` `InvalidSectorIndex`, and those below |
//! | 7 | 1 | type of the request + `40` |
//! | 8 | 8 | number of the request |
//! | 16 | 0 or 4096 | content of a successful READ; for other types see `extension` |
//! | end | 32 | tag |
//!
//! Clients that have attached, or tried to, may also get the status `03` Held, `04` Fenced,
//! `05` Elsewhere, `06` Contended, `07` `ShuttingDown`, `08` Unreadable, `09` `ReadOnly`,
//! `0a` `TimedOut`, `0b` `NotAttached` and `0c` Invalid.

use bytes::{Buf, Bytes, BytesMut};

use super::extension::content_bytes;
use super::kind::{ClientKind, MAGIC};
use super::status::ClientStatus;
use super::tags::ConnectionSession;
use crate::domain::SECTOR_SIZE;
use crate::wire::auth::{TAG_BYTES, Tagger, Verified};

const STATUS: usize = MAGIC.len() + 2;
const TYPE: usize = STATUS + 1;
const NUMBER: usize = TYPE + 1;

/// The size of a response without content and tag.
pub const RESPONSE_HEAD_BYTES: usize = NUMBER + 8;

const TYPE_OFFSET: u8 = 0x40;
const _: () = assert!(RESPONSE_HEAD_BYTES == 16);

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientResponse {
    /// The request's number.
    pub number: u64,
    /// The request's type.
    pub kind: ClientKind,
    /// How it ended.
    pub status: ClientStatus,
    /// The sectors that were read, an ATTACH's answer, or a HELLO's session; otherwise empty.
    pub content: Bytes,
}

/// The three pieces of a response's bytes, to be gathered by one vectored write.
#[derive(Clone, Debug)]
pub struct EncodedResponse {
    /// Everything before the content.
    pub head: [u8; RESPONSE_HEAD_BYTES],
    /// The content, possibly empty.
    pub content: Bytes,
    /// The tag over both.
    pub tag: [u8; TAG_BYTES],
}

impl ClientResponse {
    /// A response without content.
    pub fn bare(number: u64, kind: ClientKind, status: ClientStatus) -> Self {
        Self {
            number,
            kind,
            status,
            content: Bytes::new(),
        }
    }

    /// The answer to a HELLO: what the next ATTACH on this connection is to name.
    pub fn hello(number: u64, session: ConnectionSession) -> Self {
        Self {
            content: Bytes::copy_from_slice(&session.0),
            ..Self::bare(number, ClientKind::Hello, ClientStatus::Ok)
        }
    }

    /// The response's bytes.
    ///
    /// # Panics
    /// When the content is not as long as the type and status say.
    pub fn encode(self, tagger: &dyn Tagger) -> EncodedResponse {
        let Self {
            number,
            kind,
            status,
            content,
        } = self;
        let (head, tag) = seal(number, kind, status, &[&content], tagger);
        EncodedResponse { head, content, tag }
    }
}

/// The head and the tag of a successful response whose content is in pieces.
///
/// # Panics
/// When the content is not as long as the type says.
pub fn seal_pieces(
    number: u64,
    kind: ClientKind,
    pieces: &[Bytes],
    tagger: &dyn Tagger,
) -> ([u8; RESPONSE_HEAD_BYTES], [u8; TAG_BYTES]) {
    let pieces: Vec<&[u8]> = pieces.iter().map(|piece| &piece[..]).collect();
    seal(number, kind, ClientStatus::Ok, &pieces, tagger)
}

fn seal(
    number: u64,
    kind: ClientKind,
    status: ClientStatus,
    content: &[&[u8]],
    tagger: &dyn Tagger,
) -> ([u8; RESPONSE_HEAD_BYTES], [u8; TAG_BYTES]) {
    let length: usize = content.iter().map(|piece| piece.len()).sum();
    let sectors = u32::try_from(length / SECTOR_SIZE).ok();
    assert_eq!(
        Some(length),
        content_bytes(kind, status, sectors),
        "what was read and what was agreed is content, nothing else"
    );
    let mut head = [0; RESPONSE_HEAD_BYTES];
    head[..MAGIC.len()].copy_from_slice(&MAGIC);
    head[STATUS] = status.code();
    head[TYPE] = TYPE_OFFSET + kind.code();
    head[NUMBER..].copy_from_slice(&number.to_be_bytes());
    let mut pieces = Vec::with_capacity(content.len() + 1);
    pieces.push(&head[..]);
    pieces.extend_from_slice(content);
    (head, tagger.tag(&pieces))
}

/// Takes the next response off the front of `stream`; `None` when more bytes are needed. A stream
/// of responses holds nothing else, so anything else is an error, and the stream is lost. One to a
/// READ RANGE is an error too: [`decode_answer`] knows how long it is.
pub fn decode_response(
    tagger: &dyn Tagger,
    stream: &mut BytesMut,
) -> Result<Option<ClientResponse>, ResponseError> {
    decode_answer(tagger, stream, |_| None)
}

/// As [`decode_response`], for a client that knows how many sectors the READ RANGE of a number asks
/// for: the response does not say so.
pub fn decode_answer(
    tagger: &dyn Tagger,
    stream: &mut BytesMut,
    sectors: impl FnOnce(u64) -> Option<u32>,
) -> Result<Option<ClientResponse>, ResponseError> {
    let Some(head) = stream.first_chunk::<RESPONSE_HEAD_BYTES>() else {
        return Ok(None);
    };
    if head[..STATUS] != [MAGIC[0], MAGIC[1], MAGIC[2], MAGIC[3], 0, 0] {
        return Err(ResponseError::Malformed);
    }
    let kind = head[TYPE]
        .checked_sub(TYPE_OFFSET)
        .and_then(ClientKind::from_code);
    let status = ClientStatus::from_code(head[STATUS]);
    let (kind, status) = kind.zip(status).ok_or(ResponseError::Malformed)?;
    let number = (&head[NUMBER..]).get_u64();
    let length = content_bytes(kind, status, sectors(number)).ok_or(ResponseError::Malformed)?;
    let end = RESPONSE_HEAD_BYTES + length;
    if stream.len() < end + TAG_BYTES {
        return Ok(None);
    }
    let message = stream.split_to(end + TAG_BYTES).freeze();
    Verified::new(tagger, &message).map_err(|_| ResponseError::WrongTag)?;
    Ok(Some(ClientResponse {
        number,
        kind,
        status,
        content: message.slice(RESPONSE_HEAD_BYTES..end),
    }))
}

/// Why a stream of responses cannot be read on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// Bytes that are no response.
    #[error("what was received is no response")]
    Malformed,
    /// A response with a wrong tag.
    #[error("a response's tag is wrong: is the client key the processes' one?")]
    WrongTag,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::auth::ClientKey;
    use proptest::prelude::*;

    fn key() -> ClientKey {
        ClientKey::new(&[5; 32])
    }

    fn bytes_of(response: ClientResponse) -> Vec<u8> {
        let encoded = response.encode(&key());
        [&encoded.head[..], &encoded.content, &encoded.tag].concat()
    }

    #[test]
    fn golden_responses() {
        let write = ClientResponse::bare(1778, ClientKind::Write, ClientStatus::Ok);
        let golden = "617464640000004200000000000006f2\
             153d2a6a765ba05719f9a44c47f1ce04b3ca5a41c87d5653f217d80e6be1acd7";
        assert_eq!(hex::encode(bytes_of(write)), golden);

        let read = ClientResponse::bare(7, ClientKind::Read, ClientStatus::InvalidSectorIndex);
        let golden = "61746464000002410000000000000007\
             8a9bcfb51560adb96a169941cd208d7a1c00a84fd94ac3274a1799bedc5e4c72";
        assert_eq!(hex::encode(bytes_of(read)), golden);
    }

    #[test]
    fn a_changed_byte_is_never_a_response() {
        let good = bytes_of(ClientResponse::bare(7, ClientKind::Write, ClientStatus::Ok));
        for at in 0..good.len() {
            for change in 1..=u8::MAX {
                let mut bytes = BytesMut::from(&good[..]);
                bytes[at] ^= change;
                assert!(!matches!(decode_response(&key(), &mut bytes), Ok(Some(_))));
            }
        }
    }

    fn any_response() -> impl Strategy<Value = ClientResponse> {
        (any::<u64>(), any::<bool>(), 0..3, any::<u8>()).prop_map(|(number, read, status, fill)| {
            let kind = if read {
                ClientKind::Read
            } else {
                ClientKind::Write
            };
            let status = match status {
                0 => ClientStatus::Ok,
                1 => ClientStatus::AuthFailure,
                _ => ClientStatus::InvalidSectorIndex,
            };
            ClientResponse {
                number,
                kind,
                status,
                content: Bytes::from(vec![fill; content_bytes(kind, status, None).unwrap()]),
            }
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn responses_survive_the_wire(
            responses in prop::collection::vec(any_response(), 0..4),
            chunk in 1usize..5000,
        ) {
            let bytes: Vec<u8> = responses.iter().cloned().flat_map(bytes_of).collect();
            let mut stream = BytesMut::new();
            let mut decoded = Vec::new();
            for piece in bytes.chunks(chunk) {
                stream.extend_from_slice(piece);
                while let Some(response) = decode_response(&key(), &mut stream).unwrap() {
                    decoded.push(response);
                }
            }
            prop_assert_eq!(decoded, responses);
            prop_assert!(stream.is_empty());
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut stream = BytesMut::from(&bytes[..]);
            prop_assert!(!matches!(decode_response(&key(), &mut stream), Ok(Some(_))));
        }
    }
}
