//! What clients do: they attach, ask for one thing after another, and detach.

use atdd::domain::{Attach, AttachKind, AttachRefusal, Fence, OwnerId, SectorRange};

use crate::bug::Bug;
use crate::client::{Sort, State};
use crate::history::Kind;
use crate::sessions::{Answer, Question};
use crate::world::{Event, World, rank, sector};

impl World {
    /// A client goes on.
    pub(crate) fn think(&mut self, client: usize, turn: u64) -> Result<(), String> {
        let state = &mut self.clients[client];
        if state.turn != turn {
            return Ok(());
        }
        state.turn = 0;
        if let Sort::Classic { place } = state.sort {
            self.think_classic(client, place);
            return Ok(());
        }
        let state = state.state;
        match state {
            State::Away => self.attach(client),
            State::Attached(session) => return self.ask(client, session),
            State::Finished if self.is_moving(client) => self.attach(client),
            State::Attaching(_) | State::Detaching(_) | State::Finished => {}
        }
        Ok(())
    }

    /// A client goes on soon, unless it is going to anyway.
    pub(crate) fn think_soon(&mut self, client: usize) {
        if self.clients[client].turn == 0 {
            self.think_later(client, self.scenario.think_max);
        }
    }

    /// A client goes on after at most so much time, and not before.
    pub(crate) fn think_later(&mut self, client: usize, at_most: u64) {
        let delay = self.dice.between(1, at_most);
        self.think_after(client, delay);
    }

    /// A client goes on after this time, and not before.
    pub(crate) fn think_after(&mut self, client: usize, delay: u64) {
        self.turns += 1;
        let turn = self.turns;
        self.clients[client].turn = turn;
        self.schedule(delay, Event::Think { client, turn });
    }

    /// Nobody has had this name.
    pub(crate) fn new_owner(&mut self) -> OwnerId {
        self.owners += 1;
        OwnerId(u128::from(self.owners).to_be_bytes())
    }

    /// An operation of the client's own making begins; it is not asked for yet.
    pub(crate) fn begin_operation(&mut self, client: usize) -> usize {
        let dice = &mut self.dice;
        let first = dice.below(self.scenario.sectors);
        let (_, end) = self.scenario.shard(first);
        let count = dice.between(1, self.scenario.range_max).min(end - first);
        let range = crate::world::range(sector(first), count);
        let what = dice.below(1000);
        let wanted = if what < self.scenario.reads {
            Kind::Read
        } else if what < self.scenario.reads + self.scenario.discards {
            Kind::Discard
        } else {
            Kind::Write
        };
        let never = self.clients[client].sort == Sort::Reader || self.is_changing(client, range);
        let kind = if never { Kind::Read } else { wanted };
        self.begin_as(client, kind, range)
    }

    /// Whether some change of these sectors is under way for the client, or for its device.
    fn is_changing(&self, client: usize, range: SectorRange) -> bool {
        let own = &self.clients[client];
        let others = self.clients.iter().filter(|other| other.is_one_with(own));
        let asked = std::iter::once(own)
            .chain(others)
            .flat_map(|client| client.unanswered.iter().copied());
        let device = self.device_of(client).map(|device| &self.devices[device]);
        let moving = device.into_iter().flat_map(|device| &device.moving);
        let mut under_way = asked.chain(moving.map(|moving| moving.number));
        under_way.any(|number| {
            let record = self.history.record(number);
            record.kind != Kind::Read && record.range.overlaps(range)
        })
    }

    fn begin_as(&mut self, client: usize, kind: Kind, range: SectorRange) -> usize {
        let number = self.history.begin(kind, range);
        let client = &mut self.clients[client];
        client.left = client.left.saturating_sub(1);
        client.stay = client.stay.saturating_sub(1);
        client.unanswered.push(number);
        number
    }

