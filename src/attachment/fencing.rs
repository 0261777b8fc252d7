//! The replica's side: which fence this process has accepted, which one is stable, and who waits
//! for that.

use std::collections::BTreeSet;

use crate::domain::{Fence, Generation, OwnerId, Rank, RequestId};

use super::Output;

/// The fence of one process, as it answers for it to every asker, itself included.
#[derive(Debug)]
pub(super) struct Fencing {
    shards: u8,
    /// The newest fence that is stable.
    stable: Fence,
    /// A newer one that is on its way to be.
    raise: Option<Raise>,
    /// No fence above this number that was ever accepted here had another owner than the accepted
    /// one has.
    foreign: Generation,
    /// Whoever is answered when the raise is complete. Each entry is a request that its asker has
    /// under way here, so the credit that peers are granted bounds them, and the attaches of this
    /// process's clients.
    waiting: Vec<Waiting>,
    responses: Vec<Response>,
}

/// What is missing before the accepted fence is stable.
#[derive(Debug)]
struct Raise {
    fence: Fence,
    /// The registers that may still have something unstable of older generations.
    undrained: BTreeSet<u8>,
    recorded: bool,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
struct Waiting {
    from: Rank,
    id: RequestId,
    awaited: Awaited,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Awaited {
    /// Any fence that is stable.
    Fence,
    /// That the accepted fence is; it is the one to be opened.
    Open,
}

/// What an asker is answered.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Response {
    /// The asker; this process itself for its own attaches.
    pub(super) to: Rank,
    /// Its request.
    pub(super) id: RequestId,
    /// The answer.
    pub(super) verdict: Verdict,
}

/// The fence's part of an answer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// This fence is stable, and no newer one is accepted.
    Fence(Fence),
    /// The fence that was to be opened is stable.
    Opened,
    /// It will not be: this fence stands against it.
    Refused(Fence),
}

impl Fencing {
    /// The process's fence as its store has it on record, so it is stable. Whose the ones before it
    /// were is forgotten; another owner's, as far as is known.
    pub(super) fn new(fence: Fence, shards: u8) -> Self {
        Self {
            shards,
            stable: fence,
            raise: None,
            foreign: before(fence.generation),
            waiting: Vec::new(),
            responses: Vec::new(),
        }
    }

    /// Answers for the fence once it is stable (rule 3).
    pub(super) fn ask(&mut self, from: Rank, id: RequestId) {
        self.answer_when_stable(from, id, Awaited::Fence);
    }

    /// Accepts this fence if nothing stands against it, and answers once it is stable (rules 3 and
    /// 4). One that continues generation `continues` is refused where another owner's was accepted
    /// since (rule 5).
    pub(super) fn open(
        &mut self,
        from: Rank,
        id: RequestId,
        fence: Fence,
        continues: Option<Generation>,
        out: &mut Vec<Output>,
    ) {
        let accepted = self.accepted();
        let rival = fence.generation == accepted.generation && fence != accepted;
        let between = continues.is_some_and(|since| self.newest_foreign(fence.owner()) > since);
        if fence.generation < accepted.generation || rival || between {
            self.respond(from, id, Verdict::Refused(accepted));
            return;
        }
        if fence != accepted {
            self.accept(fence, out);
        }
        self.answer_when_stable(from, id, Awaited::Open);
    }

    /// Takes over a newer fence that others speak of (rule 3). One of the same number as the
    /// accepted one is known to be open, since it comes with a register's request: what was
    /// accepted here is a failed open, and makes way.
    pub(super) fn raise(&mut self, fence: Fence, out: &mut Vec<Output>) {
        if fence.generation >= self.accepted().generation && fence != self.accepted() {
            self.accept(fence, out);
        }
    }

    /// A register has nothing unstable left of the generations before this one.
    pub(super) fn drained(&mut self, shard: u8, generation: Generation, out: &mut Vec<Output>) {
        if let Some(raise) = &mut self.raise
            && raise.fence.generation == generation
        {
            raise.undrained.remove(&shard);
            self.complete(out);
        }
    }

