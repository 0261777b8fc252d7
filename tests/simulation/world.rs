//! The simulated cluster: its clock, and everything that is going to happen.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use atdd::domain::{Held, Rank, Reply, Request, SectorAddress, Volume};
use atdd::register::{LoadToken, StoreToken};

use crate::bug::Bug;
use crate::dice::Dice;
use crate::history::History;
use crate::network::Network;
use crate::process::Process;
use crate::scenario::Scenario;

/// A cluster of real registers in a simulated world.
pub(crate) struct World {
    pub(crate) scenario: Scenario,
    pub(crate) bug: Option<Bug>,
    pub(crate) dice: Dice,
    pub(crate) now: u64,
    pub(crate) processes: Vec<Process>,
    pub(crate) network: Network,
    pub(crate) history: History,
    traced: bool,
    upcoming: BinaryHeap<Reverse<Upcoming>>,
    scheduled: u64,
}

/// What a process says to another.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Request(Request),
    Reply(Reply),
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
    Loaded {
        process: usize,
        life: u64,
        token: LoadToken,
        held: Held,
    },
    Sync {
        process: usize,
        life: u64,
        token: StoreToken,
    },
    Stored {
        process: usize,
        life: u64,
        token: StoreToken,
    },
    Think {
        process: usize,
        client: usize,
    },
    Connect {
        a: usize,
        b: usize,
    },
    Break {
        a: usize,
        b: usize,
    },
    Crash,
    Start {
        process: usize,
    },
    Cut,
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
            bug.favour(&mut scenario);
        }
        let count = usize::from(scenario.processes);
        let processes = (0..count)
            .map(|place| Process::new(place, &scenario, bug))
            .collect();
        let world = Self {
            network: Network::new(count),
            scenario,
            bug,
            dice,
            now: 0,
            processes,
            history: History::default(),
            traced,
            upcoming: BinaryHeap::new(),
            scheduled: 0,
        };
        world.trace(|world| format!("{:?}", world.scenario));
        world
    }

    /// Runs the cluster until faults are over and every client has what it asked for; then reads
    /// everything everywhere. An error is a violation of what a register promises.
    pub(crate) fn run(&mut self) -> Result<(), String> {
        self.begin();
        self.run_dry()?;
        self.everything_was_answered()?;
        // The first pass settles what cut-off writes left behind at single processes.
        self.read_everywhere()?;
        let values = self.read_everywhere()?;
        for index in 0..values[0].len() {
            let mut read = values.iter().filter_map(|values| values[index]);
            let first = read.next();
            if read.any(|value| Some(value) != first) {
                return Err(format!("processes disagree at the end: {values:?}"));
            }
        }
        self.history.check()
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
            Event::Loaded {
                process,
                life,
                token,
                held,
            } => self.loaded(process, life, token, held),
            Event::Sync {
                process,
                life,
                token,
            } => {
                self.sync(process, life, token);
                Ok(())
            }
            Event::Stored {
                process,
                life,
                token,
            } => self.stored(process, life, token),
            Event::Think { process, client } => self.think(process, client),
            Event::Connect { a, b } => self.connect(a, b),
            Event::Break { a, b } => {
                self.interrupt(a, b, 1);
                Ok(())
            }
            Event::Crash => self.crash_someone(),
            Event::Start { process } => self.start(process),
            Event::Cut => {
                self.cut_some_connection();
                Ok(())
            }
            Event::Rot => {
                self.rot_some_copy();
                Ok(())
            }
        }
    }
}

/// The rank of the process at this place.
pub(crate) fn rank(place: usize) -> Rank {
    Rank::new(u8::try_from(place + 1).unwrap()).unwrap()
}

/// The sector of this index. They lie at the end of a volume, where sums might overflow.
pub(crate) fn sector(index: u64) -> SectorAddress {
    SectorAddress::new(Volume(u16::MAX), atdd::domain::INDEX_LIMIT - 8 + index).unwrap()
}

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