    /// Asks some process for an attachment.
    fn attach(&mut self, client: usize) {
        let state = &self.clients[client];
        let idle = state.left == 0 && state.unanswered.is_empty() && !self.is_moving(client);
        let state = &mut self.clients[client];
        if idle {
            state.state = State::Finished;
            return;
        }
        let elsewhere = state.elsewhere.take();
        let place = elsewhere.unwrap_or_else(|| self.some_process());
        let Some(session) = self.open_session(client, place) else {
            self.think_later(client, 2 * self.scenario.delay_max);
            return;
        };
        if self.clients[client].owner == NOBODY {
            let known = self.device_of(client).and_then(|at| self.devices[at].owner);
            let owner = known.unwrap_or_else(|| self.new_owner());
            self.clients[client].owner = owner;
            if let Some(device) = self.device_of(client) {
                self.devices[device].owner = Some(owner);
            }
        }
        let state = &self.clients[client];
        let continues = state.continues;
        let (owner, kind) = (state.owner, state.sort.kind());
        let odds = match (continues, self.is_stormy()) {
            (Some(_), _) => 0,
            (None, true) => self.scenario.crowd.take_over,
            // Whoever waits long takes over, but not one after the other for ever.
            (None, false) => u64::from(state.refusals) * 20,
        };
        let take_over = self.dice.chance(odds);
        self.trace(|_| format!("client {client} attaches at {}: {kind:?}", rank(place)));
        self.clients[client].state = State::Attaching(session);
        self.say(
            session,
            Question::Attach(Attach {
                owner,
                kind,
                take_over,
                continues,
            }),
        );
        if self.device_of(client).is_some() {
            self.beat(session);
        }
        if self.is_stormy() {
            let delay = self.dice.between(ATTACH_PATIENCE / 8, ATTACH_PATIENCE);
            self.schedule(delay, Event::Impatient { session });
        }
    }

    /// A client has waited long enough for its attach.
    pub(crate) fn impatient(&mut self, session: u64) -> Result<(), String> {
        let client = self.session(session).client;
        if self.is_stormy() && self.clients[client].state == State::Attaching(session) {
            self.lost(client, session)?;
        }
        Ok(())
    }

    /// The next thing that the client wants of the disk.
    fn ask(&mut self, client: usize, session: u64) -> Result<(), String> {
        self.send_again(client, session)?;
        let depth = self.scenario.crowd.depth;
        let over = self.clients[client].left == 0 || self.clients[client].stay == 0;
        if (over || self.dice.chance(200)) && self.repeat_postponed(client, session) {
            return Ok(());
        }
        let moving = self.is_moving(client);
        let state = &mut self.clients[client];
        if over {
            if state.unanswered.is_empty() && !moving {
                state.state = State::Detaching(session);
                self.say(session, Question::Detach);
            }
        } else if state.unanswered.len() < depth {
            let number = self.begin_operation(client);
            self.send_request(client, session, number);
            self.think_soon(client);
        }
        self.wait_for_device(client);
        Ok(())
    }

    /// A client is answered, if it still listens.
    pub(crate) fn answered(&mut self, session: u64, answer: Answer) -> Result<(), String> {
        let client = self.session(session).client;
        let state = self.clients[client].state;
        if state.session() != Some(session) {
            return Ok(());
        }
        self.trace(|_| format!("client {client} <- {answer:?}"));
        match (state, answer) {
            (State::Attaching(_), Answer::Granted(fence)) => {
                self.attached(client, session, fence)?;
            }
            (State::Attaching(_), Answer::Refused(refusal)) => {
                self.was_refused(client, &refusal)?;
            }
            (State::Attached(_), Answer::Operation(ticket, ended)) => {
                let number = self.history.number(ticket);
                self.end_operation(ticket, ended)?;
                let unanswered = &mut self.clients[client].unanswered;
                unanswered.retain(|&other| other != number);
                self.think_soon(client);
            }
            (State::Detaching(_), Answer::Detached) => self.begin_anew(client),
            (_, Answer::Gone) => self.lost(client, session)?,
            (_, Answer::Fenced(by)) if self.is_its_own(client, by) => {
                self.tally.count("overtaken by its own");
                self.lost(client, session)?;
            }
            (_, Answer::Fenced(_)) => {
                self.say_after(session, Question::Gone, 0);
                self.was_fenced(client)?;
            }
            (_, answer) => return Err(format!("client {client}, {state:?}, hears {answer:?}")),
        }
        Ok(())
    }

