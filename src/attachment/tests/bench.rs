//! One keeper that the tests lead step by step, and that they speak to as its clients and peers.

use super::{fence_of, rank};
use crate::attachment::{AttachmentId, AttachmentKeeper, Config, Input, Output};
use crate::domain::{
    ATTACH_SHARD, Answer, Attach, AttachKind, AttachRefusal, Fence, Holder, Incarnation, JoinKey,
    Mode, OperationId, OwnerId, Question, Reply, Request, RequestId, Tag,
};

pub(super) const EXCLUSIVE: AttachKind = AttachKind::Exclusive { join: None };
pub(super) const KEYED: AttachKind = AttachKind::Exclusive {
    join: Some(JoinKey([1; 32])),
};

/// The keeper of process 1 in its incarnation 3, with one register, and what it has put out since
/// the last look.
pub(super) struct Bench {
    pub(super) keeper: AttachmentKeeper,
    out: Vec<Output>,
}

pub(super) fn attach(owner: u8, kind: AttachKind) -> Attach {
    Attach {
        owner: OwnerId([owner; 16]),
        kind,
        take_over: false,
        continues: None,
    }
}

pub(super) fn id(sequence: u64, round: u8) -> RequestId {
    RequestId {
        operation: OperationId {
            coordinator: rank(1),
            incarnation: Incarnation(3),
            shard: ATTACH_SHARD,
            sequence,
        },
        round,
    }
}

/// What this keeper's attach of this number opens.
pub(super) fn own(generation: u64, owner: u8, sequence: u64) -> Fence {
    let tag = Tag {
        coordinator: rank(1),
        incarnation: Incarnation(3),
        sequence,
    };
    let owner = OwnerId([owner; 16]);
    fence_of(generation, Mode::Exclusive { owner, tag })
}

impl Bench {
    pub(super) fn new(processes: u8) -> Self {
        let keeper = AttachmentKeeper::new(Config {
            own: rank(1),
            processes,
            incarnation: Incarnation(3),
            fence: Fence::INITIAL,
            shards: 1,
        });
        let out = Vec::new();
        Self { keeper, out }
    }

    pub(super) fn step(&mut self, input: Input) {
        self.keeper.step(input, &mut self.out);
    }

    pub(super) fn attach(&mut self, number: u64, attach: Attach) {
        self.step(Input::Attach {
            id: AttachmentId(number),
            attach,
            client: format!("client {number}"),
            now: number,
        });
    }

    pub(super) fn answer(&mut self, from: u8, id: RequestId, answer: Answer) {
        let reply = Reply { id, answer };
        let from = rank(from);
        self.step(Input::Reply { from, reply });
    }

    pub(super) fn heard(&mut self, from: u8, sequence: u64, fence: Fence, holders: &[Holder]) {
        let holders = holders.to_vec();
        self.answer(from, id(sequence, 0), Answer::Fence { fence, holders });
    }

    /// The accepted fence becomes stable.
    pub(super) fn complete(&mut self) {
        let fence = self.keeper.accepted();
        self.step(Input::Recorded { fence });
        let generation = fence.generation;
        self.step(Input::Drained {
            shard: 0,
            generation,
        });
        assert_eq!(self.keeper.fence(), fence);
    }

    /// In a cluster of three: the client is attached under a generation of its own.
    pub(super) fn hold(&mut self, number: u64, attach: Attach) -> Fence {
        let fence = self.keeper.fence();
        self.attach(number, attach);
        self.heard(2, number, fence, &[]);
        self.complete();
        self.answer(2, id(number, 1), Answer::Opened);
        let fence = self.keeper.fence();
        let id = AttachmentId(number);
        assert!(self.out().contains(&Output::Granted { id, fence }));
        fence
    }

    pub(super) fn out(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.out)
    }

    /// What has become of clients, and nothing else.
    pub(super) fn outcomes(&mut self) -> Vec<Output> {
        let mut out = self.out();
        out.retain(|output| {
            matches!(
                output,
                Output::Granted { .. } | Output::Refused { .. } | Output::Fenced { .. }
            )
        });
        out
    }
}

pub(super) fn asks(to: u8, id: RequestId, authority: Fence, question: Question) -> Output {
    let request = Request {
        id,
        authority,
        question,
    };
    let to = rank(to);
    Output::Request { to, request }
}

pub(super) fn refused(number: u64, refusal: AttachRefusal) -> Output {
    let id = AttachmentId(number);
    Output::Refused { id, refusal }
}
