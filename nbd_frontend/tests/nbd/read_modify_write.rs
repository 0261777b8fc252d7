//! Parts of sectors, changed by several clients at once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use nbd_frontend::memory::MemoryDevice;
use nbd_frontend::{DeviceError, Piece, SectorDevice};

use crate::client::{Client, TRIM, WRITE_ZEROES, pattern};
use crate::served::{Served, any_port, options, serve_device};

/// A device on which requests overtake one another: each waits for a few turns of the runtime
/// before and after it has its effect.
pub(crate) struct Shuffled {
    inner: MemoryDevice,
    turn: AtomicU64,
}

impl Shuffled {
    async fn wait(&self) {
        let turn = self
            .turn
            .fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        for _ in 0..(turn >> 62) {
            tokio::task::yield_now().await;
        }
    }
}

impl SectorDevice for Shuffled {
    fn sectors(&self) -> u64 {
        self.inner.sectors()
    }

    async fn read(&self, first: u64, count: u64) -> Result<Vec<Piece>, DeviceError> {
        self.wait().await;
        let pieces = self.inner.read(first, count).await;
        self.wait().await;
        pieces
    }

    async fn write(&self, first: u64, data: Bytes) -> Result<(), DeviceError> {
        self.wait().await;
        self.inner.write(first, data).await?;
        self.wait().await;
        Ok(())
    }

    async fn discard(&self, first: u64, count: u64) -> Result<(), DeviceError> {
        self.wait().await;
        self.inner.discard(first, count).await?;
        self.wait().await;
        Ok(())
    }

    async fn flush(&self) -> Result<(), DeviceError> {
        self.inner.flush().await
    }
}

pub(crate) fn serve_shuffled(sectors: u64, threads: usize) -> Served<Shuffled> {
    let device = Shuffled {
        inner: MemoryDevice::new(sectors),
        turn: AtomicU64::new(0),
    };
    serve_device(device, options(), &any_port(), threads)
}

/// The bytes of one sector belong to several clients in turn; each changes only its own, and at the
/// end each byte is what its owner last wrote.
#[test]
fn parts_of_one_sector_changed_at_once_are_never_lost() {
    const CLIENTS: u64 = 4;
    for threads in [1, 2] {
        let server = serve_shuffled(2, threads);
        std::thread::scope(|scope| {
            for place in 0..CLIENTS {
                let server = &server;
                scope.spawn(move || {
                    let mut client = Client::simple(server);
                    for round in 0..40_u64 {
                        // All in flight together, over both sectors.
                        let fill = u8::try_from(round).unwrap();
                        for part in 0..16 {
                            let offset = (part * CLIENTS + place) * 128;
                            client.send_write(part, offset, &[fill; 128]);
                        }
                        for _ in 0..16 {
                            assert_eq!(client.simple_reply().0, 0);
                        }
                        for part in 0..16 {
                            let found = client.read((part * CLIENTS + place) * 128, 128);
                            assert_eq!(found, [fill; 128], "client {place}, round {round}");
                        }
                    }
                });
            }
        });
    }
}

/// Ends the other client, whether the test passes or not.
struct SetWhenDropped<'a>(&'a AtomicBool);

impl Drop for SetWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// One client replaces whole sectors in all the ways there are, another one changes a byte of each;
/// what was acknowledged to the first must be there but for that byte.
#[test]
fn whole_sectors_are_not_lost_to_a_change_of_a_part() {
    const BYTE: usize = 1000;
    let server = serve_shuffled(4, 2);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = Client::simple(&server);
            while !done.load(Ordering::Relaxed) {
                for sector in 0..4 {
                    client.send_write(sector, sector * 4096 + 1000, b"!");
                }
                for _ in 0..4 {
                    assert_eq!(client.simple_reply().0, 0);
                }
            }
        });
        let _done = SetWhenDropped(&done);
        let mut client = Client::simple(&server);
        for round in 0..300 {
            let mut expected = pattern(round, 4 * 4096);
            match round % 4 {
                0 => assert_eq!(client.write(0, &expected), 0),
                1 => {
                    for (sector, data) in expected.chunks(4096).enumerate() {
                        let sector = u64::try_from(sector).unwrap();
                        client.send_write(sector, sector * 4096, data);
                    }
                    for _ in 0..4 {
                        assert_eq!(client.simple_reply().0, 0);
                    }
                }
                kind => {
                    let command = if kind == 2 { TRIM } else { WRITE_ZEROES };
                    assert_eq!(client.call(0, command, 0, 4 * 4096), 0);
                    expected.fill(0);
                }
            }
            let mut found = client.read(0, 4 * 4096);
            for sector in 0..4 {
                for bytes in [&mut expected, &mut found] {
                    bytes[sector * 4096 + BYTE] = 0;
                }
            }
            assert!(found == expected, "round {round}: a whole sector was lost");
        }
    });
}
