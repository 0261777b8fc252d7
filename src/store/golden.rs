//! The formats, byte for byte: what an earlier version wrote must be read for ever.

use super::batch::{self, BatchKind, Header, Record, RecordContent};
use super::block::{BLOCK_SIZE, Block, Run};
use super::checksum::{Checksums, Kind};
use super::entry::Entry;
use super::error::StoreError;
use super::fences::Fences;
use super::floor::{floor_stamp, floors_of};
use super::free_map::{ChunkRef, FreeMap};
use super::identity::Identity;
use super::page::{Child, Page, PageDraft, PageRef};
use super::root::{MapSize, Root, Totals};
use super::space::FreeBlocks;
use super::spans::Span;
use crate::domain::{
    Birth, ClusterId, Fence, Generation, Incarnation, Mode, OwnerId, Rank, SectorAddress,
    SectorRange, Stamp, StoreId, Tag, Volume,
};

const STORE: StoreId = StoreId(*b"store-identity-1");

fn stamp() -> Stamp {
    Stamp {
        settled: Generation(0x51),
        generation: Generation(0x52),
        timestamp: 0x53,
        rank: Rank::new(0x54),
        incarnation: Incarnation(0x55),
    }
}

fn identity() -> Identity {
    Identity {
        store: STORE,
        cluster: ClusterId(*b"cluster-of-three"),
        rank: Rank::new(3).unwrap(),
        revision: 0x21,
        incarnation: Incarnation(0x22),
        believed: 0x23,
        first_sequence: 0x24,
        root_sequence: 0x25,
        birth: None,
        fences: Fences::default(),
    }
}

/// The bytes as hex digits, without the zeroes that fill up the last block.
fn digits(bytes: &[u8]) -> String {
    let end = bytes
        .iter()
        .rposition(|byte| *byte != 0)
        .map_or(0, |at| at + 1);
    hex::encode(&bytes[..end])
}

fn checksums() -> Checksums {
    Checksums::of_store(STORE)
}

#[test]
fn checksums_bind_content_and_place() {
    let address = SectorAddress::new(Volume(1), 2).unwrap();
    let sum = checksums().data(address, stamp(), &[7; BLOCK_SIZE]);
    assert_eq!(format!("{sum:016x}"), "ffb8629ef66de36e");
}

#[test]
fn the_identity_is_as_documented() {
    let identity = Identity {
        birth: Some(Birth {
            stores: vec![Some(STORE), None, Some(StoreId([0xee; 16]))],
        }),
        ..identity()
    };
    let bytes = identity.encode(4);
    assert_eq!(bytes.len(), 2 * BLOCK_SIZE);
    assert_eq!(
        digits(&bytes[..BLOCK_SIZE]),
        "6174646473746f7200000001eb817945294ff0a973746f72652d6964656e746974792d31636c7573\
         7465722d6f662d746872656503000000000000002100000022000000000000002300000000000000\
         240000000000000025010305"
    );
    assert_eq!(
        digits(&bytes[BLOCK_SIZE..]),
        "73746f72652d6964656e746974792d3100000000000000000000000000000000eeeeeeeeeeeeeeee\
         eeeeeeeeeeeeeeee"
    );
    assert_eq!(Identity::decode(4, &bytes).unwrap(), Some(identity));
    assert_eq!(Identity::decode(0, &bytes).unwrap(), None);
}

