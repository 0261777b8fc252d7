//! Keys, tags, and the type that only an authenticated message has.
//!
//! A message of the classic protocol ends in a tag: HMAC-SHA256 with the client key over all its
//! bytes before; on attached connections tags are `client::tags`'s. Sessions derive their pre-shared
//! keys here; their encryption is `session`'s.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of a tag at the end of every classic message.
pub const TAG_BYTES: usize = 32;

/// Bytes of the key that clients hold.
pub const CLIENT_KEY_BYTES: usize = 32;

/// Bytes of the key that only the processes hold.
pub const SYSTEM_KEY_BYTES: usize = 64;

const KEY_IDENTIFIER_LABEL: &[u8] = b"atdd key identifier v1";

/// Makes and checks the tags of messages of one direction.
pub trait Tagger {
    /// The tag over these pieces of a message, one after another.
    fn tag(&self, pieces: &[&[u8]]) -> [u8; TAG_BYTES];

    /// Whether this is the tag of the message; found out in the same time wherever the first
    /// difference is.
    fn is_right(&self, message: &[u8], tag: &[u8; TAG_BYTES]) -> bool;
}

/// Which key a session's two ends share, without saying anything else about it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeyIdentifier(pub [u8; 8]);

/// The key that clients hold: it opens the disk, and nothing between processes.
#[derive(Clone)]
pub struct ClientKey(Key);

/// The key that only the processes hold.
#[derive(Clone)]
pub struct SystemKey(Key);

/// A key with its schedule already run, so that a tag costs its bytes only.
#[derive(Clone)]
struct Key(Hmac<Sha256>);

impl ClientKey {
    /// The key of these bytes.
    pub fn new(bytes: &[u8; CLIENT_KEY_BYTES]) -> Self {
        Self(Key::new(bytes))
    }

    /// What makes the difference between this key and another visible in a hello.
    pub fn identifier(&self) -> KeyIdentifier {
        self.0.identifier()
    }

    pub(super) fn derive(&self, label: &[&[u8]]) -> [u8; 32] {
        self.0.tag(label)
    }
}

impl Tagger for ClientKey {
    fn tag(&self, pieces: &[&[u8]]) -> [u8; TAG_BYTES] {
        self.0.tag(pieces)
    }

    fn is_right(&self, message: &[u8], tag: &[u8; TAG_BYTES]) -> bool {
        let mut mac = self.0.0.clone();
        mac.update(message);
        mac.verify(tag.into()).is_ok()
    }
}

impl SystemKey {
    /// The key of these bytes.
    pub fn new(bytes: &[u8; SYSTEM_KEY_BYTES]) -> Self {
        Self(Key::new(bytes))
    }

    /// What makes the difference between this key and another visible in a hello.
    pub fn identifier(&self) -> KeyIdentifier {
        self.0.identifier()
    }

    pub(super) fn derive(&self, label: &[&[u8]]) -> [u8; 32] {
        self.0.tag(label)
    }
}

impl Key {
    fn new(bytes: &[u8]) -> Self {
        Self(Hmac::new_from_slice(bytes).expect("an HMAC takes a key of any length"))
    }

    fn tag(&self, pieces: &[&[u8]]) -> [u8; TAG_BYTES] {
        let mut mac = self.0.clone();
        for piece in pieces {
            mac.update(piece);
        }
        mac.finalize().into_bytes().into()
    }

    fn identifier(&self) -> KeyIdentifier {
        let tag = self.tag(&[KEY_IDENTIFIER_LABEL]);
        let (identifier, _) = tag
            .split_first_chunk()
            .expect("a tag has more than 8 bytes");
        KeyIdentifier(*identifier)
    }
}

impl fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientKey")
    }
}

impl fmt::Debug for SystemKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SystemKey")
    }
}

/// Bytes whose tag was right: the only ones that the classic protocol's decoder takes.
pub(super) struct Verified<'a>(&'a [u8]);

impl<'a> Verified<'a> {
    /// The message that `bytes` are, without their tag, if the tag is right.
    pub(super) fn new(tagger: &dyn Tagger, bytes: &'a [u8]) -> Result<Self, TagError> {
        let (message, tag) = bytes.split_last_chunk().ok_or(TagError)?;
        let is_right = tagger.is_right(message, tag);
        is_right.then_some(Self(message)).ok_or(TagError)
    }

    /// The message without its tag.
    pub(super) fn bytes(&self) -> &'a [u8] {
        self.0
    }
}

/// A tag is wrong.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message's tag is wrong")]
pub struct TagError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_tag_verifies() {
        let key = ClientKey::new(&[5; CLIENT_KEY_BYTES]);
        let mut message = b"message".to_vec();
        message.extend(key.tag(&[b"mess", b"age"]));
        let verified = |message: &[u8]| Verified::new(&key, message).map(|it| it.bytes().to_vec());
        assert_eq!(verified(&message), Ok(b"message".to_vec()));
        for at in 0..message.len() {
            message[at] ^= 1;
            assert!(verified(&message).is_err());
            message[at] ^= 1;
        }
        assert!(verified(&message[..TAG_BYTES - 1]).is_err());
        let other = ClientKey::new(&[6; CLIENT_KEY_BYTES]);
        assert!(Verified::new(&other, &message).is_err());
        assert_ne!(other.identifier(), key.identifier());
    }

    #[test]
    fn keys_are_not_printed() {
        let shown = format!("{:?}", ClientKey::new(&[5; CLIENT_KEY_BYTES]));
        assert_eq!(shown, "ClientKey");
    }
}
