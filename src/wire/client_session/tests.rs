//! The messages of clients' sessions: what the files below share, and what is true of all.

mod golden;
mod malformed;
mod random;

use bytes::Bytes;

use super::*;
use crate::domain::{
    AttachKind, CLIENT_NAME_BYTES_MAX, Generation, Holder, Incarnation, JoinKey, Mode, Rank,
    SECTOR_SIZE, Tag,
};
use crate::wire::{Encoder, MESSAGE_BYTES_MAX, MessageError, MessageStream};

fn encoded(encode: impl FnOnce(&mut Encoder)) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encode(&mut encoder);
    encoder.take().concat()
}

fn message(bytes: &[u8]) -> Bytes {
    let mut stream = MessageStream::new();
    stream.expect_all();
    stream.plaintext.extend_from_slice(bytes);
    stream.next_message().unwrap().unwrap()
}

fn stranger() -> Holder {
    Holder {
        process: Rank::new(2).unwrap(),
        owner: OwnerId([0xaa; 16]),
        kind: AttachKind::Exclusive { join: None },
        generation: Generation(6),
        client: "a:1".into(),
        since: 5,
    }
}

/// Whoever has the key may join; whoever is refused must not be told it.
#[test]
fn clients_are_not_told_the_keys_of_holders() {
    let held = |join| {
        let kind = AttachKind::Exclusive { join };
        let holder = Holder { kind, ..stranger() };
        SessionAnswer::AttachRefused(AttachRefusal::Held(Box::new(holder)))
    };
    let bytes = encoded(|out| held(Some(JoinKey([0xbb; 32]))).encode(out));
    assert_eq!(bytes, encoded(|out| held(None).encode(out)));
    assert_eq!(SessionAnswer::decode(message(&bytes)), Ok(held(None)));
}

#[test]
fn the_longest_messages_of_clients_fit() {
    let data = Bytes::from(vec![1; 256 * SECTOR_SIZE]);
    let number = RequestNumber(u64::MAX);
    let write = SessionQuestion::Write {
        number,
        first: u64::MAX,
        data: data.clone(),
    };
    assert!(encoded(|out| write.encode(out)).len() <= MESSAGE_BYTES_MAX);
    let values = (0..256).map(|at| SectorValues::Data(data.slice(at * 4096..(at + 1) * 4096)));
    let answer = SessionAnswer::Values {
        number,
        values: values.collect(),
    };
    let bytes = encoded(|out| answer.encode(out));
    assert!(bytes.len() <= MESSAGE_BYTES_MAX);
    assert_eq!(SessionAnswer::decode(message(&bytes)), Ok(answer));
}
