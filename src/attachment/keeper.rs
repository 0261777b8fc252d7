//! The keeper itself: takes each input to whom it concerns.

use std::collections::BTreeMap;

use crate::domain::{
    ATTACH_SHARD, Answer, Attach, AttachRefusal, Fence, Holder, Incarnation, OperationId, OwnerId,
    Question, Rank, Reply, Request, RequestId, Tag,
};

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
    /// The attaches under way; as many as there are clients that wait for theirs.
    openings: BTreeMap<AttachmentId, Opening>,
    /// Names the next attach in its requests and in the tag of what it opens.
    next_sequence: u64,
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
            openings: BTreeMap::new(),
            next_sequence: 0,
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
            Input::Detach { id } => self.detach(id),
            Input::Release { owner } => self.release(owner, out),
            Input::StopWaiting { id } => {
                if let Some(opening) = self.openings.get_mut(&id) {
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
                self.resend(rank, out);
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
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        let opening = Opening::new(sequence, attach, client, now);
        if let Some(fence) = self.holders.joined(&attach) {
            self.grant(id, opening, fence, out);
            return;
        }
        let before = self.openings.insert(id, opening);
        assert!(before.is_none(), "an attachment's name is used once");
        self.broadcast(id, out);
        let own = self.config.own;
        self.fencing.ask(own, self.request_id(sequence, ASKING));
    }

    /// An attach whose client has gone opens nothing (rule 4).
    fn detach(&mut self, id: AttachmentId) {
        self.remove(id);
        self.holders.end(id);
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
                let fence = request.authority;
                self.fencing.open(from, request.id, fence, continues, out);
            }
            Question::Stamps { .. } | Question::Values { .. } | Question::Store { .. } => {}
        }
    }

    /// Counts an answer, of a peer or of this process, to what an attach asks in its present round.
    fn reply(&mut self, from: Rank, reply: Reply, out: &mut Vec<Output>) {
        let RequestId { operation, round } = reply.id;
        if operation != self.operation_id(operation.sequence) {
            return;
        }
        let asking = |(_, opening): &(&AttachmentId, &mut Opening)| {
            opening.sequence == operation.sequence && opening.round() == round
        };
        let Some((&id, opening)) = self.openings.iter_mut().find(asking) else {
            return;
        };
        match (round, reply.answer) {
            (ASKING, Answer::Fence { fence, holders }) => opening.heard(from, fence, holders),
            (OPENING, Answer::Opened) => {
                opening.acknowledged(from);
                let majority = self.holders.majority();
                if let Some(fence) = opening.opened(self.config.own, majority) {
                    let opening = self.remove(id).expect("it was found");
                    self.grant(id, opening, fence, out);
                }
            }
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

    /// What every attach still wants to know of the process.
    fn resend(&self, rank: Rank, out: &mut Vec<Output>) {
        for opening in self.openings.values() {
            self.ask(rank, opening, out);
        }
    }

    /// Goes on until nothing more follows from the input.
    fn follow_up(&mut self, out: &mut Vec<Output>) {
        loop {
            let decided = self.decide(out);
            self.end_overtaken(out);
            let responses = self.fencing.take_responses();
            if !decided && responses.is_empty() {
                break;
            }
            for response in responses {
                self.respond(response, out);
            }
        }
        self.holders.publish(out);
    }

    /// Goes on with the first attach that has heard enough; false if there is none.
    fn decide(&mut self, out: &mut Vec<Output>) -> bool {
        for (&id, opening) in &self.openings {
            let around = self.surroundings(opening);
            match opening.decide(&around) {
                Decision::Wait => continue,
                Decision::Join(fence) => {
                    let opening = self.remove(id).expect("it was found");
                    self.grant(id, opening, fence, out);
                }
                Decision::Open(target) => self.open(id, target, out),
                Decision::Refuse(refusal) => self.refuse(id, refusal, out),
            }
            return true;
        }
        false
    }

    fn surroundings(&self, opening: &Opening) -> Surroundings<'_> {
        let owner = opening.attach.owner;
        let mut targets = self.openings.values().filter_map(Opening::target);
        Surroundings {
            holders: &self.holders,
            accepted: self.fencing.accepted(),
            tag: Tag {
                coordinator: self.config.own,
                incarnation: self.config.incarnation,
                sequence: opening.sequence,
            },
            contended: targets.any(|target| target.owner().is_some_and(|other| other != owner)),
        }
    }

    /// Sends the second round to everyone, this process included.
    fn open(&mut self, id: AttachmentId, target: Fence, out: &mut Vec<Output>) {
        let opening = self.openings.get_mut(&id).expect("it is under way");
        opening.begin_opening(target);
        let (sequence, continues) = (opening.sequence, opening.continues());
        let own = self.config.own;
        self.fencing.forget(self.request_id(sequence, ASKING));
        self.broadcast(id, out);
        let id = self.request_id(sequence, OPENING);
        self.fencing.open(own, id, target, continues, out);
    }

    /// Whatever runs under, or opens, another fence than the accepted one has been overtaken: its
    /// operations would be refused here.
    fn end_overtaken(&mut self, out: &mut Vec<Output>) {
        let by = self.fencing.accepted();
        let ended = self.holders.end_overtaken(by);
        out.extend(ended.into_iter().map(|id| Output::Fenced { id, by }));
        let is_overtaken = |opening: &Opening| opening.target().is_some_and(|target| target != by);
        let mut overtaken = Vec::new();
        for (&id, opening) in &self.openings {
            if is_overtaken(opening) {
                overtaken.push((id, opening.refused_by(by)));
            }
        }
        for (id, refusal) in overtaken {
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

    fn grant(&mut self, id: AttachmentId, opening: Opening, fence: Fence, out: &mut Vec<Output>) {
        let holder = Holder {
            process: self.config.own,
            owner: opening.attach.owner,
            kind: opening.attach.kind,
            generation: fence.generation,
            client: opening.client,
            since: opening.now,
        };
        assert!(
            fence == self.fencing.stable() && fence == self.fencing.accepted(),
            "what is granted is stable here, and not overtaken"
        );
        self.holders.grant(id, fence, holder);
        out.push(Output::Granted { id, fence });
    }

    fn refuse(&mut self, id: AttachmentId, refusal: AttachRefusal, out: &mut Vec<Output>) {
        self.remove(id);
        out.push(Output::Refused { id, refusal });
    }

    /// Ends an attach: nothing more is sent for it, and what is answered to it is not heard.
    fn remove(&mut self, id: AttachmentId) -> Option<Opening> {
        let opening = self.openings.remove(&id)?;
        let request = self.request_id(opening.sequence, opening.round());
        self.fencing.forget(request);
        Some(opening)
    }

    fn broadcast(&self, id: AttachmentId, out: &mut Vec<Output>) {
        let opening = &self.openings[&id];
        for rank in Rank::all(self.config.processes).filter(|&rank| rank != self.config.own) {
            self.ask(rank, opening, out);
        }
    }

    fn ask(&self, to: Rank, opening: &Opening, out: &mut Vec<Output>) {
        if let Some(question) = opening.owed(to) {
            let request = Request {
                id: self.request_id(opening.sequence, opening.round()),
                authority: opening.target().unwrap_or(self.fencing.stable()),
                question,
            };
            out.push(Output::Request { to, request });
        }
    }

    fn operation_id(&self, sequence: u64) -> OperationId {
        OperationId {
            coordinator: self.config.own,
            incarnation: self.config.incarnation,
            shard: ATTACH_SHARD,
            sequence,
        }
    }

    fn request_id(&self, sequence: u64, round: u8) -> RequestId {
        RequestId {
            operation: self.operation_id(sequence),
            round,
        }
    }

    fn is_peer(&self, rank: Rank) -> bool {
        rank != self.config.own && rank.number() <= self.config.processes
    }
}
