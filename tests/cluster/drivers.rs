//! Classic clients that attach, as kernel drivers do.

use std::thread::sleep;
use std::time::Duration;

use atdd::domain::{Attach, AttachKind, Generation, JoinKey, OwnerId, Rank};
use atdd::wire::{AttachAnswer, ClientCommand, ClientStatus, ConnectionSession};
use bytes::Bytes;
use rustix::process::Signal;
use serde_json::Value;

use crate::attachments::{heard_of, until};
use crate::classic::{Client, sector_of};
use crate::machine::Machine;

const EXCLUSIVE: AttachKind = AttachKind::Exclusive { join: None };

/// A driver with one connection.
struct Driver {
    client: Client,
}

impl Driver {
    fn to(machine: &Machine, rank: usize) -> Self {
        Self {
            client: Client::to(machine, rank),
        }
    }

    /// One that is attached, and under which generation.
    fn attached(machine: &Machine, rank: usize, attach: Attach) -> (Self, u64) {
        let mut driver = Self::to(machine, rank);
        let (status, answer) = driver.attach(attach);
        assert_eq!(status, ClientStatus::Ok, "{answer:?}");
        (driver, answer.generation.0)
    }

    fn attach(&mut self, attach: Attach) -> (ClientStatus, AttachAnswer) {
        let (status, session) = self.client.ask(0, ClientCommand::Hello);
        assert_eq!(status, ClientStatus::Ok);
        let session = ConnectionSession((&session[..]).try_into().unwrap());
        let command = ClientCommand::Attach { attach, session };
        let (status, content) = self.client.ask(0, command);
        if status == ClientStatus::Ok {
            self.client.enter(session);
        }
        (status, AttachAnswer::decode(&content).unwrap())
    }

    fn write(&mut self, sector: u64, fills: &[u8]) {
        let command = ClientCommand::WriteRange(sectors(fills));
        assert_eq!(self.client.ask(sector, command).0, ClientStatus::Ok);
    }

    fn read(&mut self, sector: u64, count: u32) -> Bytes {
        let command = ClientCommand::ReadRange { count };
        let (status, content) = self.client.ask(sector, command);
        assert_eq!(status, ClientStatus::Ok);
        content
    }

    fn name(&self) -> String {
        self.client.name()
    }
}

fn sectors(fills: &[u8]) -> Bytes {
    let sectors: Vec<Bytes> = fills.iter().map(|&fill| sector_of(fill)).collect();
    sectors.concat().into()
}

fn attach(owner: u8, kind: AttachKind) -> Attach {
    Attach {
        owner: OwnerId([owner; 16]),
        kind,
        take_over: false,
        continues: None,
    }
}

