//! What all operations of a register have in common: names, stamps, and whom to ask.

use crate::domain::{
    Extent, Fence, Generation, Incarnation, Mode, OperationId, Question, Rank, Request, RequestId,
    SectorRange, Stamp,
};

use super::Output;
use super::quorum::{Ranks, majority};
use super::token::StorePurpose;

/// The bounds of a register, and its place in the cluster.
#[derive(Copy, Clone, Debug)]
pub struct Config {
    /// This process.
    pub own: Rank,
    /// How many processes there are, this one included: 1 to 254.
    pub processes: u8,
    /// This start of the process's store; durable and never used before.
    pub incarnation: Incarnation,
    /// The fence that the process's store has on record.
    pub fence: Fence,
    /// Which of the process's registers this is; replies find it by that.
    pub shard: u8,
    /// How many operations may wait for sectors that others are busy with.
    pub queue_max: usize,
}

/// A piece of an operation: the whole of it, as a rule.
#[derive(Copy, Clone, Debug)]
pub(super) struct Piece {
    /// Names the piece in all of its messages.
    pub(super) sequence: u64,
    /// The broadcast under way.
    pub(super) round: u8,
    /// The sectors; it becomes shorter where a majority's answers do not reach its end.
    pub(super) range: SectorRange,
    /// The fence of the attachment that the operation is of: every request says it.
    pub(super) authority: Fence,
}

impl Piece {
    /// The generation that it stores and settles under.
    pub(super) fn generation(self) -> Generation {
        self.authority.generation
    }
}

/// What the operations of one register share.
#[derive(Debug)]
pub(super) struct Coordinator {
    config: Config,
    next_sequence: u64,
    /// The highest timestamp that this incarnation has used, under whatever generation.
    timestamp: u64,
    heals: usize,
    connected: Ranks,
    /// Those of the connected whose answers are worth waiting for.
    awaited: Ranks,
}

/// The most damaged copies that are being healed at a time. Others stay until they are read again.
const HEALS_MAX: usize = 64;

impl Coordinator {
    /// # Panics
    /// When the own rank is none of the processes'.
    pub(super) fn new(config: Config) -> Self {
        assert!(
            config.own.number() <= config.processes && config.processes <= Rank::MAX,
            "the own rank is one of the processes'"
        );
        Self {
            config,
            next_sequence: 0,
            timestamp: 0,
            heals: 0,
            connected: Ranks::default(),
            awaited: Ranks::default(),
        }
    }

    pub(super) fn own(&self) -> Rank {
        self.config.own
    }

    pub(super) fn processes(&self) -> u8 {
        self.config.processes
    }

    pub(super) fn majority(&self) -> u8 {
        majority(self.config.processes)
    }

    /// Every process but this one.
    pub(super) fn others(&self) -> impl Iterator<Item = Rank> + use<> {
        let own = self.config.own;
        Rank::all(self.config.processes).filter(move |&rank| rank != own)
    }

    /// Whether the rank is another process's.
    pub(super) fn is_peer(&self, rank: Rank) -> bool {
        rank != self.config.own && rank.number() <= self.config.processes
    }

    /// A piece with a sequence number that was never used.
    pub(super) fn piece(&mut self, range: SectorRange, authority: Fence) -> Piece {
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        Piece {
            sequence,
            round: 0,
            range,
            authority,
        }
    }

    /// The sequence number of the next piece; those that were begun have lower ones.
    pub(super) fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    pub(super) fn operation_id(&self, sequence: u64) -> OperationId {
        OperationId {
            coordinator: self.config.own,
            incarnation: self.config.incarnation,
            shard: self.config.shard,
            sequence,
        }
    }

    /// A stamp of this authority, above every one that this incarnation has made here and above
    /// the timestamp `seen`, the highest that another has made under the same generation.
    ///
    /// # Panics
    /// When the authority is exclusive and another process's or start's: two that both count for
    /// themselves would make one stamp of a generation twice, or out of order (rule 6).
    pub(super) fn next_stamp(&mut self, authority: Fence, seen: u64) -> Stamp {
        if let Mode::Exclusive { tag, .. } = authority.mode {
            assert!(
                tag.coordinator == self.config.own && tag.incarnation == self.config.incarnation,
                "an exclusive generation is written under by the start that opened it"
            );
        }
        let timestamp = seen.max(self.timestamp).checked_add(1);
        self.timestamp = timestamp.expect("2^64 writes take longer than anything lasts");
        Stamp {
            settled: authority.generation,
            generation: authority.generation,
            timestamp: self.timestamp,
            rank: Some(self.config.own),
            incarnation: self.config.incarnation,
        }
    }

    /// Sends a question of the piece's present round to one process.
    pub(super) fn ask(&self, to: Rank, piece: Piece, question: Question, out: &mut Vec<Output>) {
        let id = RequestId {
            operation: self.operation_id(piece.sequence),
            round: piece.round,
        };
        let request = Request {
            id,
            authority: piece.authority,
            question,
        };
        out.push(Output::Request { to, request });
    }

    /// Has the own copy of a piece stored.
    pub(super) fn store(piece: Piece, extents: Vec<Extent>, out: &mut Vec<Output>) {
        out.push(Output::Store {
            token: StorePurpose::Operation(piece.sequence).token(),
            extents,
        });
    }

    /// There is a connection to the process.
    pub(super) fn connected(&mut self, rank: Rank) {
        self.connected.insert(rank);
        self.awaited.insert(rank);
    }

    /// There is none any more.
    pub(super) fn disconnected(&mut self, rank: Rank) {
        self.connected.remove(rank);
        self.awaited.remove(rank);
    }

    /// The process has answered something, so it will answer more.
    pub(super) fn heard_from(&mut self, rank: Rank) {
        if self.connected.contains(rank) {
            self.awaited.insert(rank);
        }
    }

    /// The process has kept something waiting for too long: nothing waits for it any more before
    /// it has answered something.
    pub(super) fn give_up_on(&mut self, rank: Rank) {
        self.awaited.remove(rank);
    }

    /// Whether a process that is worth waiting for has not answered.
    pub(super) fn awaits_more(&self, has_answered: impl Fn(Rank) -> bool) -> bool {
        self.others()
            .any(|rank| self.awaited.contains(rank) && !has_answered(rank))
    }

    /// Takes one of the places for healing a damaged copy, if one is free.
    pub(super) fn begin_heal(&mut self) -> bool {
        let free = self.heals < HEALS_MAX;
        self.heals += usize::from(free);
        free
    }

    /// Gives the place back.
    pub(super) fn end_heal(&mut self) {
        self.heals -= 1;
    }
}
