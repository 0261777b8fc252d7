//! Measurements, on the real disk: run with
//! `cargo test --release --test store measure -- --ignored --nocapture --test-threads=1`.
//! The directory is `ATDD_MEASURE_DIR`, or a temporary one.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use atdd::domain::{Runs, Vote};
use atdd::store::{
    Completion, Completions, DiskSectors, SectorsManager, StoreRequest, Verdict, check,
};

use crate::support::{bytes, data, open, range};

fn directory() -> (Option<tempfile::TempDir>, PathBuf) {
    if let Some(path) = std::env::var_os("ATDD_MEASURE_DIR") {
        return (None, PathBuf::from(path));
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_owned();
    (Some(directory), path)
}

/// Keeps so many stores under way.
struct Window {
    free: Mutex<usize>,
    changed: Condvar,
}

impl Completions for Window {
    fn complete(&self, completions: Vec<Completion>) {
        *self.free.lock().unwrap() += completions.len();
        self.changed.notify_one();
    }
}

impl Window {
    fn take(&self, wanted: usize) -> usize {
        let mut free = self.free.lock().unwrap();
        while *free == 0 {
            free = self.changed.wait(free).unwrap();
        }
        let taken = wanted.min(*free);
        *free -= taken;
        taken
    }
}

fn random(state: &mut u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1);
    *state >> 20
}

/// Stores random sectors for a while; how many a second.
fn stores(store: &DiskSectors, sectors: u64, depth: usize, count: u32, span: Duration) -> f64 {
    let window = Arc::new(Window {
        free: Mutex::new(depth),
        changed: Condvar::new(),
    });
    let completions: Arc<dyn Completions> = window.clone();
    let template = bytes(range(0, count), 1);
    let mut state = 1;
    let mut timestamp = u64::from(store.incarnation().0) << 40;
    let (began, mut done) = (Instant::now(), 0_u64);
    while began.elapsed() < span {
        let taken = window.take(depth);
        let requests = (0..taken)
            .map(|token| {
                timestamp += 1;
                let places = sectors / u64::from(count);
                let at = random(&mut state) % places * u64::from(count);
                let mut extent = data(range(at, 1), 1);
                extent.range = range(at, count);
                extent.stamp.timestamp = timestamp;
                extent.content = atdd::domain::Content::Data(template.clone());
                StoreRequest {
                    token: token as u64,
                    extents: vec![extent],
                }
            })
            .collect();
        store.store(requests, &completions);
        done += taken as u64;
    }
    for _ in 0..depth {
        let left = window.take(1);
        assert_eq!(left, 1);
    }
    done as f64 / began.elapsed().as_secs_f64()
}

/// The same on a plain file: so many sectors overwritten, then `fdatasync`.
fn raw(directory: &std::path::Path, sectors: u64, depth: u64, span: Duration) -> f64 {
    let path = directory.join("raw");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(&path)
        .unwrap();
    let piece = vec![7; 1 << 20];
    for at in 0..sectors * 4096 / (1 << 20) {
        file.write_all_at(&piece, at << 20).unwrap();
    }
    file.sync_all().unwrap();
    let (began, mut done, mut state) = (Instant::now(), 0, 1);
    while began.elapsed() < span {
        for _ in 0..depth {
            let at = random(&mut state) % sectors;
            file.write_all_at(&piece[..4096], at * 4096).unwrap();
        }
        file.sync_data().unwrap();
        done += depth;
    }
    let rate = done as f64 / began.elapsed().as_secs_f64();
    std::fs::remove_file(path).unwrap();
    rate
}

fn fill(store: &DiskSectors, from: u64, to: u64) {
    let window = Arc::new(Window {
        free: Mutex::new(16),
        changed: Condvar::new(),
    });
    let completions: Arc<dyn Completions> = window.clone();
    for first in (from..to).step_by(256) {
        window.take(1);
        let mut extent = data(range(first, 1), 1);
        extent.range = range(first, 256);
        extent.content = atdd::domain::Content::Data(bytes(extent.range, 1));
        let request = StoreRequest {
            token: 0,
            extents: vec![extent],
        };
        store.store(vec![request], &completions);
    }
    for _ in 0..16 {
        window.take(1);
    }
}

fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("RssAnon"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[ignore = "a measurement"]
fn measure_stores() {
    const SECTORS: u64 = 1 << 18;
    let span = Duration::from_secs(4);
    let (_kept, directory) = directory();
    let store = open(&directory);
    let began = Instant::now();
    fill(&store, 0, SECTORS);
    println!(
        "fill 1 GiB in order: {:.0} MiB/s",
        1024.0 / began.elapsed().as_secs_f64()
    );
    for depth in [1, 1, 1, 32, 128] {
        let raw = raw(&directory, SECTORS, depth as u64, span);
        let rate = stores(&store, SECTORS, depth, 1, span);
        println!("random 4 KiB, depth {depth}: {rate:.0}/s; raw pwrite+fdatasync {raw:.0}/s");
    }
    let rate = stores(&store, SECTORS, 8, 256, span);
    println!("random 1 MiB, depth 8: {rate:.0} MiB/s");
    let mut state = 5;
    let (began, mut done) = (Instant::now(), 0);
    let (_, completions) = crate::support::Inbox::new();
    while began.elapsed() < span {
        let wanted = range(random(&mut state) % SECTORS, 1);
        let everything = Some(Runs::uniform(1, Vote::Lost));
        if store.load(1, wanted, everything, &completions).is_none() {
            store.read(wanted).unwrap();
        }
        done += 1;
    }
    println!(
        "random 4 KiB reads: {:.0}/s",
        f64::from(done) / began.elapsed().as_secs_f64()
    );
    println!("{:?}, {} KiB of memory", store.statistics(), memory());
    store.close().unwrap();
}

#[test]
#[ignore = "a measurement: writes 10 GiB"]
fn measure_recovery() {
    const SECTORS: u64 = 10 << 18;
    let (_kept, directory) = directory();
    let store = open(&directory);
    println!("empty: {} KiB of memory", memory());
    let began = Instant::now();
    fill(&store, 0, SECTORS);
    println!("filled in {:?}", began.elapsed());
    let rate = stores(&store, SECTORS, 32, 1, Duration::from_secs(20));
    println!("random 4 KiB, depth 32, in 10 GiB: {rate:.0}/s");
    println!("{:?}, {} KiB of memory", store.statistics(), memory());
    drop(store);
    for _ in 0..3 {
        let began = Instant::now();
        let store = open(&directory);
        println!(
            "recovered in {:?}: {:?}",
            began.elapsed(),
            store.statistics()
        );
        println!("{} KiB of memory", memory());
        drop(store);
    }
    let began = Instant::now();
    let report = check(&directory, &mut |_| {}).unwrap();
    println!("checked in {:?}: {report:?}", began.elapsed());
    assert_eq!(report.verdict(), Verdict::Healthy);
    open(&directory).close().unwrap();
    let began = Instant::now();
    drop(open(&directory));
    println!("opened after a clean end in {:?}", began.elapsed());
}