#[test]
fn the_identitys_fences_are_as_documented() {
    let exclusive = Fence {
        generation: Generation(0x61),
        mode: Mode::Exclusive {
            owner: OwnerId([0xaa; 16]),
            tag: Tag {
                coordinator: Rank::new(2).unwrap(),
                incarnation: Incarnation(0x62),
                sequence: 0x63,
            },
        },
    };
    let shared = Fence {
        generation: Generation(0x64),
        mode: Mode::Shared,
    };
    let identity = identity().with_fence(Volume(5), shared).unwrap();
    let identity = identity.with_fence(Volume(0), exclusive).unwrap();
    let bytes = identity.encode(0);
    assert_eq!(
        digits(&bytes),
        "6174646473746f7200000002e1090aa67b98f85973746f72652d6964656e746974792d31636c7573\
         7465722d6f662d746872656503000000000000002300000022000000000000002300000000000000\
         24000000000000002500000000000000000000000000000000000000000000000000000000000000\
         00000000020000000000000000006101aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa0200000062000000\
         000000006300050000000000000064"
    );
    assert_eq!(Identity::decode(0, &bytes).unwrap(), Some(identity.clone()));

    // Of an unknown mode: not damage, since the checksum holds.
    let mut unknown = bytes.clone();
    unknown[125 + 2 + 8] = 2;
    reseal(&mut unknown, 0);
    assert!(matches!(
        Identity::decode(0, &unknown),
        Err(StoreError::FencesUnknown)
    ));
    let mut damaged = bytes.clone();
    damaged[125 + 2 + 8] = 2;
    assert_eq!(Identity::decode(0, &damaged).unwrap(), None);

    let full = (0..99).try_fold(identity, |identity, volume| {
        identity.with_fence(Volume(volume), shared)
    });
    let full = full.unwrap();
    let bytes = full.encode(0);
    assert_eq!(Identity::decode(0, &bytes).unwrap(), Some(full.clone()));
    assert!(matches!(
        full.with_fence(Volume(99), shared),
        Err(StoreError::TooManyFences { .. })
    ));
}

/// Gives the bytes of an identity the checksum that they should have.
fn reseal(bytes: &mut [u8], place: u64) {
    let checksum = checksums().metadata(Kind::Identity, place, &bytes[20..]);
    bytes[12..20].copy_from_slice(&checksum.to_be_bytes());
}

#[test]
fn the_root_is_as_documented() {
    let chunk = |first| ChunkRef::decode(&mut &[first; 20][..]);
    let root = Root {
        sequence: 0x31,
        covered: 0x32,
        totals: Totals {
            data: 0x33,
            tombstones: 0x34,
        },
        map_size: MapSize {
            leaves: 0x35,
            inner: 0x36,
            floors: 0,
        },
        map: Some(PageRef {
            block: 0x37,
            checksum: 0x38,
            bound: stamp(),
        }),
        space: [chunk(0x39), chunk(0x3a)],
    };
    let bytes = root.encode(checksums(), 3);
    assert_eq!(
        digits(&bytes),
        "f3b97969fe588cd461746464726f6f74000000000000003100000000000000320000000000000033\
         00000000000000340000000000000035000000000000003601000000000000003700000000000000\
         38000000000000005100000000000000520000000000000053540000005539393939393939393939\
         393939393939393939393a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a3a"
    );
    let block = Block(bytes.try_into().unwrap());
    assert_eq!(Root::decode(checksums(), 3, &block), Some(root));
    assert_eq!(Root::decode(checksums(), 7, &block), None);
}

#[test]
fn a_root_counts_floors_behind_all_else() {
    let none = ChunkRef::decode(&mut &[0; 20][..]);
    let root = Root {
        sequence: 0,
        covered: 0,
        totals: Totals::default(),
        map_size: MapSize {
            floors: 0x3b,
            ..MapSize::default()
        },
        map: None,
        space: [none, none],
    };
    let bytes = root.encode(checksums(), 2);
    assert_eq!(bytes[150..158], [0, 0, 0, 0, 0, 0, 0, 0x3b]);
    assert!(bytes[158..].iter().all(|byte| *byte == 0));
    let block = Block(bytes.try_into().unwrap());
    assert_eq!(Root::decode(checksums(), 2, &block), Some(root));
}

#[test]
fn a_batch_is_as_documented() {
    let header = Header {
        kind: BatchKind::Batch,
        incarnation: Incarnation(0x41),
        sequence: 0x42,
        previous: 0x43,
        stable: 0x44,
        root_sequence: 0x45,
        totals: Totals {
            data: 0x46,
            tombstones: 0x47,
        },
    };
    let range = |index, count| {
        SectorRange::new(SectorAddress::new(Volume(2), index).unwrap(), count).unwrap()
    };
    let records = vec![
        Record {
            range: range(5, 2),
            stamp: stamp(),
            content: RecordContent::Data {
                slot: 0x61,
                checksums: vec![0x62, 0x63],
            },
            freed: vec![Run::new(0x64, 1), Run::new(0x66, 1)],
        },
        Record {
            range: range(9, 1000),
            stamp: stamp(),
            content: RecordContent::Tombstone,
            freed: vec![],
        },
    ];
    let bytes = batch::encode(checksums(), STORE, 9, &header, &records);
    assert_eq!(
        digits(&bytes),
        "f50e28d399111186617464646274636873746f72652d6964656e746974792d3101000000000000f2\
         00000002000000410000000000000042000000000000004300000000000000440000000000000045\
         00000000000000460000000000000047000000000000000001000002000000020002000000000005\
         00000000000000510000000000000052000000000000005354000000550000000000000061000000\
         00000000620000000000000063000000000000006400000001000000000000006600000001020000\
         00000003e80002000000000009000000000000005100000000000000520000000000000053540000\
         0055"
    );
    let block = [Block(bytes.try_into().unwrap())];
    let read = batch::decode(checksums(), STORE, 9, &block).unwrap();
    assert_eq!(
        (read.header, read.records, read.blocks),
        (header, records, 1)
    );
    assert_eq!(batch::decode(checksums(), STORE, 10, &block), None);
    let other = StoreId([1; 16]);
    assert_eq!(
        batch::decode(Checksums::of_store(other), other, 9, &block),
        None
    );
}

