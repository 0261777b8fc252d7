//! Attachments on real processes: failover, take-over, and what a paused process may not do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use atdd::client::{AttachOptions, Attachment, Client, ClientError};
use atdd::config::ClusterFile;
use atdd::domain::{Fence, Mode, SECTOR_SIZE};
use atdd::wire::SectorValues;
use bytes::Bytes;
use rustix::process::Signal;

use crate::gateway::Gateway;
use crate::machine::{Machine, PATIENCE};
use crate::tools::{Fio, installed};

/// The seeds' first failing history, on real processes: the coordinator is paused with writes under
/// way, its client goes on through another, and then it wakes.
#[test]
fn a_paused_process_brings_nothing_old_back() {
    const SECTORS: u64 = 64;
    const PAUSE: Duration = Duration::from_secs(10);
    let machine = Machine::running(3, "4MiB");
    run_async(async {
        let disk = attach(&machine, AttachOptions::exclusive()).await;
        let paused = coordinator(disk.fence());
        let writing = Arc::new(AtomicBool::new(true));
        let writers: Vec<_> = (0..SECTORS)
            .map(|sector| tokio::spawn(write_until(disk.clone(), sector, Arc::clone(&writing))))
            .collect();
        tokio::time::sleep(Duration::from_millis(500)).await;
        machine.signal(paused, Signal::STOP);
        let since = Instant::now();
        tokio::time::sleep(PAUSE / 2).await;
        writing.store(false, Ordering::Relaxed);
        let mut last = Vec::new();
        for writer in writers {
            last.push(writer.await.unwrap());
        }
        assert_ne!(
            coordinator(disk.fence()),
            paused,
            "it goes on through another"
        );
        assert!(
            since.elapsed() < PAUSE,
            "and without the one that is paused"
        );
        tokio::time::sleep(PAUSE.saturating_sub(since.elapsed())).await;
        check_all(&disk, &last).await;
        machine.signal(paused, Signal::CONT);
        let woken = Instant::now();
        while woken.elapsed() < Duration::from_secs(2) {
            check_all(&disk, &last).await;
        }
        disk.detach().await;
        machine.wait_for_status(0);
        let reader = attach(&machine, AttachOptions::read_only()).await;
        check_all(&reader, &last).await;
    });
}

#[test]
fn a_second_host_is_refused_and_a_take_over_ends_the_first() {
    let machine = Machine::running(3, "4MiB");
    run_async(async {
        let first = attach(&machine, AttachOptions::exclusive()).await;
        write(&first, 7, 1).await.unwrap();
        let refused = client(&machine).attach(AttachOptions::exclusive()).await;
        let Err(ClientError::Held(holder)) = refused else {
            panic!("the disk is held, but: {refused:?}");
        };
        assert!(holder.client.starts_with("127.0.0.1:"), "{holder:?}");

        let by_hand = machine.command("write", &["--sector", "7"], &[9; SECTOR_SIZE]);
        assert_eq!(by_hand.status.code(), Some(1));
        let said = String::from_utf8(by_hand.stderr).unwrap();
        assert!(
            said.contains(&holder.client) && said.contains("--take-over"),
            "{said}"
        );

        let options = AttachOptions {
            take_over: true,
            ..AttachOptions::exclusive()
        };
        let second = attach(&machine, options).await;
        assert!(second.fence().generation > first.fence().generation);
        write(&second, 7, 2).await.unwrap();
        let late = write(&first, 7, 3).await;
        assert!(matches!(late, Err(ClientError::Fenced { .. })), "{late:?}");
        assert_eq!(first.fenced().await, second.fence().generation);
        assert!(
            first.read(7, 1).await.is_err(),
            "its view of the disk is over, too"
        );
        assert_eq!(read(&second, 7).await, 2);
        second.detach().await;

        let by_hand = machine.command("write", &["--sector", "7"], &[9; SECTOR_SIZE]);
        assert!(by_hand.status.success(), "{by_hand:?}");
        let read = machine.command("read", &["--sector", "7"], &[]);
        assert!(
            read.stdout == [9; SECTOR_SIZE],
            "{:?}",
            String::from_utf8_lossy(&read.stderr)
        );
    });
}

