//! One process: a real keeper and real registers, each at a desk of its own.
//!
//! As in the real driver, whatever is for a worker is put on its desk, and it takes what lies there
//! in order: what it is told by the network, by the disk, by clients and by the other workers. A
//! process that is paused takes nothing, but what is put there stays.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use atdd::attachment::{self, AttachmentKeeper};
use atdd::domain::{Fence, Holder, Incarnation};
use atdd::register::{self, AtomicRegister, Ticket};

use crate::bug::Bug;
use crate::classic::Classic;
use crate::disk::Disk;
use crate::front::Served;
use crate::lies::Lies;
use crate::scenario::Scenario;
use crate::sessions::Question;
use crate::world::{Event, World, rank};

/// A process: what a crash takes, and what it leaves.
pub(crate) struct Process {
    pub(crate) disk: Disk,
    pub(crate) incarnation: Incarnation,
    /// Counts crashes and starts.
    pub(crate) life: u64,
    pub(crate) paused: bool,
    /// When the disk is done with the fences that it was given.
    pub(crate) recorded_by: u64,
    /// Nothing while the process is down.
    pub(crate) running: Option<Running>,
    pub(crate) lies: Lies,
}

/// What a crash takes.
pub(crate) struct Running {
    pub(crate) keeper: AttachmentKeeper,
    pub(crate) registers: Vec<AtomicRegister>,
    /// By [`Worker::desk`].
    desks: Vec<Desk>,
    /// The registers that are told from time to time to wait no longer.
    pub(crate) timed: BTreeSet<u8>,
    /// What the registers have under way, in the order in which they were given it.
    pub(crate) under_way: BTreeSet<Ticket>,
    /// Sessions with clients, by number.
    pub(crate) served: BTreeMap<u64, Served>,
    pub(crate) classic: Classic,
    /// What the others are to know, and how often it changed.
    pub(crate) holders: (u64, Vec<Holder>),
    /// How new what each process said of its holders on the present connection is.
    pub(crate) heard: Vec<u64>,
}

/// Who takes a task.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Worker {
    Keeper,
    /// Speaks with the clients.
    Front,
    Register(u8),
}

/// What a worker finds on its desk.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    Keeper(attachment::Input),
    Client(u64, Question),
    Register(register::Input),
}

#[derive(Default)]
struct Desk {
    tasks: VecDeque<Task>,
    /// Whether its worker is going to look.
    woken: bool,
}

impl Worker {
    fn desk(self) -> usize {
        match self {
            Self::Keeper => 0,
            Self::Front => 1,
            Self::Register(shard) => 2 + usize::from(shard),
        }
    }

    /// All of a process.
    pub(crate) fn all(shards: u8) -> impl Iterator<Item = Self> {
        let registers = (0..shards).map(Self::Register);
        [Self::Keeper, Self::Front].into_iter().chain(registers)
    }
}

impl Process {
    pub(crate) fn new(place: usize, scenario: &Scenario, bug: Option<Bug>) -> Self {
        let mut process = Self {
            disk: Disk::new(bug),
            incarnation: Incarnation(1),
            life: 0,
            paused: false,
            recorded_by: 0,
            running: None,
            lies: Lies::default(),
        };
        process.boot(place, Fence::INITIAL, scenario);
        process
    }

    /// New workers, of which nothing remains but the disk.
    pub(crate) fn boot(&mut self, place: usize, fence: Fence, scenario: &Scenario) {
        self.life += 1;
        let (own, processes) = (rank(place), scenario.processes);
        let incarnation = self.incarnation;
        let keeper = AttachmentKeeper::new(attachment::Config {
            own,
            processes,
            incarnation,
            fence,
            shards: scenario.shards,
        });
        let register = |shard| {
            AtomicRegister::new(register::Config {
                own,
                processes,
                incarnation,
                fence,
                shard,
                queue_max: scenario.queue_max,
            })
        };
        self.running = Some(Running {
            keeper,
            registers: (0..scenario.shards).map(register).collect(),
            desks: Worker::all(scenario.shards)
                .map(|_| Desk::default())
                .collect(),
            timed: BTreeSet::new(),
            under_way: BTreeSet::new(),
            served: BTreeMap::new(),
            classic: Classic::after_start(fence),
            holders: (0, Vec::new()),
            heard: vec![0; usize::from(processes)],
        });
    }

    pub(crate) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    /// Whether it does anything at all.
    pub(crate) fn is_awake(&self) -> bool {
        self.is_up() && !self.paused
    }
}

impl World {
    /// Puts a task on the desk of a worker, if the process is up.
    pub(crate) fn put(&mut self, place: usize, worker: Worker, task: Task) {
        let process = &mut self.processes[place];
        let Some(running) = &mut process.running else {
            return;
        };
        let desk = &mut running.desks[worker.desk()];
        desk.tasks.push_back(task);
        if desk.woken || process.paused {
            return;
        }
        desk.woken = true;
        let life = process.life;
        let late = self.dice.chance(self.scenario.lag);
        let delay = if late {
            self.dice.between(1, self.scenario.lag_max)
        } else {
            0
        };
        self.schedule(
            delay,
            Event::Work {
                process: place,
                life,
                worker,
            },
        );
    }

    /// Tells the keeper and all registers, each at its desk.
    pub(crate) fn put_to_all(
        &mut self,
        place: usize,
        keeper: Option<attachment::Input>,
        input: &register::Input,
    ) {
        if let Some(keeper) = keeper {
            self.put(place, Worker::Keeper, Task::Keeper(keeper));
        }
        for shard in 0..self.scenario.shards {
            let task = Task::Register(input.clone());
            self.put(place, Worker::Register(shard), task);
        }
    }

    /// A worker does what lies on its desk.
    pub(crate) fn work(&mut self, place: usize, life: u64, worker: Worker) -> Result<(), String> {
        let process = &mut self.processes[place];
        if process.life != life {
            return Ok(());
        }
        let running = process.running.as_mut().ok_or("who is down works not")?;
        let desk = &mut running.desks[worker.desk()];
        desk.woken = false;
        if process.paused {
            return Ok(());
        }
        for task in std::mem::take(&mut desk.tasks) {
            if self.processes[place].life != life {
                return Ok(());
            }
            match (task, worker) {
                (Task::Keeper(input), _) => self.step_keeper(place, input)?,
                (Task::Client(session, question), _) => self.serve(place, session, &question),
                (Task::Register(input), Worker::Register(shard)) => {
                    self.step_register(place, shard, input)?;
                }
                (Task::Register(_), _) => return Err("a register's task went astray".to_owned()),
            }
        }
        Ok(())
    }

    /// The process is paused: it does nothing, though its disk goes on with what it was given.
    pub(crate) fn pause(&mut self, place: usize) {
        self.trace(|_| format!("{} is paused", rank(place)));
        self.tally.count("pause");
        self.processes[place].paused = true;
    }

    /// A pause is over: every worker looks at its desk, in any order.
    pub(crate) fn wake(&mut self, place: usize, life: u64) {
        let process = &mut self.processes[place];
        if process.life != life || !process.paused {
            return;
        }
        self.trace(|_| format!("{} wakes", rank(place)));
        self.processes[place].paused = false;
        for worker in Worker::all(self.scenario.shards) {
            let delay = self.dice.between(0, self.scenario.lag_max);
            let process = place;
            self.schedule(
                delay,
                Event::Work {
                    process,
                    life,
                    worker,
                },
            );
        }
        self.read_on(place);
        for other in (0..self.processes.len()).filter(|&other| other != place) {
            self.connect_soon(place, other);
        }
    }
}
