//! The tags of an attached connection.
//!
//! A tag has 16 bytes of Poly1305 and then 16 zeroes, so that sizes are those of other connections.
//! The 16 bytes are the tag of `AEAD_CHACHA20_POLY1305` (RFC 8439, section 2.8) for no plaintext, with
//! the message as additional data. Its nonce is 4 zeroes and then the 8 bytes of the message's number,
//! the least significant first. Its key is HMAC-SHA256 with the client key over a label, which is
//! `tags of requests v1` or `tags of responses v1`, and then the session.
//!
//! A nonce must not be used for two messages: whoever has both of them can make others. So no
//! number is used twice in a direction: those of requests rise, each of them is answered once, and
//! what has a wrong tag is not answered at all.

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use poly1305::Poly1305;
use poly1305::universal_hash::{KeyInit, UniversalHash};

use crate::wire::auth::{ClientKey, TAG_BYTES, Tagger};

/// Bytes of a [`ConnectionSession`].
pub(super) const SESSION_BYTES: usize = 16;

const LABEL_OF_REQUESTS: &[u8] = b"tags of requests v1";
const LABEL_OF_RESPONSES: &[u8] = b"tags of responses v1";

/// Where the number stands, in requests and in responses.
const NUMBER: std::ops::Range<usize> = 8..16;
const NONCE_BYTES: usize = 12;
const MAC_BYTES: usize = 16;

/// What binds everything of an attached connection to it: drawn at random, for each HELLO.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ConnectionSession(pub [u8; SESSION_BYTES]);

/// The tags of one direction of an attached connection.
pub struct SessionTagger {
    key: [u8; 32],
}

impl ConnectionSession {
    /// Of what the client sends.
    pub fn of_requests(self, key: &ClientKey) -> SessionTagger {
        self.tagger(key, LABEL_OF_REQUESTS)
    }

    /// Of what the client receives.
    pub fn of_responses(self, key: &ClientKey) -> SessionTagger {
        self.tagger(key, LABEL_OF_RESPONSES)
    }

    fn tagger(self, key: &ClientKey, label: &[u8]) -> SessionTagger {
        let key = key.derive(&[label, &self.0]);
        SessionTagger { key }
    }
}

impl SessionTagger {
    /// The Poly1305 of a message in pieces, each but the last a multiple of 16 bytes long, before its
    /// end is taken in.
    fn begin(&self, pieces: &[&[u8]]) -> Poly1305 {
        let mut nonce = [0; NONCE_BYTES];
        nonce[NONCE_BYTES - NUMBER.len()..].copy_from_slice(&pieces[0][NUMBER]);
        nonce[NONCE_BYTES - NUMBER.len()..].reverse();
        let mut one_time_key = poly1305::Key::default();
        ChaCha20::new(&self.key.into(), &nonce.into()).apply_keystream(&mut one_time_key);
        let mut mac = Poly1305::new(&one_time_key);
        for piece in pieces {
            mac.update_padded(piece);
        }
        let length: usize = pieces.iter().map(|piece| piece.len()).sum();
        let mut lengths = [0; MAC_BYTES];
        let length = u64::try_from(length).expect("memory is below 2^64");
        lengths[..8].copy_from_slice(&length.to_le_bytes());
        mac.update_padded(&lengths);
        mac
    }
}

impl Tagger for SessionTagger {
    fn tag(&self, pieces: &[&[u8]]) -> [u8; TAG_BYTES] {
        let mut tag = [0; TAG_BYTES];
        tag[..MAC_BYTES].copy_from_slice(&self.begin(pieces).finalize());
        tag
    }

    fn is_right(&self, message: &[u8], tag: &[u8; TAG_BYTES]) -> bool {
        let (mac, zeroes) = tag.split_at(MAC_BYTES);
        let mac = mac.try_into().expect("of this length");
        zeroes == [0; TAG_BYTES - MAC_BYTES] && self.begin(&[message]).verify(mac).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(length: usize) -> Vec<u8> {
        (0..=255).cycle().take(length).collect()
    }

    fn tagger() -> SessionTagger {
        ConnectionSession([3; SESSION_BYTES]).of_requests(&ClientKey::new(&[5; 32]))
    }

    #[test]
    fn pieces_are_one_message() {
        let message = message(16 + 4096 + 5);
        let (head, rest) = message.split_at(16);
        let (middle, end) = rest.split_at(4096);
        let whole = tagger().tag(&[&message]);
        assert_eq!(tagger().tag(&[head, middle, end]), whole);
        assert!(tagger().is_right(&message, &whole));
    }

    #[test]
    fn every_changed_bit_is_seen() {
        let mut message = message(100);
        let mut tag = tagger().tag(&[&message]);
        for bit in 0..8 * 100 {
            message[bit / 8] ^= 1 << (bit % 8);
            assert!(!tagger().is_right(&message, &tag), "bit {bit}");
            message[bit / 8] ^= 1 << (bit % 8);
        }
        for bit in 0..8 * TAG_BYTES {
            tag[bit / 8] ^= 1 << (bit % 8);
            assert!(!tagger().is_right(&message, &tag), "bit {bit} of the tag");
            tag[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn each_session_and_each_direction_has_its_own() {
        let key = ClientKey::new(&[5; 32]);
        let session = ConnectionSession([3; SESSION_BYTES]);
        let others = [
            session.of_responses(&key),
            ConnectionSession([4; SESSION_BYTES]).of_requests(&key),
            session.of_requests(&ClientKey::new(&[6; 32])),
        ];
        let message = message(24);
        let tag = session.of_requests(&key).tag(&[&message]);
        for other in others {
            assert!(!other.is_right(&message, &tag));
        }
    }
}
