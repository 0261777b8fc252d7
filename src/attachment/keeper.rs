//! The keeper itself: takes each input to whom it concerns.

use crate::domain::{
    Answer, Attach, AttachRefusal, Fence, Holder, Incarnation, OwnerId, Question, Rank, Reply,
    Request,
};

use super::attaches::Attaches;
use super::fencing::{Fencing, Response, Verdict};
use super::holders::Holders;
use super::opening::{ASKING, Decision, OPENING, Opening, Surroundings};
use super::{AttachmentId, Input, Output};

/// The keeper's place in the cluster.
#[derive(Copy, Clone, Debug)]
pub struct Config {
    /// This process.
    pub own: Rank,
    /// How many processes there are, this one included: 1 to 254.
    pub processes: u8,
    /// This start of the process's store.
    pub incarnation: Incarnation,
    /// The fence that the process's store has on record.
    pub fence: Fence,
    /// How many registers the process has, numbered from 0 on.
    pub shards: u8,
}

/// Keeps the fence of one volume in one process, and opens generations for its clients.
#[derive(Debug)]
pub struct AttachmentKeeper {
    config: Config,
    fencing: Fencing,
    holders: Holders,
    attaches: Attaches,
}

impl AttachmentKeeper {
    /// A keeper to which nobody is attached.
    ///
    /// # Panics
    /// When the own rank is none of the processes'.
    pub fn new(config: Config) -> Self {
        assert!(
            config.own.number() <= config.processes && config.processes <= Rank::MAX,
            "the own rank is one of the processes'"
        );
        Self {
            config,
            fencing: Fencing::new(config.fence, config.shards),
            holders: Holders::new(config.own, config.processes),
            attaches: Attaches::new(config),
        }
    }

    /// Takes one input, and appends to `out` what is to be done about it, in this order.
    pub fn step(&mut self, input: Input, out: &mut Vec<Output>) {
        match input {
            Input::Attach {
                id,
                attach,
                client,
                now,
            } => self.attach(id, attach, client, now, out),
            Input::Detach { id } => {
                self.end(id);
                self.holders.end(id);
            }
            Input::Release { owner } => self.release(owner, out),
            Input::StopWaiting { id } => {
                if let Some(opening) = self.attaches.get_mut(id) {
                    opening.stop_waiting();
                }
            }
            Input::Request { from, request } => self.request(from, &request, out),
            Input::Reply { from, reply } => {
                if self.is_peer(from) {
                    self.reply(from, reply, out);
                }
            }
            Input::PeerConnected { rank } => {
                self.holders.connected(rank);
                self.attaches.resend(rank, out);
            }
            Input::PeerDisconnected { rank } => self.holders.disconnected(rank),
            Input::PeerHolders { rank, holders } => self.holders.told(rank, holders),
            Input::Raise { fence } => self.fencing.raise(fence, out),
            Input::Drained { shard, generation } => self.fencing.drained(shard, generation, out),
            Input::Recorded { fence } => self.fencing.recorded(fence, out),
        }
        self.follow_up(out);
    }

    /// The newest fence that is stable here.
    pub fn fence(&self) -> Fence {
        self.fencing.stable()
    }

    /// The newest fence that is accepted here: everything older is refused.
    pub fn accepted(&self) -> Fence {
        self.fencing.accepted()
    }

    /// Every attachment that runs here, those to read only included, oldest first.
    pub fn attachments(&self) -> Vec<Holder> {
        self.holders.attachments()
    }

    fn attach(
        &mut self,
        id: AttachmentId,
        attach: Attach,
        client: String,
        now: u64,
        out: &mut Vec<Output>,
    ) {
        let opening = self.attaches.create(attach, client, now);
        if let (Some(fence), None) = (self.holders.joined(&attach), opening.continues()) {
            self.grant(id, opening, fence, out);
            return;
        }
        let request = self.attaches.ask(id, opening, out);
        self.fencing.ask(self.config.own, request);
    }

    fn release(&mut self, owner: OwnerId, out: &mut Vec<Output>) {
        let by = self.fencing.accepted();
        let ended = self.holders.end_owner(owner);
        out.extend(ended.into_iter().map(|id| Output::Fenced { id, by }));
    }

    fn request(&mut self, from: Rank, request: &Request, out: &mut Vec<Output>) {
        if !self.is_peer(from) {
            return;
        }
        match request.question {
            Question::Fence => self.fencing.ask(from, request.id),
            Question::Open { continues } => {
                let (id, fence) = (request.id, request.authority);
                self.fencing.open(from, id, fence, continues, out);
            }
            Question::Stamps { .. } | Question::Values { .. } | Question::Store { .. } => {}
        }
    }

