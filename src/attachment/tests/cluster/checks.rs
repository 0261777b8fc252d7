//! What must hold of the cluster whenever a fence becomes stable or a client hears something.

use super::{Cluster, KEYED, Process, ShardInput, State, rank};
use crate::attachment::AttachmentId;
use crate::domain::{AttachKind, AttachRefusal, Fence, Generation, Incarnation, Mode, OwnerId};

impl Cluster {
    pub(super) fn end(&mut self, id: AttachmentId, state: State) {
        let client = self.clients.get_mut(&id).unwrap();
        let before = std::mem::replace(&mut client.state, state);
        let what = match &client.state {
            State::Refused(AttachRefusal::Held(_)) => "held",
            State::Refused(AttachRefusal::Elsewhere { .. }) => "elsewhere",
            State::Refused(AttachRefusal::Contended) => "contended",
            State::Refused(AttachRefusal::Fenced { .. }) => "came between",
            State::Fenced(by) if matches!(before, State::Granted(fence) if fence == *by) => {
                "released"
            }
            State::Fenced(_) => "fenced",
            _ => "",
        };
        *self.tally.entry(what).or_default() += 1;
        match client.state {
            State::Fenced(_) => assert!(matches!(before, State::Granted(_)), "{before:?}"),
            _ => assert_eq!(before, State::Waiting),
        }
    }

    pub(super) fn became_stable(&mut self, place: usize, fence: Fence) {
        let process = &mut self.processes[place];
        assert_eq!(process.durable, fence, "its record comes first");
        process.stable.insert(name(fence));
        for shard in &mut process.shards {
            shard.inbox.push_back(ShardInput::Stable(fence));
        }
        self.check_continued();
    }

    pub(super) fn was_granted(&mut self, place: usize, id: AttachmentId, fence: Fence) {
        let client = self.clients.get_mut(&id).unwrap();
        assert_eq!(client.state, State::Waiting);
        client.state = State::Granted(fence);
        let (attach, since) = (client.attach, client.since);
        let joins = attach.kind == KEYED || attach.kind == AttachKind::ReadOnly;
        assert!(joins || fence.generation >= since, "it was overtaken");
        assert_eq!(self.fence(place), fence, "its own process has it stable");
        assert!(
            self.is_open(name(fence)),
            "{fence:?} is granted, but not open"
        );
        *self.tally.entry("granted").or_default() += 1;
        if self.granted.contains_key(&fence.generation) && attach.kind == KEYED {
            *self.tally.entry("joined").or_default() += 1;
        }
        let other = *self.granted.entry(fence.generation).or_insert(fence);
        assert_eq!(other, fence, "one number is granted twice");
        let may_run = match fence.mode {
            Mode::Shared => !matches!(attach.kind, AttachKind::Exclusive { .. }),
            Mode::Reading { .. } => attach.kind == AttachKind::ReadOnly,
            Mode::Exclusive { tag, .. } => {
                let incarnation = Incarnation(self.processes[place].incarnation);
                let here = (tag.coordinator, tag.incarnation) == (rank(place), incarnation);
                here && attach.kind != AttachKind::Shared
            }
        };
        assert!(may_run, "{id:?} is granted {fence:?} at {place}");
        if matches!(fence.mode, Mode::Reading { .. }) {
            *self.tally.entry("only read").or_default() += 1;
        }
        if let (AttachKind::Exclusive { .. }, Some(since)) = (attach.kind, attach.continues) {
            *self.tally.entry("continued").or_default() += 1;
            self.continued.push((since, fence.generation, attach.owner));
            self.check_continued();
        }
    }

    pub(super) fn newest_open(&self) -> Generation {
        let fences = self.processes.iter().flat_map(|process| &process.stable);
        let open = fences.filter(|fence| self.is_open(**fence));
        open.map(|fence| fence.0).max().unwrap_or_default()
    }

    /// Whether a majority had the fence stable, each at some time.
    fn is_open(&self, fence: (Generation, Option<OwnerId>, u64)) -> bool {
        let stable = |process: &&Process| process.stable.contains(&fence);
        self.processes.iter().filter(stable).count() > self.size() / 2
    }

    /// No other owner's generation was ever open between the ends of a grant that continued.
    fn check_continued(&self) {
        for (since, until, owner) in &self.continued {
            for process in &self.processes {
                for fence in &process.stable {
                    let between = fence.0 > *since && fence.0 < *until;
                    let foreign = fence.1 != Some(*owner);
                    let broken = between && foreign && self.is_open(*fence);
                    assert!(!broken, "{fence:?} came between {since:?} and {until:?}");
                }
            }
        }
    }
}

pub(super) fn name(fence: Fence) -> (Generation, Option<OwnerId>, u64) {
    let tag = match fence.mode {
        Mode::Shared => 0,
        Mode::Reading { .. } => u64::MAX,
        Mode::Exclusive { tag, .. } => {
            let start = u64::from(tag.coordinator.number()) << 32 | u64::from(tag.incarnation.0);
            start << 24 | tag.sequence
        }
    };
    (fence.generation, fence.owner(), tag)
}