    /// The fence is durable.
    pub(super) fn recorded(&mut self, fence: Fence, out: &mut Vec<Output>) {
        if let Some(raise) = &mut self.raise
            && raise.fence == fence
        {
            raise.recorded = true;
            self.complete(out);
        }
    }

    /// Answers this request no more, if it still waits.
    pub(super) fn forget(&mut self, id: RequestId) {
        self.waiting.retain(|waiting| waiting.id != id);
    }

    /// The answers that have become due.
    pub(super) fn take_responses(&mut self) -> Vec<Response> {
        std::mem::take(&mut self.responses)
    }

    /// The newest fence that is accepted: everything older is refused.
    pub(super) fn accepted(&self) -> Fence {
        self.raise.as_ref().map_or(self.stable, |raise| raise.fence)
    }

    /// The newest fence that is stable.
    pub(super) fn stable(&self) -> Fence {
        self.stable
    }

    /// The newest number that may have been accepted here for anyone but this owner. It is not
    /// enough to look at the accepted fence: it may be one of the owner's that came over others'
    /// word, without having been held against the one before it.
    fn newest_foreign(&self, owner: Option<OwnerId>) -> Generation {
        if self.accepted().owner() == owner {
            self.foreign
        } else {
            self.accepted().generation
        }
    }

    fn accept(&mut self, fence: Fence, out: &mut Vec<Output>) {
        let accepted = self.accepted();
        if fence.owner() != accepted.owner() {
            self.foreign = accepted.generation.min(before(fence.generation));
        }
        // Registers that drained to another fence of this number have refused everything older
        // since then.
        let undrained = match self.raise.take() {
            Some(raise) if raise.fence.generation == fence.generation => raise.undrained,
            None if accepted.generation == fence.generation => BTreeSet::new(),
            _ => (0..self.shards).collect(),
        };
        self.raise = Some(Raise {
            fence,
            undrained,
            recorded: false,
        });
        out.push(Output::Raise { fence });
        out.push(Output::Record { fence });
        let is_open = |waiting: &mut Waiting| waiting.awaited == Awaited::Open;
        let overtaken: Vec<Waiting> = self.waiting.extract_if(.., is_open).collect();
        for waiting in overtaken {
            self.respond(waiting.from, waiting.id, Verdict::Refused(fence));
        }
    }

    fn complete(&mut self, out: &mut Vec<Output>) {
        let is_complete = |raise: &mut Raise| raise.recorded && raise.undrained.is_empty();
        let Some(raise) = self.raise.take_if(is_complete) else {
            return;
        };
        self.stable = raise.fence;
        out.push(Output::Stable { fence: raise.fence });
        for waiting in std::mem::take(&mut self.waiting) {
            self.answer_when_stable(waiting.from, waiting.id, waiting.awaited);
        }
    }

    /// A request that is repeated while it waits is answered once.
    fn answer_when_stable(&mut self, from: Rank, id: RequestId, awaited: Awaited) {
        let waiting = Waiting { from, id, awaited };
        if self.raise.is_none() {
            let verdict = match awaited {
                Awaited::Fence => Verdict::Fence(self.stable),
                Awaited::Open => Verdict::Opened,
            };
            self.respond(from, id, verdict);
        } else if !self.waiting.contains(&waiting) {
            self.waiting.push(waiting);
        }
    }

    fn respond(&mut self, to: Rank, id: RequestId, verdict: Verdict) {
        self.responses.push(Response { to, id, verdict });
    }
}