    /// The client is attached. What it was not answered comes before everything else.
    fn attached(&mut self, client: usize, session: u64, fence: Fence) -> Result<(), String> {
        let stay = self.dice.between(1, self.scenario.crowd.stay_max);
        let state = &self.clients[client];
        let number = Some(fence.generation);
        let mut others = self.clients.iter().enumerate();
        let joined = state.continues == number
            || others.any(|(at, other)| {
                at != client && other.is_one_with(state) && other.continues == number
            });
        let what = match (fence.is_exclusive(), state.sort, state.continues) {
            (true, Sort::Reader, _) => "reader under an exclusive generation",
            (false, Sort::Reader, _) => "reader under a shared generation",
            (true, _, None) if joined => "joined",
            (true, _, Some(_)) if joined => "joined, continued",
            (true, _, None) => "exclusive",
            (true, _, Some(_)) => "exclusive, continued",
            (false, _, None) => "shared",
            (false, _, Some(_)) => "shared, continued",
        };
        self.tally.count(what);
        let state = &mut self.clients[client];
        state.state = State::Attached(session);
        state.attached_in = Some(session);
        state.stay = stay;
        state.refusals = 0;
        let before = state.continues.take();
        let opened = before.is_none_or(|before| fence.generation > before)
            && fence.owner() == Some(state.owner);
        if state.sort != Sort::Reader {
            state.continues = Some(fence.generation);
        }
        let unbroken = before.is_some() || self.bug == Some(Bug::LostAttachmentForgotten);
        state.unbroken = state.unbroken.filter(|_| unbroken).or(state.continues);
        if !opened && self.bug != Some(Bug::UnconditionalRepeat) {
            self.give_up_changes(client)?;
        }
        if self.bug == Some(Bug::RepeatAfterNewWrite) {
            self.postpone(client);
        }
        let unanswered = self.clients[client].unanswered.clone();
        for number in unanswered {
            if self.history.record(number).kind != Kind::Read {
                self.tally.count("change repeated");
            }
            self.say(session, Question::Operation(number));
        }
        self.think_soon(client);
        Ok(())
    }

    fn was_refused(&mut self, client: usize, refusal: &AttachRefusal) -> Result<(), String> {
        let stormy = self.is_stormy();
        self.tally.count(match refusal {
            AttachRefusal::Held(_) => "refused: held",
            AttachRefusal::Fenced { .. } => "refused: fenced",
            AttachRefusal::Elsewhere { .. } => "refused: elsewhere",
            AttachRefusal::Contended => "refused: contended",
            AttachRefusal::ShuttingDown => "refused: shutting down",
        });
        let state = &mut self.clients[client];
        state.state = State::Away;
        state.refusals += 1;
        let pause = 20 << state.refusals.min(5);
        match refusal {
            AttachRefusal::Held(_) | AttachRefusal::Contended => self.think_later(client, pause),
            AttachRefusal::Elsewhere { process } => {
                state.elsewhere = Some(process.place());
                self.think_later(client, pause);
            }
            AttachRefusal::Fenced { .. } if state.continues.is_some() => self.was_fenced(client)?,
            AttachRefusal::Fenced { .. } | AttachRefusal::ShuttingDown => {
                return Err(format!("client {client} is refused: {refusal}"));
            }
        }
        if !stormy && self.clients[client].refusals > REFUSALS_MAX {
            return Err(format!("client {client} is refused for ever: {refusal:?}"));
        }
        Ok(())
    }

    /// Whether a newer generation is that of an older session of the client, or of readers after it.
    fn is_its_own(&self, client: usize, by: Fence) -> bool {
        let state = &self.clients[client];
        let newer = state.continues.is_some_and(|own| by.generation > own);
        newer && by.owner() == Some(state.owner)
    }

