//! `atdd store check`.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};

use atdd::domain::{
    ClusterId, Content, Extent, Incarnation, Rank, SECTOR_SIZE, SectorAddress, SectorRange, Stamp,
    Volume,
};
use atdd::store::{
    Completion, Completions, DiskSectors, Options, SectorsManager, StoreRequest, Unrecovered,
};
use bytes::Bytes;
use tempfile::TempDir;

use crate::program::{DEADLINE, Finished, run};

/// The sectors that are stored in each of these directories.
const SECTORS: u32 = 8;

struct Inbox(SyncSender<()>);

impl Completions for Inbox {
    fn complete(&self, _: Vec<Completion>) {
        self.0.send(()).unwrap();
    }
}

/// A store in the directory `data`, with some sectors, the n-th of them full of n.
fn store() -> (TempDir, DiskSectors) {
    let directory = tempfile::tempdir().unwrap();
    let options = Options::new(ClusterId([1; 16]), Rank::new(1).unwrap());
    let unrecovered = Unrecovered::open(&directory.path().join("data"), &options).unwrap();
    let store = unrecovered
        .recover(Box::new(|error| panic!("the store failed: {error}")))
        .unwrap();
    let first = SectorAddress::new(Volume(0), 0).unwrap();
    let range = SectorRange::new(first, SECTORS).unwrap();
    let stamp = Stamp {
        timestamp: 1,
        rank: Rank::new(1),
        incarnation: Incarnation(1),
        ..Stamp::ZERO
    };
    let data = (1..=8).flat_map(|number| [number; SECTOR_SIZE]);
    let data = Content::Data(data.collect::<Bytes>());
    let request = StoreRequest {
        token: 1,
        extents: vec![Extent::new(range, stamp, data)],
    };
    let (sender, stored) = sync_channel(1);
    let inbox: Arc<dyn Completions> = Arc::new(Inbox(sender));
    store.store(vec![request], &inbox);
    stored.recv_timeout(DEADLINE).unwrap();
    (directory, store)
}

fn check(directory: &Path) -> Finished {
    run(directory, &["store", "check", "data"])
}

/// Changes one byte of the only place in the file where these are.
fn damage(directory: &Path, bytes: &[u8]) {
    let path = directory.join("data/sectors");
    let mut file = fs::read(&path).unwrap();
    let mut places = (0..file.len()).filter(|place| file[*place..].starts_with(bytes));
    let place = places.next().unwrap();
    assert_eq!(places.next(), None);
    file[place] ^= 1;
    fs::write(&path, file).unwrap();
}

#[test]
fn a_whole_store_is_healthy_and_left_alone() {
    let (directory, store) = store();
    store.close().unwrap();
    let path = directory.path().join("data/sectors");
    let before = fs::read(&path).unwrap();
    let checked = check(directory.path());
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    let said = "data: healthy (8 sectors, ";
    assert!(checked.stdout.starts_with(said), "{}", checked.stdout);
    assert_eq!(checked.stderr, "");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_damaged_sector_is_named() {
    let (directory, store) = store();
    store.close().unwrap();
    damage(directory.path(), &[6; SECTOR_SIZE]);
    let checked = check(directory.path());
    assert_eq!(checked.code, Some(1), "{}", checked.stdout);
    let said = "damaged: sector 5, at byte 20480 of the disk\ndata: damaged; ";
    assert!(checked.stdout.starts_with(said), "{}", checked.stdout);
}

#[test]
fn a_damaged_spare_copy_is_told_from_a_loss() {
    let (directory, store) = store();
    store.close().unwrap();
    let path = directory.path().join("data/sectors");
    let mut file = fs::read(&path).unwrap();
    file[100] ^= 1;
    fs::write(&path, file).unwrap();
    let checked = check(directory.path());
    assert_eq!(checked.code, Some(1), "{}", checked.stderr);
    let said = "damaged: 1 spare copy\ndata: nothing is lost, ";
    assert!(checked.stdout.starts_with(said), "{}", checked.stdout);
}

#[test]
fn a_store_without_its_identity_is_no_store_any_more() {
    let (directory, store) = store();
    store.close().unwrap();
    fs::write(directory.path().join("data/sectors"), "").unwrap();
    let checked = check(directory.path());
    assert_eq!(checked.code, Some(1));
    let said = "identity are damaged; nothing of it can be believed";
    assert!(checked.stderr.contains(said), "{}", checked.stderr);
}

#[test]
fn a_store_in_use_is_refused() {
    let (directory, _store) = store();
    let checked = check(directory.path());
    assert_eq!(checked.code, Some(1));
    let said = format!(
        "atdd: data is in use by process {}; stop that process first",
        std::process::id()
    );
    assert!(checked.stderr.starts_with(&said), "{}", checked.stderr);
}

#[test]
fn what_is_no_store_is_refused_and_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let said = "atdd: data is no store: it has no file `sectors`; give the directory that";
    let refuse = || {
        let checked = check(directory.path());
        assert_eq!(checked.code, Some(1));
        assert!(checked.stderr.starts_with(said), "{}", checked.stderr);
    };
    refuse();
    let data = directory.path().join("data");
    fs::create_dir(&data).unwrap();
    refuse();
    assert_eq!(fs::read_dir(&data).unwrap().count(), 0);
    fs::remove_dir(&data).unwrap();
    fs::write(&data, "a file").unwrap();
    refuse();
}