/// The kind and client of each attachment of the whole cluster.
fn listed(machine: &Machine) -> Vec<(String, String)> {
    let listed = machine.command("attachments", &["--json"], &[]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    let of = |process: &Value| process["attachments"].as_array().cloned();
    let processes = listed["processes"].as_array().unwrap();
    let attachments = processes.iter().filter_map(of).flatten();
    let text = |attachment: &Value, name| attachment[name].as_str().unwrap().to_owned();
    let mut all: Vec<_> = attachments
        .map(|it| (text(&it, "kind"), text(&it, "client")))
        .collect();
    all.sort();
    all
}

#[test]
fn a_driver_attaches_uses_ranges_and_is_listed_like_any_other() {
    let machine = Machine::running(3, "4MiB");
    let (mut driver, generation) = Driver::attached(&machine, 1, attach(1, EXCLUSIVE));
    assert_eq!(generation, 1);
    driver.write(3, &[1, 2, 3, 4]);
    let discard = ClientCommand::Discard { count: 2 };
    assert_eq!(driver.client.ask(4, discard).0, ClientStatus::Ok);
    assert_eq!(driver.read(2, 6), sectors(&[0, 1, 0, 0, 4, 0]));
    let past = driver
        .client
        .ask(1023, ClientCommand::ReadRange { count: 2 });
    assert_eq!(past.0, ClientStatus::InvalidSectorIndex);
    let text = machine.command("attachments", &[], &[]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains(&driver.name()), "{text}");
    let expected = [("exclusive".to_owned(), driver.name())];
    assert_eq!(listed(&machine), expected);

    assert_eq!(
        driver.client.ask(0, ClientCommand::Detach).0,
        ClientStatus::Ok
    );
    assert_eq!(listed(&machine), []);
    heard_of();
    let (mut next, generation) = Driver::attached(&machine, 2, attach(2, EXCLUSIVE));
    assert_eq!(generation, 2);
    assert_eq!(next.read(3, 4), sectors(&[1, 0, 0, 4]));
    // It is silent from now on, and others may have the disk soon.
    until("the end of a silent driver", || listed(&machine).is_empty());
    assert!(next.client.receive().is_none());
    Client::to(&machine, 3).write(1, sector_of(9));
}

#[test]
fn drivers_with_a_join_key_share_an_attachment_and_others_hear_who_holds_it() {
    let machine = Machine::running(3, "1MiB");
    let join = Some(JoinKey([7; 32]));
    let joinable = AttachKind::Exclusive { join };
    let (mut first, generation) = Driver::attached(&machine, 1, attach(1, joinable));
    let (mut second, joined) = Driver::attached(&machine, 1, attach(2, joinable));
    assert_eq!(generation, joined);
    first.write(1, &[5]);
    assert_eq!(second.read(1, 1), sector_of(5));
    second.write(1, &[6]);
    assert_eq!(first.read(1, 1), sector_of(6));
    heard_of();
    let (status, answer) = Driver::to(&machine, 2).attach(attach(3, joinable));
    assert_eq!(status, ClientStatus::Elsewhere);
    assert_eq!(answer.process, Rank::new(1).unwrap());
    let (status, answer) = Driver::to(&machine, 2).attach(attach(4, EXCLUSIVE));
    assert_eq!(status, ClientStatus::Held);
    assert_eq!(answer.process, Rank::new(1).unwrap());
    assert_eq!(answer.generation, Generation(generation));
    assert!([first.name(), second.name()].contains(&answer.holder));
}

/// What it had sent lies unread in the socket of a process that sleeps while another driver takes
/// the disk over, and is found there afterwards.
#[test]
fn a_driver_that_was_taken_over_from_hears_so_and_changes_nothing_any_more() {
    let machine = Machine::running(3, "1MiB");
    let (mut first, generation) = Driver::attached(&machine, 1, attach(1, EXCLUSIVE));
    first.write(1, &[1]);
    machine.signal(1, Signal::STOP);
    // Its threads run on for a moment, and what they take by then is no concern here.
    sleep(Duration::from_millis(200));
    for _ in 0..20 {
        let command = ClientCommand::WriteRange(sectors(&[2, 2]));
        first.client.send(1, command);
    }
    let take_over = Attach {
        take_over: true,
        ..attach(2, EXCLUSIVE)
    };
    let (mut second, newer) = Driver::attached(&machine, 2, take_over);
    assert!(newer > generation);
    second.write(1, &[3]);
    // What nobody has looked at may turn out either way still; what somebody has stays.
    assert_eq!(second.read(1, 2), sectors(&[3, 0]));
    machine.signal(1, Signal::CONT);
    while let Some(response) = first.client.receive() {
        assert_eq!(response.status, ClientStatus::Fenced);
    }
    assert_eq!(second.read(1, 2), sectors(&[3, 0]));

    // The same while everybody is awake.
    let back = Attach {
        take_over: true,
        ..attach(1, EXCLUSIVE)
    };
    let (mut first, _) = Driver::attached(&machine, 1, back);
    assert_eq!(first.read(1, 2), sectors(&[3, 0]));
    for _ in 0..20 {
        second
            .client
            .send(1, ClientCommand::WriteRange(sectors(&[4])));
    }
    let mut acknowledged = 0;
    while let Some(response) = second.client.receive() {
        match response.status {
            ClientStatus::Ok => acknowledged += 1,
            status => assert_eq!(status, ClientStatus::Fenced),
        }
    }
    assert_eq!(acknowledged, 0, "it was over by then");
    assert_eq!(first.read(1, 2), sectors(&[3, 0]));
}

#[test]
fn a_driver_continues_elsewhere_unless_somebody_came_in_between() {
    let mut machine = Machine::running(3, "1MiB");
    let (mut driver, generation) = Driver::attached(&machine, 1, attach(1, EXCLUSIVE));
    driver.write(1, &[1]);
    machine.kill(1);
    assert!(driver.client.receive().is_none());
    let continuing = |generation| Attach {
        continues: Some(Generation(generation)),
        ..attach(1, EXCLUSIVE)
    };
    let (mut driver, second) = Driver::attached(&machine, 2, continuing(generation));
    assert!(second > generation);
    assert_eq!(driver.read(1, 1), sector_of(1));
    driver.write(1, &[2]);

    let take_over = Attach {
        take_over: true,
        ..attach(2, EXCLUSIVE)
    };
    let (mut other, third) = Driver::attached(&machine, 3, take_over);
    let (status, answer) = Driver::to(&machine, 2).attach(continuing(second));
    assert_eq!(status, ClientStatus::Fenced);
    assert_eq!(answer.generation, Generation(third));
    assert_eq!(other.read(1, 1), sector_of(2));
    sleep(Duration::from_millis(100));
    assert!(
        driver
            .client
            .receive()
            .is_none_or(|it| it.status == ClientStatus::Fenced)
    );
}
