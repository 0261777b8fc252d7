use proptest::prelude::*;

use super::*;
use crate::wire::auth::ClientKey;

fn key() -> ClientKey {
    ClientKey::new(&[5; 32])
}

fn read(number: u64, sector: u64) -> ClientRequest {
    ClientRequest {
        number,
        sector,
        command: ClientCommand::Read,
    }
}

fn write(number: u64, fill: u8) -> ClientRequest {
    ClientRequest {
        number,
        sector: 3,
        command: ClientCommand::Write(Bytes::from(vec![fill; SECTOR_SIZE])),
    }
}

fn encoded(request: &ClientRequest) -> Vec<u8> {
    let mut out = BytesMut::new();
    request.encode(&key(), &mut out);
    out.to_vec()
}

fn decode_all(chunks: &[&[u8]]) -> Vec<Decoded> {
    let mut stream = BytesMut::new();
    let mut found = Vec::new();
    for chunk in chunks {
        stream.extend_from_slice(chunk);
        found.extend(std::iter::from_fn(|| decode_request(&key(), &mut stream)));
    }
    found
}

#[test]
fn golden_read_request() {
    let golden = hex::decode(
        "617464640000000100000000000000070000000000000008\
         25dc9843e76744fab1632a9eb63b6c146c7374926ae7655209ee8676c733cf92",
    )
    .unwrap();
    assert_eq!(encoded(&read(7, 8)), golden);
    assert_eq!(decode_all(&[&golden]), [Decoded::Request(read(7, 8))]);
}

#[test]
fn padding_is_ignored_but_authenticated() {
    let mut bytes = encoded(&read(7, 8))[..CONTENT].to_vec();
    bytes[4..7].copy_from_slice(&[1, 2, 3]);
    bytes.extend(key().tag(&[&bytes]));
    assert_eq!(decode_all(&[&bytes]), [Decoded::Request(read(7, 8))]);
}

#[test]
fn an_unknown_type_takes_eight_bytes_with_it() {
    // A good request that begins right after the eight bytes is found, one that begins
    // within them is lost.
    let mut bytes = b"atdd\0\0\0\x03".to_vec();
    bytes.extend(encoded(&read(1, 1)));
    assert_eq!(decode_all(&[&bytes]), [Decoded::Request(read(1, 1))]);

    let mut bytes = b"atdd".to_vec();
    bytes.extend(encoded(&read(1, 1)));
    bytes.extend(encoded(&read(2, 2)));
    // The first request's magic stood in the eight bytes; the `d` of "atdd" as type 0x64.
    assert_eq!(decode_all(&[&bytes]), [Decoded::Request(read(2, 2))]);
}

#[test]
fn a_wrong_tag_takes_the_whole_message_with_it() {
    let mut bytes = encoded(&write(9, 1));
    // Another request hidden in the content must not be seen.
    bytes[100..100 + READ_REQUEST_BYTES].copy_from_slice(&encoded(&read(4, 4)));
    bytes.extend(encoded(&read(2, 2)));
    let wrong = Decoded::WrongTag {
        number: 9,
        kind: ClientKind::Write,
    };
    assert_eq!(decode_all(&[&bytes]), [wrong, Decoded::Request(read(2, 2))]);
}

#[test]
fn every_changed_bit_after_the_type_is_a_wrong_tag() {
    let good = encoded(&read(7, 8));
    for bit in 8 * NUMBER..8 * good.len() {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let found = decode_all(&[&bytes]);
        assert!(matches!(found[..], [Decoded::WrongTag { .. }]), "bit {bit}");
    }
}

#[test]
fn half_a_magic_before_a_magic_is_skipped() {
    let mut bytes = b"aatatdatd".to_vec();
    bytes.extend(encoded(&read(1, 1)));
    assert_eq!(decode_all(&[&bytes]), [Decoded::Request(read(1, 1))]);
}

/// What `decode_request` must find, written as the protocol's sentences stand.
fn by_the_letter(mut stream: &[u8]) -> Vec<Decoded> {
    let mut found = Vec::new();
    while stream.len() >= 8 {
        let size = match (&stream[..4], stream[7]) {
            (b"atdd", 1) => 56,
            (b"atdd", 2) => 4152,
            (b"atdd", _) => {
                stream = &stream[8..];
                continue;
            }
            _ => {
                stream = &stream[1..];
                continue;
            }
        };
        if stream.len() < size {
            break;
        }
        found.extend(decode_all(&[&stream[..size]]));
        stream = &stream[size..];
    }
    found
}

fn piece() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20),
        prop::collection::vec(prop::sample::select(b"atd\0\x01\x02".to_vec()), 0..20),
        (any::<u64>(), any::<u64>()).prop_map(|(number, sector)| encoded(&read(number, sector))),
        (any::<u64>(), any::<u8>()).prop_map(|(number, fill)| encoded(&write(number, fill))),
        (any::<u8>(), any::<prop::sample::Index>()).prop_map(|(change, at)| {
            let mut bytes = encoded(&read(1, 2));
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            bytes
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_stream_in_any_chunks_decodes_by_the_letter(
        pieces in prop::collection::vec(piece(), 0..8),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let stream = pieces.concat();
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let chunks: Vec<_> = cuts.windows(2).map(|cut| &stream[cut[0]..cut[1]]).collect();
        let expected = by_the_letter(&stream);
        prop_assert_eq!(decode_all(&chunks), expected.clone());

        // The glance that takes nothing sees the same.
        let mut rest = &stream[..];
        let mut seen = Vec::new();
        loop {
            let length = match glance(&key(), rest) {
                Glance::Incomplete => break,
                Glance::Garbage(length) => length,
                Glance::WrongTag { number, kind, bytes } => {
                    seen.push(Decoded::WrongTag { number, kind });
                    bytes
                }
                Glance::Request => {
                    let mut stream = BytesMut::from(rest);
                    seen.extend(decode_request(&key(), &mut stream));
                    rest.len() - stream.len()
                }
            };
            rest = &rest[length..];
        }
        prop_assert_eq!(seen, expected);
    }
}