#[test]
fn pages_are_as_documented() {
    let span = |first, last, value| Span { first, last, value };
    let items = [
        span(
            3,
            3,
            Entry::Data {
                stamp: stamp(),
                slot: 0x71,
                checksum: 0x72,
            },
        ),
        span(4, 9, Entry::Tombstone { stamp: Stamp::ZERO }),
        span(20, u64::MAX, Entry::Lost { bound: stamp() }),
    ];
    let (draft, count) = PageDraft::leaf(&items, 100, 0x73);
    let (leaf, bytes) = draft.seal(checksums(), 8);
    assert_eq!((count, leaf.bound), (3, stamp()));
    assert_eq!(
        digits(&bytes.0),
        "51c41cbe06c2ac7f0102000300000000000000000000007300000000000000510000000000000052\
         54000000550000000000000000000000000000000000000000000000000000000003000000007100\
         00000000000000530000000000000072000000000000000400000000000100000000000000000000\
         00000000000500000000000000140000000001000000000000000053ffffffffffffffeb"
    );
    let page = Page::open(checksums(), leaf, &bytes).unwrap();
    assert_eq!(page.items().collect::<Vec<_>>(), items);

    let children = [3, 500].map(|first| Child { first, page: leaf });
    let (inner, bytes) = PageDraft::inner(&children, 0x74).seal(checksums(), 11);
    assert_eq!(
        digits(&bytes.0),
        "c6108345f49bf6d40200000200000000000000000000007400000000000000030000000000000008\
         51c41cbe06c2ac7f0000000000000051000000000000005200000000000000535400000055000000\
         00000001f4000000000000000851c41cbe06c2ac7f00000000000000510000000000000052000000\
         00000000535400000055"
    );
    let page = Page::open(checksums(), inner, &bytes).unwrap();
    assert_eq!(page.children().collect::<Vec<_>>(), children);
    let elsewhere = PageRef { block: 12, ..inner };
    assert!(Page::open(checksums(), elsewhere, &bytes).is_none());
}

#[test]
fn floors_are_kept_in_shadow_volumes() {
    let sector = SectorAddress::new(Volume(2), 0x75).unwrap().to_bits();
    let floor = SectorAddress::new(Volume(0x8002), 0x75).unwrap().to_bits();
    assert_eq!(floors_of((sector, sector + 9)), (floor, floor + 9));
    let expected = "0000000000000076000000000000000000000000000000000000000000";
    let stamp = floor_stamp(Generation(0x76)).to_bytes();
    assert_eq!(hex::encode(stamp), expected);
}

#[test]
fn the_free_map_is_as_documented() {
    let mut blocks = FreeBlocks {
        end: 1000,
        ..FreeBlocks::default()
    };
    blocks.free.insert(Run::new(40, 2));
    blocks.free.insert(Run::new(300, 200));
    blocks.released.insert(Run::new(42, 100));
    let journal = [Run::new(8, 16), Run::new(500, 1)];
    let stream = FreeMap::encode(&journal, &blocks);
    assert_eq!(digits(&stream), "020810f40301e80703280400c9019e019003");
    let read = FreeMap::decode(&stream).unwrap();
    assert_eq!(read.journal, journal);
    assert_eq!(FreeMap::encode(&read.journal, &read.blocks), stream);
    assert!(FreeMap::decode(&stream[..stream.len() - 1]).is_none());
}
