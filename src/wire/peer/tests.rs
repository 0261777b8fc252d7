//! The messages of peers: what the files below share, and what bounds them.

mod golden;
mod malformed;
mod random;

use bytes::Bytes;

use super::*;
use crate::domain::{
    ATTACH_SHARD, Answer, AttachKind, CLIENT_NAME_BYTES_MAX, Content, Extent, Fence, Generation,
    Held, JoinKey, Mode, OwnerId, Question, Runs, SECTOR_SIZE, SectorAddress, SectorRange, Stamp,
    Tag, Volume, Vote,
};
use crate::wire::{FIRST_MESSAGE_BYTES_MAX, MESSAGE_BYTES_MAX, MessageStream};

const ASKER: Asker = Asker {
    rank: Rank::new(2).unwrap(),
    incarnation: Incarnation(9),
};

fn request_id(shard: u8, sequence: u64, round: u8) -> RequestId {
    let operation = OperationId {
        coordinator: ASKER.rank,
        incarnation: ASKER.incarnation,
        shard,
        sequence,
    };
    RequestId { operation, round }
}

fn range(first: u64, count: u32) -> SectorRange {
    SectorRange::new(SectorAddress::new(Volume(1), first).unwrap(), count).unwrap()
}

fn stamp(timestamp: u64) -> Stamp {
    Stamp {
        settled: Generation(1),
        generation: Generation(2),
        timestamp,
        rank: Rank::new(4),
        incarnation: Incarnation(5),
    }
}

/// The stamp of sectors that were settled and never written.
fn settled(generation: u64) -> Stamp {
    Stamp::ZERO.settled_under(Generation(generation))
}

fn exclusive(generation: u64) -> Fence {
    let mode = Mode::Exclusive {
        owner: OwnerId([0xaa; 16]),
        tag: Tag {
            coordinator: Rank::new(2).unwrap(),
            incarnation: Incarnation(3),
            sequence: 4,
        },
    };
    Fence {
        generation: Generation(generation),
        mode,
    }
}

/// The digits of [`exclusive`].
fn exclusive_digits(generation: u64) -> String {
    let owner = "aa".repeat(16);
    format!("{generation:016x} 01 {owner} 02 00000003 0000000000000004")
}

fn holder(kind: AttachKind, client: &str) -> Holder {
    Holder {
        process: Rank::new(2).unwrap(),
        owner: OwnerId([0xaa; 16]),
        kind,
        generation: Generation(6),
        client: client.into(),
        since: 5,
    }
}

fn holder_digits(kind: &str, name: &str) -> String {
    let owner = "aa".repeat(16);
    format!("02 {owner} {kind} 0000000000000006 {name} 0000000000000005")
}

fn longest_holder() -> Holder {
    let kind = AttachKind::Exclusive {
        join: Some(JoinKey([1; 32])),
    };
    holder(kind, &"x".repeat(CLIENT_NAME_BYTES_MAX))
}

fn encoded(message: &PeerMessage) -> Vec<u8> {
    let mut encoder = Encoder::new();
    message.encode(ASKER, &mut encoder);
    assert!(!encoder.is_empty());
    let length = encoder.len();
    let bytes = encoder.take().concat();
    assert_eq!(bytes.len(), length);
    assert!(encoder.is_empty());
    bytes
}

fn decoded(bytes: &[u8]) -> Result<Vec<PeerMessage>, MessageError> {
    let mut stream = MessageStream::new();
    stream.expect_all();
    stream.plaintext.extend_from_slice(bytes);
    let mut messages = Vec::new();
    while let Some(message) = stream.next_message()? {
        messages.push(PeerMessage::decode(message, ASKER)?);
    }
    assert!(stream.plaintext.is_empty());
    Ok(messages)
}

#[test]
fn the_longest_messages_fit() {
    let stores = vec![Some(StoreId([1; 16])); Rank::MAX.into()];
    let introduction = encoded(&PeerMessage::Introduction {
        introduction: Introduction {
            store: StoreId([1; 16]),
            birth: Some(Birth { stores }),
            empty: false,
            holders: vec![longest_holder(); HOLDERS_MAX],
        },
        credit: Credit {
            requests: 1,
            bytes: 1,
        },
    });
    assert!(introduction.len() <= FIRST_MESSAGE_BYTES_MAX);
    assert_eq!(decoded(&introduction).unwrap().len(), 1);

    // Everybody runs as many attachments as an introduction names.
    let reply = Reply {
        id: request_id(1, 1, 0),
        answer: Answer::Fence {
            fence: exclusive(1),
            holders: vec![longest_holder(); HOLDERS_MAX * usize::from(Rank::MAX)],
        },
    };
    assert!(encoded(&PeerMessage::Reply(reply)).len() <= MESSAGE_BYTES_MAX);

    // A read of 256 sectors that all differ, and the most runs of votes that a store answers with.
    let data = Bytes::from(vec![1; SECTOR_SIZE]);
    let values =
        (0..256).map(|at| Extent::new(range(at, 1), stamp(at + 1), Content::Data(data.clone())));
    let held = Held {
        votes: (0..4096).map(|at| Vote::Stamp(stamp(at + 1))).collect(),
        values: values.collect(),
    };
    let reply = Reply {
        id: request_id(1, 1, 0),
        answer: Answer::Held(held),
    };
    assert!(encoded(&PeerMessage::Reply(reply)).len() <= MESSAGE_BYTES_MAX);

    // A discard of 65,536 sectors of which every other one was written.
    let extents = (0..1 << 15).map(|at| Extent::new(range(2 * at, 1), stamp(1), Content::Zeroes));
    let request = Request {
        id: request_id(1, 1, 0),
        authority: Fence::INITIAL,
        question: Question::Store {
            extents: extents.collect(),
        },
    };
    assert!(encoded(&PeerMessage::Request(request)).len() <= MESSAGE_BYTES_MAX);
}

#[test]
#[should_panic(expected = "its connector's own operations")]
fn an_operation_of_another_incarnation_is_never_sent() {
    let mut id = request_id(1, 1, 0);
    id.operation.incarnation = Incarnation(8);
    encoded(&PeerMessage::Declined(id));
}

#[test]
#[should_panic(expected = "so many holders at most")]
fn more_holders_than_an_introduction_names_are_never_sent() {
    encoded(&PeerMessage::Introduction {
        introduction: Introduction {
            store: StoreId([1; 16]),
            birth: None,
            empty: false,
            holders: vec![longest_holder(); HOLDERS_MAX + 1],
        },
        credit: Credit {
            requests: 1,
            bytes: 1,
        },
    });
}