fn before(generation: Generation) -> Generation {
    Generation(generation.0.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attachment::tests::{exclusive, rank, request, shared};

    struct Bench {
        fencing: Fencing,
        out: Vec<Output>,
    }

    impl Bench {
        /// Two registers, and this fence on record.
        fn new(fence: Fence) -> Self {
            Self {
                fencing: Fencing::new(fence, 2),
                out: Vec::new(),
            }
        }

        /// What process 2 is answered at once when it opens the fence.
        fn open(&mut self, number: u64, fence: Fence, continues: Option<u64>) -> Vec<Verdict> {
            let continues = continues.map(Generation);
            let id = request(2, number);
            self.fencing
                .open(rank(2), id, fence, continues, &mut self.out);
            self.verdicts()
        }

        fn raise(&mut self, fence: Fence) {
            self.fencing.raise(fence, &mut self.out);
        }

        fn drained(&mut self, shard: u8, generation: u64) {
            let generation = Generation(generation);
            self.fencing.drained(shard, generation, &mut self.out);
        }

        fn recorded(&mut self, fence: Fence) {
            self.fencing.recorded(fence, &mut self.out);
        }

        /// Makes the accepted fence stable.
        fn complete(&mut self) {
            let fence = self.fencing.accepted();
            self.drained(0, fence.generation.0);
            self.drained(1, fence.generation.0);
            self.recorded(fence);
            assert_eq!(self.fencing.stable(), fence);
        }

        fn verdicts(&mut self) -> Vec<Verdict> {
            let responses = self.fencing.take_responses();
            responses.into_iter().map(|it| it.verdict).collect()
        }

        fn out(&mut self) -> Vec<Output> {
            std::mem::take(&mut self.out)
        }
    }

    #[test]
    fn an_open_is_acknowledged_when_recorded_and_drained_everywhere() {
        let fence = exclusive(1, 2, 7);
        for last in 0..3 {
            let mut bench = Bench::new(Fence::INITIAL);
            assert_eq!(bench.open(0, fence, None), []);
            assert_eq!(
                bench.out(),
                [Output::Raise { fence }, Output::Record { fence }]
            );
            for step in [last + 1, last + 2, last] {
                assert_eq!(bench.verdicts(), []);
                assert_eq!(bench.out(), []);
                assert_eq!(bench.fencing.stable(), Fence::INITIAL);
                match step % 3 {
                    2 => bench.recorded(fence),
                    shard => bench.drained(shard, 1),
                }
            }
            assert_eq!(bench.verdicts(), [Verdict::Opened]);
            assert_eq!(bench.out(), [Output::Stable { fence }]);
        }
    }

    #[test]
    fn what_is_complete_of_an_older_raise_does_not_count() {
        let (older, newer) = (exclusive(1, 2, 7), exclusive(2, 3, 8));
        let mut bench = Bench::new(Fence::INITIAL);
        bench.raise(older);
        bench.drained(0, 1);
        bench.raise(newer);
        bench.drained(1, 1);
        bench.recorded(older);
        bench.recorded(newer);
        bench.drained(0, 2);
        assert_eq!(bench.fencing.stable(), Fence::INITIAL);
        bench.drained(1, 2);
        assert_eq!(bench.fencing.stable(), newer);
    }

    #[test]
    fn nothing_is_opened_against_the_accepted_fence() {
        let fence = exclusive(3, 2, 7);
        let mut bench = Bench::new(fence);
        let refused = [Verdict::Refused(fence)];
        assert_eq!(bench.open(0, exclusive(2, 2, 7), None), refused);
        assert_eq!(bench.open(1, exclusive(3, 3, 7), None), refused);
        assert_eq!(bench.open(2, shared(3), None), refused);
        assert_eq!(bench.open(3, fence, None), [Verdict::Opened]);
        assert_eq!(bench.out(), []);
    }

    #[test]
    fn whoever_waits_for_an_overtaken_fence_is_refused() {
        let (older, newer) = (shared(1), exclusive(2, 3, 8));
        let mut bench = Bench::new(Fence::INITIAL);
        bench.open(0, older, None);
        bench.fencing.ask(rank(3), request(3, 0));
        let refused = bench.open(1, newer, None);
        assert_eq!(refused, [Verdict::Refused(newer)]);
        bench.complete();
        assert_eq!(bench.verdicts(), [Verdict::Fence(newer), Verdict::Opened]);
    }

    #[test]
    fn a_request_that_is_repeated_waits_once_and_is_answered_again_later() {
        let fence = exclusive(1, 2, 7);
        let mut bench = Bench::new(Fence::INITIAL);
        for _ in 0..3 {
            assert_eq!(bench.open(0, fence, None), []);
            bench.fencing.ask(rank(3), request(3, 0));
        }
        bench.fencing.ask(rank(3), request(3, 1));
        bench.fencing.forget(request(3, 1));
        bench.complete();
        assert_eq!(bench.verdicts(), [Verdict::Opened, Verdict::Fence(fence)]);
        assert_eq!(bench.open(0, fence, None), [Verdict::Opened]);
    }

    #[test]
    fn an_owner_goes_on_only_if_nobody_came_in_between() {
        let other = exclusive(6, 3, 8);
        let mut bench = Bench::new(other);
        let refused = [Verdict::Refused(other)];
        assert_eq!(bench.open(0, exclusive(7, 2, 7), Some(5)), refused);
        assert_eq!(bench.open(1, exclusive(7, 2, 7), Some(6)), []);
        bench.complete();
        assert_eq!(bench.verdicts(), [Verdict::Opened]);
        assert_eq!(bench.open(2, exclusive(9, 2, 7), Some(7)), []);
        bench.complete();
        assert_eq!(bench.verdicts(), [Verdict::Opened]);
        bench.raise(shared(10));
        let refused = [Verdict::Refused(shared(10))];
        assert_eq!(bench.open(3, exclusive(11, 2, 7), Some(9)), refused);
    }

    /// An owner's fence that came over others' word stood for having been held against the one
    /// before it. So a client went on and repeated its writes though another had written since: its
    /// own open was refused there, was heard of by way of a register, and then was acknowledged.
    #[test]
    fn an_owners_fence_that_was_heard_of_does_not_hide_who_came_in_between() {
        let mut bench = Bench::new(exclusive(6, 3, 8));
        let heard = exclusive(7, 2, 7);
        bench.raise(heard);
        bench.complete();
        let refused = [Verdict::Refused(heard)];
        assert_eq!(bench.open(0, heard, Some(5)), refused);
        assert_eq!(bench.open(1, exclusive(8, 3, 7), Some(5)), refused);
        assert_eq!(bench.open(2, heard, Some(6)), [Verdict::Opened]);
    }

    #[test]
    fn after_a_restart_anybody_may_have_come_in_between() {
        let fence = exclusive(7, 2, 7);
        let mut bench = Bench::new(fence);
        let refused = [Verdict::Refused(fence)];
        assert_eq!(bench.open(0, fence, Some(5)), refused);
        assert_eq!(bench.open(1, exclusive(8, 3, 7), Some(5)), refused);
        assert_eq!(bench.open(2, fence, Some(6)), [Verdict::Opened]);
        assert_eq!(bench.open(3, exclusive(8, 3, 7), Some(7)), []);
    }

    #[test]
    fn a_failed_open_makes_way_for_the_fence_that_is_open() {
        let (failed, open) = (exclusive(4, 2, 7), exclusive(4, 3, 8));
        let mut bench = Bench::new(shared(3));
        bench.open(0, failed, None);
        bench.drained(0, 4);
        bench.raise(open);
        assert_eq!(bench.verdicts(), [Verdict::Refused(open)]);
        bench.recorded(failed);
        bench.recorded(open);
        assert_eq!(bench.fencing.stable(), shared(3));
        bench.drained(1, 4);
        assert_eq!(
            bench.fencing.stable(),
            open,
            "a register drains for a number"
        );
        bench.raise(failed);
        bench.recorded(failed);
        assert_eq!(bench.fencing.stable(), failed, "all had drained to it");
    }

    #[test]
    fn older_news_changes_nothing() {
        let mut bench = Bench::new(shared(3));
        bench.raise(exclusive(2, 2, 7));
        bench.raise(shared(3));
        bench.drained(0, 3);
        bench.recorded(shared(3));
        assert_eq!(bench.out(), []);
    }
}
