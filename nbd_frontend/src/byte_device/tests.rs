use proptest::prelude::*;

use super::*;
use crate::memory::MemoryDevice;

fn range(offset: u64, length: u64) -> ByteRange {
    ByteRange { offset, length }
}

#[test]
fn ranges_are_cut_where_whole_sectors_begin_and_end() {
    for (given, head, whole, tail) in [
        (range(0, 8192), 0, (0, 2), 0),
        (range(1, 8191), 4095, (1, 1), 0),
        (range(0, 8191), 0, (0, 1), 4095),
        (range(4095, 4098), 1, (1, 1), 1),
        (range(4095, 2), 1, (1, 0), 1),
        (range(5, 10), 10, (1, 0), 0),
        (range(4096, 10), 0, (1, 0), 10),
        (range(5, 0), 0, (1, 0), 0),
    ] {
        let cut = Cut::new(given);
        assert_eq!(
            (cut.head.length, cut.tail.length),
            (head, tail),
            "{given:?}"
        );
        assert_eq!((cut.whole.first, cut.whole.count), whole, "{given:?}");
        assert_eq!(cut.head.offset, given.offset);
        assert_eq!(
            cut.tail.offset + cut.tail.length,
            given.offset + given.length
        );
    }
}

#[test]
fn parts_cover_all_sectors_once() {
    let parts: Vec<_> = Sectors {
        first: 5,
        count: 10,
    }
    .parts(4)
    .collect();
    let expected = [(5, 4), (9, 4), (13, 2)].map(|(first, count)| Sectors { first, count });
    assert_eq!(parts, expected);
    assert_eq!(Sectors { first: 5, count: 0 }.parts(4).count(), 0);
}

#[test]
fn zeroes_are_as_many_as_asked_for() {
    for length in [0, 1, 1 << 20, (1 << 20) + 1, 5 << 20] {
        let parts: Vec<Bytes> = zeroes(length).collect();
        assert_eq!(
            parts.iter().map(|part| byte_count(part)).sum::<u64>(),
            length
        );
        assert!(
            parts
                .iter()
                .all(|part| !part.is_empty() && part.iter().all(|byte| *byte == 0))
        );
    }
}

/// Says how large the requests are that it gets.
struct Measured {
    inner: MemoryDevice,
    largest: std::sync::Mutex<u64>,
}

impl Measured {
    fn note(&self, count: u64) {
        let mut largest = self.largest.lock().unwrap();
        *largest = count.max(*largest);
    }
}

impl SectorDevice for Measured {
    fn sectors(&self) -> u64 {
        self.inner.sectors()
    }

    async fn read(&self, first: u64, count: u64) -> Result<Vec<Piece>, DeviceError> {
        self.note(count);
        self.inner.read(first, count).await
    }

    async fn write(&self, first: u64, data: Bytes) -> Result<(), DeviceError> {
        self.note(byte_count(&data) / SECTOR_BYTES);
        self.inner.write(first, data).await
    }

    async fn discard(&self, first: u64, count: u64) -> Result<(), DeviceError> {
        self.note(count);
        self.inner.discard(first, count).await
    }

    async fn flush(&self) -> Result<(), DeviceError> {
        self.inner.flush().await
    }
}

#[tokio::test]
async fn the_device_is_asked_for_bounded_parts() {
    const GIB: u64 = 1 << 30;
    let inner = MemoryDevice::new(8 * GIB / SECTOR_BYTES);
    let measured = Measured {
        inner,
        largest: std::sync::Mutex::default(),
    };
    let bytes = ByteDevice::new(measured, Arc::default());
    let largest = || std::mem::take(&mut *bytes.device.largest.lock().unwrap());
    let data = Bytes::from(vec![1; 64 << 20]);
    bytes.write(1, data.clone()).await.unwrap();
    assert_eq!(largest(), TRANSFER_SECTORS_MAX);
    let runs = bytes.read(range(1, 64 << 20)).await.unwrap();
    assert_eq!(largest(), TRANSFER_SECTORS_MAX);
    assert_eq!(runs.iter().map(Run::length).sum::<u64>(), 64 << 20);
    bytes
        .zero(range(1, 64 << 20), Zeroing::Allocate)
        .await
        .unwrap();
    assert!(largest() <= TRANSFER_SECTORS_MAX);
    for how in [Zeroing::Punch, Zeroing::Punch] {
        bytes.zero(range(1, 8 * GIB - 1), how).await.unwrap();
        assert_eq!(largest(), DISCARD_SECTORS_MAX);
    }
    assert_eq!(
        bytes.device.inner.sectors_stored(),
        1,
        "the first byte's sector is still there"
    );
    bytes.trim(range(0, 8 * GIB)).await.unwrap();
    assert_eq!(largest(), DISCARD_SECTORS_MAX);
    assert_eq!(bytes.device.inner.sectors_stored(), 0);
}

fn expand(runs: &[Run]) -> Vec<u8> {
    let bytes = runs.iter().map(|run| match run {
        Run::Zeroes(length) => vec![0; usize::try_from(*length).unwrap()],
        Run::Data(data) => data.to_vec(),
    });
    bytes.collect::<Vec<_>>().concat()
}

proptest! {
    #[test]
    fn trimmed_runs_are_the_bytes_between(
        lengths in prop::collection::vec((any::<bool>(), 0_u64..5), 0..8),
        skip in 0_u64..20,
        length in 0_u64..20,
    ) {
        let mut next = 0_u8;
        let runs: Vec<Run> = lengths
            .into_iter()
            .map(|(hole, length)| {
                if hole {
                    return Run::Zeroes(length);
                }
                next += 16;
                Run::Data((0..u8::try_from(length).unwrap()).map(|byte| next + byte).collect())
            })
            .collect();
        let all = expand(&runs);
        let index = |at: u64| usize::try_from(at).unwrap().min(all.len());
        let expected = &all[index(skip)..index(skip + length)];
        let trimmed = trim_runs(runs, skip, length);
        prop_assert!(trimmed.iter().all(|run| run.length() > 0));
        prop_assert_eq!(expand(&trimmed), expected);
    }
}
