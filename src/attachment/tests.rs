//! Several keepers among one another, and what the tests beside the code have in common.

mod attaches;
mod bench;
mod cluster;
mod dice;
mod holders;
mod random;
mod readers;

use crate::domain::{
    ATTACH_SHARD, AttachKind, Fence, Generation, Holder, Incarnation, Mode, OperationId, OwnerId,
    Rank, RequestId, Tag,
};

pub(super) fn rank(number: u8) -> Rank {
    Rank::new(number).unwrap()
}

pub(super) fn fence_of(generation: u64, mode: Mode) -> Fence {
    Fence {
        generation: Generation(generation),
        mode,
    }
}

pub(super) fn shared(generation: u64) -> Fence {
    fence_of(generation, Mode::Shared)
}

/// An exclusive generation that this process opened for this owner.
pub(super) fn exclusive(generation: u64, coordinator: u8, owner: u8) -> Fence {
    let tag = Tag {
        coordinator: rank(coordinator),
        incarnation: Incarnation(1),
        sequence: generation,
    };
    let owner = OwnerId([owner; 16]);
    fence_of(generation, Mode::Exclusive { owner, tag })
}

/// A generation to read only, after an exclusive one of this owner.
pub(super) fn reading(generation: u64, owner: u8) -> Fence {
    let owner = OwnerId([owner; 16]);
    fence_of(generation, Mode::Reading { owner })
}

/// An attachment of this owner under this fence.
pub(super) fn holder(process: u8, owner: u8, fence: Fence) -> Holder {
    let kind = match fence.mode {
        Mode::Shared => AttachKind::Shared,
        Mode::Exclusive { .. } => AttachKind::Exclusive { join: None },
        Mode::Reading { .. } => AttachKind::ReadOnly,
    };
    Holder {
        process: rank(process),
        owner: OwnerId([owner; 16]),
        kind,
        generation: fence.generation,
        client: format!("client of {process}"),
        since: 0,
    }
}

/// Names a request of a process.
pub(super) fn request(coordinator: u8, sequence: u64) -> RequestId {
    RequestId {
        operation: OperationId {
            coordinator: rank(coordinator),
            incarnation: Incarnation(1),
            shard: ATTACH_SHARD,
            sequence,
        },
        round: 0,
    }
}
