//! A client, as the client library keeps its rules.
//!
//! Its attachment is bound to a session with one process. When that is lost it attaches at another
//! one, going on from the generation that it had; and only where its own owner has opened the next
//! one does it repeat what it was not answered, before anything else of those sectors. Whoever is
//! fenced never repeats anything. Two changes of one sector are never under way at once. Gateways of a
//! device repeat nothing; see `device`.

use atdd::domain::{AttachKind, Generation, JoinKey, OwnerId};

use crate::scenario::Scenario;

/// Asks for one thing after another.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) sort: Sort,
    /// Operations that it has not begun.
    pub(crate) left: u64,
    pub(crate) state: State,
    /// Fresh at each new attach, kept when it fails over.
    pub(crate) owner: OwnerId,
    /// The generation that it was attached under.
    pub(crate) continues: Option<Generation>,
    /// A gateway's first generation of those that it went on from, one after the other.
    pub(crate) unbroken: Option<Generation>,
    /// The session in which it was.
    pub(crate) attached_in: Option<u64>,
    /// The operations that it waits for, in the order in which they were begun.
    pub(crate) unanswered: Vec<usize>,
    /// What a planted bug repeats later than it should.
    pub(crate) postponed: Vec<usize>,
    /// After so many operations it detaches.
    pub(crate) stay: u64,
    /// How often in a row its attach was refused.
    pub(crate) refusals: u32,
    /// Where it was sent.
    pub(crate) elsewhere: Option<usize>,
    /// When it goes on, by the number of that thought; 0 for never.
    pub(crate) turn: u64,
}

/// How a client uses the disk.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    /// Through this process, without an attachment.
    Classic { place: usize },
    /// Alone.
    Host,
    /// Alone but for the other gateway of the same device.
    Gateway { device: u8 },
    /// Beside others.
    Sharing,
    /// Without ever writing.
    Reader,
}

/// How far a client is with its attachment.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// It has no session.
    Away,
    Attaching(u64),
    Attached(u64),
    Detaching(u64),
    Finished,
}

impl State {
    /// The session that it uses.
    pub(crate) fn session(self) -> Option<u64> {
        match self {
            Self::Attaching(session) | Self::Attached(session) | Self::Detaching(session) => {
                Some(session)
            }
            Self::Away | Self::Finished => None,
        }
    }
}

impl Client {
    fn new(sort: Sort, operations: u64) -> Self {
        Self {
            sort,
            left: operations,
            state: State::Away,
            owner: OwnerId([0; 16]),
            continues: None,
            unbroken: None,
            attached_in: None,
            unanswered: Vec::new(),
            postponed: Vec::new(),
            stay: 0,
            refusals: 0,
            elsewhere: None,
            turn: 0,
        }
    }

    /// Everyone who uses the disk.
    pub(crate) fn crowd(scenario: &Scenario) -> Vec<Self> {
        let crowd = &scenario.crowd;
        let mut sorts = Vec::new();
        for place in 0..usize::from(scenario.processes) {
            sorts.extend((0..crowd.classic).map(|_| Sort::Classic { place }));
        }
        sorts.extend((0..crowd.hosts).map(|_| Sort::Host));
        for device in 0..crowd.devices {
            sorts.extend([Sort::Gateway { device }; 2]);
        }
        sorts.extend((0..crowd.sharing).map(|_| Sort::Sharing));
        sorts.extend((0..crowd.readers).map(|_| Sort::Reader));
        let operations = scenario.operations_per_client;
        let clients = sorts.into_iter().map(|sort| Self::new(sort, operations));
        clients.collect()
    }

    /// Whether it wants nothing more.
    pub(crate) fn is_finished(&self) -> bool {
        match self.sort {
            Sort::Classic { .. } => self.left == 0 && self.unanswered.is_empty(),
            _ => self.state == State::Finished,
        }
    }

    pub(crate) fn is_classic_at(&self, at: usize) -> bool {
        matches!(self.sort, Sort::Classic { place } if place == at)
    }

    /// Whether what it has under way keeps another one's changes waiting: they are one device.
    pub(crate) fn is_one_with(&self, other: &Self) -> bool {
        matches!(self.sort, Sort::Gateway { .. }) && self.sort == other.sort
    }
}

impl Sort {
    pub(crate) fn kind(self) -> AttachKind {
        match self {
            Self::Host => AttachKind::Exclusive { join: None },
            Self::Gateway { device } => {
                let join = Some(JoinKey([device; 32]));
                AttachKind::Exclusive { join }
            }
            Self::Sharing | Self::Classic { .. } => AttachKind::Shared,
            Self::Reader => AttachKind::ReadOnly,
        }
    }
}
