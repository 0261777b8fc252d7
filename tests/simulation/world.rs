//! The simulated cluster: its clock, and everything that is going to happen.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use atdd::domain::{Holder, INDEX_LIMIT, Rank, Reply, Request, SectorAddress, SectorRange, Volume};
use atdd::register::{StoreToken, Ticket};

use crate::bug::Bug;
use crate::client::Client;
use crate::device::Device;
use crate::dice::Dice;
use crate::front::Asker;
use crate::history::History;
use crate::inspection::Inspection;
use crate::ledger::Ledger;
use crate::network::Network;
use crate::process::{Process, Task, Worker};
use crate::scenario::Scenario;
use crate::sessions::{Answer, Question, Session};
use crate::tally::Tally;

/// A cluster of real keepers and registers in a simulated world.
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) bug: Option<Bug>,
    pub(crate) dice: Dice,
    pub(crate) now: u64,
    pub(crate) processes: Vec<Process>,
    pub(crate) network: Network,
    pub(crate) clients: Vec<Client>,
    /// By number.
    pub(crate) devices: Vec<Device>,
    /// By number.
    pub(crate) sessions: Vec<Session>,
    /// Who waits for what the registers do.
    pub(crate) askers: BTreeMap<Ticket, Asker>,
    pub(crate) history: History,
    pub(crate) ledger: Ledger,
    pub(crate) inspection: Inspection,
    /// How many thoughts and owners there were.
    pub(crate) turns: u64,
    pub(crate) owners: u64,
    pub(crate) tally: Tally,
    traced: bool,
    upcoming: BinaryHeap<Reverse<Upcoming>>,
    scheduled: u64,
}

/// What a process says to another.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Request(Request),
    Reply(Reply),
    /// Which attachments it runs; the higher the version, the newer.
    Holders {
        version: u64,
        holders: Vec<Holder>,
    },
}

/// What is going to happen. What happens to a process happens only in the life it was meant for.
#[derive(Debug)]
pub(crate) enum Event {
    Deliver {
        from: usize,
        to: usize,
        message: Message,
        /// The connection it takes; `None` if it arrives even when that breaks.
        connection: Option<u64>,
    },
    /// A worker looks at its desk.
    Work {
        process: usize,
        life: u64,
        worker: Worker,
    },
    /// A task is put on a worker's desk.
    Tell {
        process: usize,
        life: u64,
        worker: Worker,
        task: Task,
    },
    Tick {
        process: usize,
        life: u64,
        shard: u8,
    },
    Sync {
        process: usize,
        life: u64,
        shard: u8,
        token: StoreToken,
    },
    Record {
        process: usize,
        life: u64,
    },
    Think {
        client: usize,
        turn: u64,
    },
    Impatient {
        session: u64,
    },
    Said {
        session: u64,
        question: Question,
    },
    /// A process reads on what a client has said.
    Read {
        session: u64,
    },
    /// A gateway says that it lives.
    Beat {
        session: u64,
    },
    /// Nothing may have been heard in the session for too long.
    Silence {
        process: usize,
        life: u64,
        session: u64,
    },
    /// A device may have waited for too long.
    Overdue {
        session: u64,
        number: usize,
    },
    Answered {
        session: u64,
        answer: Answer,
    },
    Connect {
        a: usize,
        b: usize,
    },
    Break {
        a: usize,
        b: usize,
        /// For how long.
        length: u64,
    },
    Start {
        process: usize,
    },
    Wake {
        process: usize,
        life: u64,
    },
    /// Something goes wrong, and will again.
    Fault(Fault),
}

/// What goes wrong by itself.
#[derive(Copy, Clone, Debug)]
pub(crate) enum Fault {
    Crash,
    Blackout,
    Pause,
    Cut,
    Loss,
    Rot,
}

struct Upcoming {
    time: u64,
    number: u64,
    event: Event,
}

/// More events than any sound simulation has.
const EVENTS_MAX: u64 = 1_000_000;