#[test]
fn fio_verifies_through_a_gateway_while_every_process_is_killed_in_turn() {
    if !installed("fio") {
        return;
    }
    let mut machine = Machine::running(3, "64MiB");
    let gateway = Gateway::start(&machine, "gateway", &[]);
    let mut fio = Fio::start(&machine, &gateway.uri(), &["--size=32m"]);
    fio.verifies_while_killed_in_turn(&mut machine, 1..=3);
    let longest = fio.end(&gateway.log());
    assert!(
        longest < Duration::from_secs(5),
        "a request took {longest:?}: {}",
        gateway.log()
    );
}

/// After a take-over with a process missing, whatever an older generation has left is settled: by
/// ranges, however many sectors there are.
#[test]
fn settling_costs_a_record_for_a_range() {
    let mut machine = Machine::running(3, "1TiB");
    run_async(async {
        let disk = attach(&machine, AttachOptions::exclusive()).await;
        for sector in 0..200 {
            write(&disk, sector * 7, 1).await.unwrap();
        }
        disk.detach().await;
        machine.kill(3);
        let disk = attach(&machine, AttachOptions::exclusive()).await;
        for piece in 0..64 {
            disk.read(piece * 1024, 1024).await.unwrap();
        }
        for sector in 0..200 {
            assert_eq!(read(&disk, sector * 7).await, 1);
        }
        let (_, status) = machine.status();
        for rank in 1..=2 {
            let records = &status["processes"][rank - 1]["report"]["settle_records"];
            let records = records.as_u64().unwrap();
            assert!(
                (1..2_000).contains(&records),
                "{records} records in process {rank}"
            );
        }
    });
}

fn client(machine: &Machine) -> Client {
    let file = ClusterFile::load(&machine.config()).unwrap();
    Client::new(file.cluster().unwrap())
}

async fn attach(machine: &Machine, options: AttachOptions) -> Attachment {
    let client = client(machine);
    let attached = tokio::time::timeout(PATIENCE, client.attach(options)).await;
    attached.expect("a majority is there").unwrap()
}

fn coordinator(fence: Fence) -> usize {
    match fence.mode {
        Mode::Exclusive { tag, .. } => tag.coordinator.number().into(),
        Mode::Shared | Mode::Reading { .. } => panic!("the attachment is exclusive"),
    }
}

/// Writes ever higher versions, one after another; the last one, which was acknowledged.
async fn write_until(disk: Attachment, sector: u64, writing: Arc<AtomicBool>) -> u64 {
    let mut version = 0;
    while writing.load(Ordering::Relaxed) {
        version += 1;
        write(&disk, sector, version).await.unwrap();
    }
    version
}

async fn check_all(disk: &Attachment, last: &[u64]) {
    for (sector, &version) in (0..).zip(last) {
        assert_eq!(read(disk, sector).await, version, "of sector {sector}");
    }
}

async fn write(disk: &Attachment, sector: u64, version: u64) -> Result<(), ClientError> {
    let mut bytes = vec![0; SECTOR_SIZE];
    for place in bytes.chunks_exact_mut(8) {
        place.copy_from_slice(&version.to_be_bytes());
    }
    disk.write(sector, Bytes::from(bytes)).await
}

async fn read(disk: &Attachment, sector: u64) -> u64 {
    match &disk.read(sector, 1).await.unwrap()[..] {
        [SectorValues::Data(bytes)] => {
            let version = &bytes[..8];
            assert!(bytes.chunks_exact(8).all(|place| place == version), "torn");
            u64::from_be_bytes(version.try_into().unwrap())
        }
        [SectorValues::Zeroes(1)] => 0,
        other => panic!("one sector was read: {other:?}"),
    }
}

fn run_async(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test);
}
