//! A device with two paths: two joined gateways, whose client moves from one to the other with
//! writes in flight and writes something newer there.
//!
//! What the client has had answered over the second path stays, whatever becomes of the writes that
//! it left behind on the first, and whether the gateway slept on them or the process did.

use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use atdd::domain::SECTOR_SIZE;
use rustix::process::Signal;

use crate::attachments::{coordinator, heard_of, kinds, until};
use crate::gateway::Gateway;
use crate::machine::Machine;
use crate::nbd::NbdClient;

/// What the client writes to every sector. `OLD` is what it leaves behind.
const W0: u8 = 1;
const OLD: u8 = 2;
const W1: u8 = 3;
const W2: u8 = 4;

/// Several, since which write a race lets through is a matter of luck; few enough to lie in a
/// socket unread.
const SECTORS: Range<u64> = 0..16;
/// That of a second connection to the same path, which the client does not close.
const BESIDE: u64 = 16;
const ALL: Range<u64> = 0..17;

/// Longer than a process waits for heartbeats.
const PAUSE: Duration = Duration::from_secs(5);
/// For whatever was left behind to be done by now.
const WAKING: Duration = Duration::from_secs(2);

const OPENER: usize = 0;
const JOINER: usize = 1;

#[test]
fn a_joined_gateway_that_opened_the_disk_and_slept_brings_nothing_old_back() {
    a_gateway_sleeps(OPENER);
}

#[test]
fn a_joined_gateway_that_came_second_and_slept_brings_nothing_old_back() {
    a_gateway_sleeps(JOINER);
}

/// The gateway is paused, with the writes in its NBD socket. All that time the other path writes
/// under the same generation, so no fence stands in their way.
fn a_gateway_sleeps(role: usize) {
    let (machine, gateways, clients) = two_paths();
    let [paused, other] = in_order(role, [&gateways[OPENER], &gateways[JOINER]]);
    let [mut first, mut second] = in_order(role, clients);
    let mut beside = NbdClient::open(paused.socket()).unwrap();
    write_all(&mut first, W0);

    paused.pause();
    let since = Instant::now();
    leave_behind(first, &mut beside);
    write_all(&mut second, W1);
    write_all(&mut second, W2);
    until("the end of its session", || {
        kinds(&machine).concat().len() == 1
    });
    std::thread::sleep(PAUSE.saturating_sub(since.elapsed()));
    paused.wake();

    stays(other.socket());
    check_all(&mut second, W2);
    assert_unanswered(&mut beside);
    assert_eq!(
        machine.generations(),
        [1; 3],
        "the other path goes on as before"
    );
    let mut again = NbdClient::open_in_time(paused.socket());
    check_all(&mut again, W2);
    again.goodbye();
    second.goodbye();
    let fresh = found_by_another(&machine);
    check_all(&mut NbdClient::open_in_time(other.socket()), W2);
    drop(fresh);
}

/// The process that coordinates both paths is paused, with the writes in the gateway's session.
/// The other path opens a generation of its own through another process.
#[test]
fn what_a_joined_gateway_sent_to_a_process_that_slept_does_nothing() {
    let (machine, gateways, [mut first, mut second]) = two_paths();
    let [left, other] = &gateways;
    let mut beside = NbdClient::open(left.socket()).unwrap();
    write_all(&mut first, W0);
    let rank = coordinator(&machine);

    machine.signal(rank, Signal::STOP);
    leave_behind(first, &mut beside);
    // The gateway does not sleep, and passes them on.
    std::thread::sleep(Duration::from_millis(500));
    second.send_write(0, W1);
    assert_unanswered(&mut second);
    let mut second = NbdClient::open_in_time(other.socket());
    write_all(&mut second, W1);
    write_all(&mut second, W2);
    assert_unanswered(&mut beside);
    machine.signal(rank, Signal::CONT);

    stays(other.socket());
    check_all(&mut second, W2);
    machine.wait_for_status(0);
    until("the next generation", || machine.generations() == [2; 3]);
    let mut again = NbdClient::open_in_time(left.socket());
    check_all(&mut again, W2);
    again.goodbye();
    second.goodbye();
    let fresh = found_by_another(&machine);
    for path in [left, other] {
        let refused = NbdClient::open(path.socket());
        assert!(refused.is_err(), "a client was lost there with its writes");
    }
    drop(fresh);
    let started = Gateway::start(&machine, "started", &["--join", "disk"]);
    check_all(&mut NbdClient::open_in_time(started.socket()), W2);
}

/// A cluster and a device of two paths, with a client on each: the opener's, and the joiner's.
fn two_paths() -> (Machine, [Gateway; 2], [NbdClient; 2]) {
    let machine = Machine::running(3, "4MiB");
    let gateways =
        ["opener", "joiner"].map(|name| Gateway::start(&machine, name, &["--join", "disk"]));
    let clients = gateways.each_ref().map(|gateway| {
        let client = NbdClient::open_in_time(gateway.socket());
        heard_of();
        client
    });
    let mut listed = kinds(&machine);
    listed.retain(|kinds| !kinds.is_empty());
    assert_eq!(listed, [["exclusive", "joined"]], "one process runs both");
    assert_eq!(machine.generations(), [1; 3]);
    (machine, gateways, clients)
}

fn in_order<T>(role: usize, [opener, joiner]: [T; 2]) -> [T; 2] {
    match role {
        OPENER => [opener, joiner],
        _ => [joiner, opener],
    }
}

/// The client has writes in flight on a path when it gives that up. One of its connections it
/// closes; the other stays, to see how it ends.
fn leave_behind(mut first: NbdClient, beside: &mut NbdClient) {
    for sector in SECTORS {
        first.send_write(sector, OLD);
    }
    beside.send_write(BESIDE, OLD);
}

fn write_all(client: &mut NbdClient, byte: u8) {
    for sector in ALL {
        client.write(sector, byte);
    }
}

fn check_all(client: &mut NbdClient, byte: u8) {
    for sector in ALL {
        assert_eq!(client.read(sector), byte, "sector {sector}");
    }
}

/// The connection is closed without a word on what was in flight: an acknowledgement would be a lie,
/// and an error would reach the filesystem, where another path has the write.
fn assert_unanswered(client: &mut NbdClient) {
    assert_eq!(client.error(), None, "it was answered");
}

/// What was written last is there when the sleeper has had time to wake: to a new connection, which
/// sees the disk even if those before were closed.
fn stays(socket: &Path) {
    std::thread::sleep(WAKING);
    let mut client = NbdClient::open_in_time(socket);
    check_all(&mut client, W2);
    client.goodbye();
}

/// Another host's gateway finds it, and so does `atdd read`.
fn found_by_another(machine: &Machine) -> Gateway {
    let fresh = Gateway::start(machine, "fresh", &[]);
    let mut client = NbdClient::open_in_time(fresh.socket());
    check_all(&mut client, W2);
    client.goodbye();
    let count = ALL.end.to_string();
    let read = machine.command("read", &["--sector", "0", "--count", &count], &[]);
    let said = String::from_utf8_lossy(&read.stderr);
    assert!(read.status.success(), "{said}");
    assert!(read.stdout == vec![W2; SECTOR_SIZE * ALL.count()], "{said}");
    fresh
}