    /// Counts an answer, of a peer or of this process, to what an attach asks in its present round;
    /// every other one is late, repeated, or another incarnation's.
    fn reply(&mut self, from: Rank, reply: Reply, out: &mut Vec<Output>) {
        let Some((id, opening)) = self.attaches.asked(reply.id) else {
            return;
        };
        match (reply.id.round, reply.answer) {
            (ASKING, Answer::Fence { fence, holders }) => opening.heard(from, fence, holders),
            (OPENING, Answer::Opened) => opening.acknowledged(from),
            (OPENING, Answer::Refused { fence }) => {
                let refusal = opening.refused_by(fence);
                self.refuse(id, refusal, out);
                if fence.generation > self.fencing.accepted().generation {
                    self.fencing.raise(fence, out);
                }
            }
            _ => {}
        }
    }

    /// Goes on until nothing more follows from the input.
    fn follow_up(&mut self, out: &mut Vec<Output>) {
        loop {
            self.end_overtaken(out);
            let responses = self.fencing.take_responses();
            if responses.is_empty() && !self.decide(out) {
                break;
            }
            for response in responses {
                self.respond(response, out);
            }
        }
        self.holders.publish(out);
    }

    /// Whatever runs under, or opens, another fence than the accepted one has been overtaken: its
    /// operations would be refused here.
    fn end_overtaken(&mut self, out: &mut Vec<Output>) {
        let by = self.fencing.accepted();
        let ended = self.holders.end_overtaken(by);
        out.extend(ended.into_iter().map(|id| Output::Fenced { id, by }));
        for (id, refusal) in self.attaches.overtaken(by) {
            self.refuse(id, refusal, out);
        }
    }

    fn respond(&mut self, response: Response, out: &mut Vec<Output>) {
        let Response { to, id, verdict } = response;
        let own = to == self.config.own;
        let answer = match verdict {
            // What this process knows of holders is looked at when the attach is decided.
            Verdict::Fence(fence) if own => Answer::Fence {
                fence,
                holders: Vec::new(),
            },
            Verdict::Fence(fence) => Answer::Fence {
                fence,
                holders: self.holders.known(fence.generation),
            },
            Verdict::Opened => Answer::Opened,
            Verdict::Refused(fence) => Answer::Refused { fence },
        };
        let reply = Reply { id, answer };
        if own {
            self.reply(to, reply, out);
        } else {
            out.push(Output::Reply { to, reply });
        }
    }

    /// Goes on with one attach that has heard enough, the complete ones first; false without any.
    fn decide(&mut self, out: &mut Vec<Output>) -> bool {
        let decisions = self.attaches.iter().map(|(id, opening)| {
            let decision = opening.decide(&self.surroundings(opening));
            (id, decision)
        });
        let decided = decisions.filter(|(_, decision)| !matches!(decision, Decision::Wait));
        let first = decided.min_by_key(|(_, decision)| !matches!(decision, Decision::Grant(_)));
        match first {
            None | Some((_, Decision::Wait)) => return false,
            Some((id, Decision::Grant(fence))) => {
                let opening = self.end(id).expect("it is under way");
                self.grant(id, opening, fence, out);
            }
            Some((id, Decision::Open(target))) => self.open(id, target, out),
            Some((id, Decision::Refuse(refusal))) => self.refuse(id, refusal, out),
        }
        true
    }

    fn surroundings(&self, opening: &Opening) -> Surroundings<'_> {
        Surroundings {
            holders: &self.holders,
            accepted: self.fencing.accepted(),
            tag: self.attaches.tag(opening),
            contended: self.attaches.others_open(opening.attach.owner),
            joinable: self.attaches.is_joinable(opening),
        }
    }

    /// Begins the second round, in which this process is asked as all others are.
    fn open(&mut self, id: AttachmentId, target: Fence, out: &mut Vec<Output>) {
        let opening = self.attaches.get_mut(id).expect("it was decided");
        let continues = opening.continues();
        self.forget(id);
        let request = self.attaches.open(id, target, out);
        let own = self.config.own;
        self.fencing.open(own, request, target, continues, out);
    }

    fn grant(&mut self, id: AttachmentId, opening: Opening, fence: Fence, out: &mut Vec<Output>) {
        assert!(
            fence == self.fencing.stable() && fence == self.fencing.accepted(),
            "what is granted is stable here, and not overtaken"
        );
        let holder = Holder {
            process: self.config.own,
            owner: opening.attach.owner,
            kind: opening.attach.kind,
            generation: fence.generation,
            client: opening.client,
            since: opening.now,
        };
        self.holders.grant(id, fence, holder);
        out.push(Output::Granted { id, fence });
    }

    fn refuse(&mut self, id: AttachmentId, refusal: AttachRefusal, out: &mut Vec<Output>) {
        self.end(id);
        out.push(Output::Refused { id, refusal });
    }

    /// Ends an attach that is under way. One whose client has gone opens nothing (rule 4).
    fn end(&mut self, id: AttachmentId) -> Option<Opening> {
        self.forget(id);
        self.attaches.remove(id)
    }

    /// Waits no more for this process's own answer to the attach's present round.
    fn forget(&mut self, id: AttachmentId) {
        if let Some(request) = self.attaches.request(id) {
            self.fencing.forget(request);
        }
    }

    fn is_peer(&self, rank: Rank) -> bool {
        rank != self.config.own && rank.number() <= self.config.processes
    }
}
