//! A register as the keeper sees it.

use std::collections::VecDeque;

use crate::attachment::Input;
use crate::domain::{Fence, Generation};

/// A register as the keeper sees it: late to drain, and with fences of its own from its peers.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) accepted: Fence,
    pub(super) stable: Fence,
    /// From the keeper, in order.
    pub(super) inbox: VecDeque<ShardInput>,
    /// A drain that is not yet complete.
    pub(super) draining: Option<Generation>,
    /// To the keeper, in order.
    pub(super) outbox: VecDeque<Input>,
}

#[derive(Debug)]
pub(super) enum ShardInput {
    Raise(Fence),
    Stable(Fence),
}

impl Shard {
    pub(super) fn new(fence: Fence) -> Self {
        Self {
            accepted: fence,
            stable: fence,
            inbox: VecDeque::new(),
            draining: None,
            outbox: VecDeque::new(),
        }
    }

    /// Older generations are refused from now on; as they were before if the number is the same.
    pub(super) fn accept(&mut self, fence: Fence) {
        if fence.generation > self.accepted.generation {
            self.draining = Some(fence.generation);
        }
        self.accepted = fence;
    }

    /// A peer's word for a newer fence.
    pub(super) fn hear(&mut self, fence: Fence) {
        self.accept(fence);
        self.outbox.push_back(Input::Raise { fence });
    }

    pub(super) fn take(&mut self) {
        match self.inbox.pop_front() {
            Some(ShardInput::Raise(fence))
                if fence.generation >= self.accepted.generation && fence != self.accepted =>
            {
                self.accept(fence);
            }
            Some(ShardInput::Stable(fence)) if fence == self.accepted => {
                assert_eq!(self.draining, None, "a fence is stable once all is drained");
                self.stable = fence;
            }
            _ => {}
        }
    }

    pub(super) fn drain(&mut self) {
        if let Some(generation) = self.draining.take() {
            let shard = 0;
            self.outbox.push_back(Input::Drained { shard, generation });
        }
    }
}