    /// Somebody else has the disk: nothing is ever repeated.
    fn was_fenced(&mut self, client: usize) -> Result<(), String> {
        self.tally.count("fenced");
        if let Some(device) = self.device_of(client) {
            self.give_back(client, device);
        } else if self.bug != Some(Bug::UnconditionalRepeat) {
            self.give_up(client, |_| true)?;
        }
        self.begin_anew(client);
        self.think_later(client, 10 * self.scenario.think_max);
        Ok(())
    }

    /// The session is gone, or the client believes so. The process will see that some day.
    pub(crate) fn lost(&mut self, client: usize, session: u64) -> Result<(), String> {
        let notice = self.dice.between(0, self.scenario.crowd.notice_max);
        self.say_after(session, Question::Gone, notice);
        if let Some(device) = self.device_of(client) {
            self.lose_path(client, device);
            return Ok(());
        }
        if self.clients[client].state == State::Detaching(session) {
            self.begin_anew(client);
            return Ok(());
        }
        self.clients[client].state = State::Away;
        if self.bug == Some(Bug::GenerationKeptOverRestart) {
            self.clients[client].elsewhere = Some(self.session(session).process);
        }
        if self.clients[client].sort.kind() == AttachKind::Shared {
            self.give_up_changes(client)?;
        }
        self.think_soon(client);
        Ok(())
    }

    /// The client itself dies; another one takes its place.
    pub(crate) fn die(&mut self, client: usize) -> Result<(), String> {
        self.trace(|_| format!("client {client} dies"));
        if let Some(device) = self.device_of(client) {
            self.give_back(client, device);
        }
        self.give_up(client, |_| true)?;
        self.begin_anew(client);
        Ok(())
    }

    /// Without an attachment, as one that never had any.
    fn begin_anew(&mut self, client: usize) {
        let state = &mut self.clients[client];
        state.state = State::Away;
        state.owner = NOBODY;
        state.continues = None;
        state.unbroken = None;
        self.think_soon(client);
    }

    fn give_up_changes(&mut self, client: usize) -> Result<(), String> {
        self.give_up(client, |kind| kind != Kind::Read)
    }

    /// The outcome of such operations will never be known.
    fn give_up(&mut self, client: usize, which: fn(Kind) -> bool) -> Result<(), String> {
        let state = &mut self.clients[client];
        let postponed = std::mem::take(&mut state.postponed);
        let unanswered = std::mem::take(&mut state.unanswered);
        for number in postponed.into_iter().chain(unanswered) {
            if which(self.history.record(number).kind) {
                self.tally.count("given up");
                self.history.cut_off(number)?;
            } else {
                self.clients[client].unanswered.push(number);
            }
        }
        Ok(())
    }

    /// Planted: what is to be repeated waits, and something new comes before it.
    fn postpone(&mut self, client: usize) {
        let state = &mut self.clients[client];
        let history = &self.history;
        let is_read = |number: &usize| history.record(*number).kind == Kind::Read;
        let (reads, changes) = state.unanswered.iter().partition(|number| is_read(number));
        state.unanswered = reads;
        state.postponed.extend::<Vec<usize>>(changes);
    }

    /// Planted: whether what was postponed is repeated at last.
    fn repeat_postponed(&mut self, client: usize, session: u64) -> bool {
        let postponed = std::mem::take(&mut self.clients[client].postponed);
        if postponed.is_empty() {
            return false;
        }
        for number in postponed {
            self.clients[client].unanswered.push(number);
            self.say(session, Question::Operation(number));
        }
        true
    }
}

/// Before its first attach.
pub(crate) const NOBODY: OwnerId = OwnerId([0; 16]);

/// The longest that a client waits for its attach while faults happen.
const ATTACH_PATIENCE: u64 = 600;

/// So many refusals in a row mean that an attach never succeeds.
const REFUSALS_MAX: u32 = 200;