impl World {
    pub(crate) fn new(seed: u64, bug: Option<Bug>, traced: bool) -> Self {
        let mut dice = Dice::new(seed);
        let mut scenario = Scenario::new(&mut dice);
        if let Some(bug) = bug {
            bug.favour(&mut scenario, &mut dice);
        }
        let count = usize::from(scenario.processes);
        let processes = (0..count)
            .map(|place| Process::new(place, &scenario, bug))
            .collect();
        let world = Self {
            network: Network::new(count),
            clients: Client::crowd(&scenario),
            devices: (0..scenario.crowd.devices)
                .map(|_| Device::default())
                .collect(),
            scenario,
            bug,
            dice,
            now: 0,
            processes,
            sessions: Vec::new(),
            askers: BTreeMap::new(),
            history: History::default(),
            ledger: Ledger::default(),
            inspection: Inspection::default(),
            turns: 0,
            owners: 0,
            tally: Tally::default(),
            traced,
            upcoming: BinaryHeap::new(),
            scheduled: 0,
        };
        world.trace(|world| format!("{:?}", world.scenario));
        world
    }

    /// Runs the cluster until faults are over and every client has what it asked for; then reads
    /// everything everywhere. An error is a violation of what a cluster promises.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        self.begin();
        self.run_dry()?;
        self.nothing_is_left()?;
        self.inspect()?;
        self.history.check()?;
        self.ledger.check()
    }

    /// Whether faults may still happen.
    pub(crate) fn is_stormy(&self) -> bool {
        self.now < self.scenario.calm_from
    }

    pub(crate) fn schedule(&mut self, delay: u64, event: Event) {
        let number = self.scheduled;
        self.scheduled += 1;
        self.upcoming.push(Reverse(Upcoming {
            time: self.now + delay,
            number,
            event,
        }));
    }

    pub(crate) fn trace(&self, text: impl FnOnce(&Self) -> String) {
        if self.traced {
            println!("{:>6} {}", self.now, text(self));
        }
    }

    /// Lets everything happen that is going to.
    pub(crate) fn run_dry(&mut self) -> Result<(), String> {
        while let Some(Reverse(next)) = self.upcoming.pop() {
            if self.scheduled > EVENTS_MAX {
                return Err("it never ends".to_owned());
            }
            self.now = next.time;
            self.happen(next.event)?;
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Deliver {
                from,
                to,
                message,
                connection,
            } => self.deliver(from, to, message, connection),
            Event::Work {
                process,
                life,
                worker,
            } => return self.work(process, life, worker),
            Event::Tell {
                process,
                life,
                worker,
                task,
            } => self.tell(process, life, worker, task),
            Event::Tick {
                process,
                life,
                shard,
            } => self.tick(process, life, shard),
            Event::Sync {
                process,
                life,
                shard,
                token,
            } => self.sync(process, life, shard, token),
            Event::Record { process, life } => self.recorded(process, life),
            Event::Think { client, turn } => return self.think(client, turn),
            Event::Impatient { session } => return self.impatient(session),
            Event::Said { session, question } => self.said(session, question),
            Event::Read { session } => self.read(session),
            Event::Beat { session } => self.beat(session),
            Event::Silence {
                process,
                life,
                session,
            } => self.silence(process, life, session),
            Event::Overdue { session, number } => return self.overdue(session, number),
            Event::Answered { session, answer } => return self.answered(session, answer),
            Event::Connect { a, b } => self.connect(a, b),
            Event::Break { a, b, length } => self.interrupt(a, b, length),
            Event::Start { process } => self.start(process),
            Event::Wake { process, life } => self.wake(process, life),
            Event::Fault(fault) => return self.strike(fault),
        }
        Ok(())
    }
}

/// The rank of the process at this place.
pub(crate) fn rank(place: usize) -> Rank {
    Rank::new(u8::try_from(place + 1).unwrap()).unwrap()
}

/// The sector of this index. They lie at the end of a volume, where sums might overflow.
pub(crate) fn sector(index: u64) -> SectorAddress {
    SectorAddress::new(Volume(u16::MAX), FIRST + index).unwrap()
}

/// The index of this sector.
pub(crate) fn index(address: SectorAddress) -> u64 {
    address.index() - FIRST
}

/// So many sectors from this one on.
pub(crate) fn range(first: SectorAddress, count: u64) -> SectorRange {
    SectorRange::new(first, u32::try_from(count).unwrap()).unwrap()
}

const FIRST: u64 = INDEX_LIMIT - 8;

impl PartialEq for Upcoming {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Upcoming {}

impl PartialOrd for Upcoming {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Upcoming {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.time, self.number).cmp(&(other.time, other.number))
    }
}
