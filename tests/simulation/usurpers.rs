//! Where planted bugs come in: who runs operations under which generation.

use atdd::attachment::{AttachmentId, Input};
use atdd::domain::{Answer, Attach, Fence, Mode, Question, Reply};
use atdd::register::{Outcome, RegisterError, Ticket};

use crate::bug::Bug;
use crate::front::Asker;
use crate::sessions;
use crate::world::{Message, World, rank};

/// An operation that goes on under another generation once that is stable.
pub(crate) struct Adopted {
    number: usize,
    asker: Asker,
    by: Fence,
}

impl World {
    /// Whether a keeper is told this. Of two opens of one number it hears only of the first.
    pub(crate) fn keeper_may_be_told(&mut self, place: usize, input: &Input) -> bool {
        let Input::Request { from, request } = input else {
            return true;
        };
        let accepted = self.running(place).keeper.accepted();
        let rival = request.authority != accepted
            && request.authority.generation == accepted.generation
            && matches!(request.question, Question::Open { .. });
        if self.bug != Some(Bug::GenerationGrantedTwice) || !rival {
            return true;
        }
        let (id, answer) = (request.id, Answer::Opened);
        self.send(place, from.place(), &Message::Reply(Reply { id, answer }));
        false
    }

    /// Whether a client that goes on gets the generation that it had, without any question.
    pub(crate) fn usurps(&mut self, place: usize, session: u64, attach: &Attach) -> bool {
        let client = &self.clients[self.session(session).client];
        let Some(before) = client.attached_in else {
            return false;
        };
        let before = self.session(before);
        let here = before.process == place;
        let goes_on = match self.bug {
            Some(Bug::GenerationKeptOverRestart) => {
                here && before.life != self.processes[place].life
            }
            Some(Bug::TwoCoordinatorsOfOneGeneration) => !here,
            _ => false,
        };
        let keeper = &self.running(place).keeper;
        let (fence, accepted) = (keeper.fence(), keeper.accepted());
        let same = fence.owner() == Some(attach.owner);
        let same = same && attach.continues == Some(fence.generation) && fence == accepted;
        if goes_on && same {
            self.adopt(place, sessions::attachment(session), fence);
            self.answer(session, sessions::Answer::Granted(fence));
        }
        goes_on && same
    }

    /// What a process takes an exclusive generation's fence for, as if that named neither the
    /// process nor the start that opened it: for its own.
    pub(crate) fn forge(&self, place: usize, fence: &mut Fence) {
        let forges = matches!(
            self.bug,
            Some(
                Bug::GenerationKeptOverRestart
                    | Bug::TwoCoordinatorsOfOneGeneration
                    | Bug::FencedCoordinatorAdopts
            )
        );
        if let (true, Mode::Exclusive { tag, .. }) = (forges, &mut fence.mode) {
            tag.coordinator = rank(place);
            tag.incarnation = self.processes[place].incarnation;
        }
    }

    /// An attachment goes on under this fence.
    pub(crate) fn adopt(&mut self, place: usize, id: AttachmentId, fence: Fence) {
        if let Some(served) = self.running(place).served.get_mut(&id.0) {
            served.fence = Some(fence);
        }
    }

    /// Whether a fence is not stable here, and the operation has to wait for that.
    pub(crate) fn must_wait(
        &mut self,
        place: usize,
        number: usize,
        session: u64,
        by: Fence,
    ) -> bool {
        let adopts = self.bug == Some(Bug::FencedCoordinatorAdopts);
        if !adopts || self.running(place).keeper.fence() == by {
            return false;
        }
        let asker = Asker::Session(session);
        let adopted = Adopted { number, asker, by };
        self.processes[place].lies.adopted.push(adopted);
        true
    }

    /// Whether an operation that was fenced is going to be done all the same.
    pub(crate) fn adopts(
        &mut self,
        place: usize,
        ticket: Ticket,
        outcome: &Result<Outcome, RegisterError>,
    ) -> bool {
        let Err(RegisterError::Fenced { by }) = *outcome else {
            return false;
        };
        if self.bug != Some(Bug::FencedCoordinatorAdopts) {
            return false;
        }
        let Some(asker) = self.askers.remove(&ticket) else {
            return false;
        };
        let number = self.history.number(ticket);
        let adopted = Adopted { number, asker, by };
        self.processes[place].lies.adopted.push(adopted);
        let keeper = &self.running(place).keeper;
        let (stable, accepted) = (keeper.fence(), keeper.accepted());
        if stable == accepted {
            self.go_on_under(place, stable);
        }
        true
    }

    /// A fence is stable: what waits for it goes on.
    pub(crate) fn go_on_under(&mut self, place: usize, fence: Fence) {
        let adopted = std::mem::take(&mut self.processes[place].lies.adopted);
        for operation in adopted {
            if operation.by.generation > fence.generation {
                self.processes[place].lies.adopted.push(operation);
                continue;
            }
            let ticket = self.command(place, operation.number, fence);
            self.askers.insert(ticket, operation.asker);
        }
    }
}
