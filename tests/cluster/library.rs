//! The client library against real processes: attached, going on through another process, beside others,
//! given back.

use std::time::{Duration, Instant};

use atdd::client::{AttachOptions, Attachment, Client, ClientError};
use atdd::config::ClusterFile;
use atdd::domain::{Mode, SECTOR_SIZE};
use atdd::wire::SectorValues;
use tokio::task::JoinSet;

use crate::classic;
use crate::classic::sector_of;
use crate::machine::{Machine, PATIENCE};

const SECTORS: u64 = 128;

/// What a client may take to go on through another process, with some more for a busy machine.
const FAILOVER: Duration = Duration::from_secs(6);

fn client(machine: &Machine) -> Client {
    let file = ClusterFile::load(&machine.config()).unwrap();
    Client::new(file.cluster().unwrap())
}

async fn attached(machine: &Machine, options: AttachOptions) -> Attachment {
    let attached = within(PATIENCE, client(machine).attach(options)).await;
    attached.unwrap()
}

async fn within<T>(limit: Duration, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(limit, work).await;
    done.expect("it does not take as long")
}

/// The rank of the process that runs the operations of an exclusive attachment.
fn coordinator(disk: &Attachment) -> usize {
    match disk.fence().mode {
        Mode::Exclusive { tag, .. } => tag.coordinator.number().into(),
        Mode::Shared | Mode::Reading { .. } => panic!("it is exclusive"),
    }
}

/// Writes every sector, all at the same time.
fn write_all(disk: &Attachment, byte: u8) -> JoinSet<Result<(), ClientError>> {
    let mut writes = JoinSet::new();
    for sector in 0..SECTORS {
        let disk = disk.clone();
        writes.spawn(async move { disk.write(sector, sector_of(byte)).await });
    }
    writes
}

async fn done(mut writes: JoinSet<Result<(), ClientError>>) {
    while let Some(written) = writes.join_next().await {
        written.unwrap().unwrap();
    }
}

/// The first byte of each of these sectors.
async fn bytes(disk: &Attachment, first: u64, count: u64) -> Vec<u8> {
    let values = within(PATIENCE, disk.read(first, count)).await.unwrap();
    let mut bytes = Vec::new();
    for value in values {
        match value {
            SectorValues::Zeroes(count) => bytes.extend((0..count).map(|_| 0)),
            SectorValues::Data(data) => bytes.extend(data.iter().step_by(SECTOR_SIZE)),
        }
    }
    bytes
}

fn all(byte: u8) -> Vec<u8> {
    vec![byte; usize::try_from(SECTORS).unwrap()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_goes_on_through_another_process_when_its_own_is_killed() {
    let mut machine = Machine::running(3, "1MiB");
    let disk = attached(&machine, AttachOptions::exclusive()).await;
    for byte in 1..=3 {
        done(write_all(&disk, byte)).await;
        let before = disk.fence().generation;
        let rank = coordinator(&disk);
        let writes = write_all(&disk, byte + 100);
        tokio::time::sleep(Duration::from_millis(2)).await;
        machine.kill(rank);
        let killed = Instant::now();
        within(PATIENCE, done(writes)).await;
        within(PATIENCE, disk.write(0, sector_of(byte + 100)))
            .await
            .unwrap();
        assert!(killed.elapsed() < FAILOVER, "{:?}", killed.elapsed());
        assert!(disk.fence().generation > before);
        assert_ne!(coordinator(&disk), rank);
        assert_eq!(bytes(&disk, 0, SECTORS).await, all(byte + 100));
        machine.start(rank, &[]);
        machine.wait_for_status(0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_is_not_harmed_by_a_stop_of_its_process() {
    let mut machine = Machine::running(3, "1MiB");
    let disk = attached(&machine, AttachOptions::exclusive()).await;
    let rank = coordinator(&disk);
    let writes = write_all(&disk, 1);
    let reader = disk.clone();
    let reading = tokio::spawn(async move { bytes(&reader, 0, SECTORS).await });
    assert!(machine.stop(rank).success(), "{}", machine.log(rank));
    within(PATIENCE, done(writes)).await;
    within(PATIENCE, reading).await.unwrap();
    assert_eq!(bytes(&disk, 0, SECTORS).await, all(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_given_back_is_free_at_once() {
    let machine = Machine::running(3, "1MiB");
    for byte in 1..10 {
        let disk = attached(&machine, AttachOptions::exclusive()).await;
        assert_eq!(bytes(&disk, 1, 1).await, [byte - 1]);
        disk.write(1, sector_of(byte)).await.unwrap();
        within(PATIENCE, disk.detach()).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn shared_clients_and_classic_ones_see_one_disk() {
    let machine = Machine::running(3, "1MiB");
    // So that it is not the first generation of all.
    let before = attached(&machine, AttachOptions::exclusive()).await;
    before.write(1, sector_of(1)).await.unwrap();
    within(PATIENCE, before.detach()).await;
    let one = attached(&machine, AttachOptions::shared()).await;
    let other = attached(&machine, AttachOptions::shared()).await;
    assert_eq!(bytes(&one, 1, 1).await, [1]);
    for byte in 2..20 {
        let (writer, reader) = match byte % 2 {
            0 => (&one, &other),
            _ => (&other, &one),
        };
        writer.write(1, sector_of(byte)).await.unwrap();
        assert_eq!(bytes(reader, 1, 1).await, [byte]);
        let mut classic = classic::Client::to(&machine, usize::from(byte % 3) + 1);
        assert_eq!(classic.read(1), sector_of(byte));
        classic.write(2, sector_of(byte));
        assert_eq!(bytes(reader, 2, 1).await, [byte]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_come_all_at_once_get_their_turns() {
    let machine = Machine::running(3, "1MiB");
    let mut clients = JoinSet::new();
    for number in 1..=6 {
        let client = client(&machine);
        clients.spawn(async move {
            let disk = loop {
                match client.attach(AttachOptions::exclusive()).await {
                    Ok(disk) => break disk,
                    Err(ClientError::Held(_) | ClientError::Fenced { .. }) => {}
                    Err(error) => return Err(error),
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            };
            for round in 0..5 {
                let byte = number * 10 + round;
                disk.write(1, sector_of(byte)).await?;
                assert_eq!(bytes(&disk, 1, 1).await, [byte]);
            }
            disk.detach().await;
            Ok::<(), ClientError>(())
        });
    }
    // Who comes before the others have heard of a holder may fence him.
    let fenced = |ended: &Result<(), ClientError>| matches!(ended, Err(ClientError::Fenced { .. }));
    while let Some(ended) = within(PATIENCE, clients.join_next()).await {
        let ended = ended.unwrap();
        assert!(ended.is_ok() || fenced(&ended), "{ended:?}");
    }
}
