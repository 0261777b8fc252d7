//! Devices: two gateways of one kernel, which has the requests.
//!
//! A gateway never repeats anything: it joined an attachment, and that ends with its session. It is
//! the kernel that gives a path up, when its connection is closed or when a request was not
//! answered in time, and that sends the request again over whichever path there is. What it had
//! sent over the old one may be on its way to a process at that time, and of the same generation as
//! what goes over the new one, so that no fence tells them apart. It is time that does: a process
//! takes nothing of a session that was silent for too long, and a kernel waits for longer than that
//! before it sends a request again, unless it can be sure that the session is over.
//!
//! Whether another host has had the disk since, a gateway knows for as long as it remembers: all
//! gateways of a device are one owner, and one that has lost its attachment goes on from that only
//! if no other owner's came between. So whatever its device was not answered since a gateway first
//! attached may go over it. One that was fenced is started again, which is for the operator to do
//! once nothing older is left to be sent.

use std::collections::BTreeMap;

use atdd::domain::{Generation, OwnerId};

use crate::bug::Bug;
use crate::client::{Sort, State};
use crate::history::Kind;
use crate::sessions::{Answer, Question};
use crate::world::{Event, World, rank};

/// What a kernel has under way beside what its gateways were asked for.
#[derive(Debug, Default)]
pub(crate) struct Device {
    /// To be sent again.
    pub(crate) moving: Vec<Moving>,
    /// When each request was sent last.
    sent: BTreeMap<usize, u64>,
    /// All of its gateways, once one has attached.
    pub(crate) owner: Option<OwnerId>,
}

/// A request that was not answered over the path that it took.
#[derive(Debug)]
pub(crate) struct Moving {
    pub(crate) number: usize,
    /// The gateway that had it.
    from: usize,
    /// The generation that it was attached under.
    under: Generation,
    /// When it may be sent again.
    due: u64,
}

impl World {
    /// The device that a client is a gateway of.
    pub(crate) fn device_of(&self, client: usize) -> Option<usize> {
        match self.clients[client].sort {
            Sort::Gateway { device } => Some(usize::from(device)),
            _ => None,
        }
    }

    /// Whether the client's device has something to send again.
    pub(crate) fn is_moving(&self, client: usize) -> bool {
        let device = self.device_of(client);
        device.is_some_and(|device| !self.devices[device].moving.is_empty())
    }

    /// A client sends a request; a device counts the time from now on.
    pub(crate) fn send_request(&mut self, client: usize, session: u64, number: usize) {
        if let Some(device) = self.device_of(client) {
            let now = self.now;
            self.devices[device].sent.insert(number, now);
            let delay = self.path_timeout();
            self.schedule(delay, Event::Overdue { session, number });
        }
        self.say(session, Question::Operation(number));
    }

    /// A request may have been under way for too long: its path is given up.
    pub(crate) fn overdue(&mut self, session: u64, number: usize) -> Result<(), String> {
        let client = self.session(session).client;
        let state = &self.clients[client];
        let waits = state.state == State::Attached(session) && state.unanswered.contains(&number);
        if self.is_stormy() && waits {
            self.tally.count("path given up: too slow");
            return self.lost(client, session);
        }
        Ok(())
    }

    /// A path is lost: what went over it is the device's again.
    pub(crate) fn give_back(&mut self, client: usize, device: usize) {
        let state = &mut self.clients[client];
        let unanswered = std::mem::take(&mut state.unanswered);
        let (Some(session), Some(under)) = (state.attached_in, state.continues) else {
            assert!(unanswered.is_empty(), "requests follow an attach");
            return;
        };
        let over = self.bug == Some(Bug::MovedTooEarly) || self.is_over(session);
        for number in unanswered {
            let sent = self.devices[device].sent[&number];
            let due = if over { 0 } else { sent + self.path_timeout() };
            let from = client;
            self.devices[device].moving.push(Moving {
                number,
                from,
                under,
                due,
            });
        }
        for gateway in 0..self.clients.len() {
            if self.device_of(gateway) == Some(device) {
                self.think_soon(gateway);
            }
        }
    }

    /// A gateway sends what may be sent again.
    pub(crate) fn send_again(&mut self, client: usize, session: u64) -> Result<(), String> {
        let Some(device) = self.device_of(client) else {
            return Ok(());
        };
        let fence = self.clients[client].continues;
        let fence = fence.ok_or("whoever is attached has a generation")?;
        let now = self.now;
        let all = std::mem::take(&mut self.devices[device].moving);
        let (due, later) = all.into_iter().partition(|moving| moving.due <= now);
        self.devices[device].moving = later;
        for Moving {
            number,
            from,
            under,
            ..
        } in due
        {
            let change = self.history.record(number).kind != Kind::Read;
            if change && self.was_anothers(client, under, fence) {
                self.tally.count("moving change given up");
                self.history.cut_off(number)?;
                continue;
            }
            self.tally.count(match (change, from == client) {
                (true, false) => "change moved to the other gateway",
                (true, true) => "change sent again by the same gateway",
                (false, _) => "read of a device sent again",
            });
            if change && fence == under {
                self.tally.count("change sent again under its generation");
            }
            self.trace(|_| format!("client {client} has operation {number} of client {from}"));
            self.clients[client].unanswered.push(number);
            self.send_request(client, session, number);
        }
        Ok(())
    }

    /// A gateway goes on when its device may send the next request again.
    pub(crate) fn wait_for_device(&mut self, client: usize) {
        let Some(device) = self.device_of(client) else {
            return;
        };
        let moving = &self.devices[device].moving;
        if let Some(due) = moving.iter().map(|moving| moving.due).min()
            && self.clients[client].turn == 0
        {
            let delay = due.saturating_sub(self.now) + 1;
            self.think_after(client, delay);
        }
    }

    /// Whether another has had the disk between a device's generations: a request of the first is
    /// not sent again under the second, since it may have happened, been seen and overwritten. The
    /// operator knows, of what was before the gateway attached; it does, of what came later.
    fn was_anothers(&self, client: usize, under: Generation, fence: Generation) -> bool {
        let known = self.clients[client].unbroken;
        if known.is_some_and(|since| since <= under) || self.bug == Some(Bug::MovedPastAnother) {
            return false;
        }
        let device = self.device_of(client).expect("it is a gateway");
        let own = self.devices[device].owner.expect("it has attached");
        self.ledger.was_anothers(under, fence, own)
    }

    /// A gateway has lost its attachment, and its client the connection.
    pub(crate) fn lose_path(&mut self, client: usize, device: usize) {
        self.give_back(client, device);
        let state = &mut self.clients[client];
        state.state = State::Away;
        if self.bug == Some(Bug::LostAttachmentForgotten) {
            state.continues = None;
        }
        self.think_soon(client);
    }

    /// How long a kernel waits for an answer: longer than a process waits for a word.
    fn path_timeout(&self) -> u64 {
        SILENCE_MAX + self.scenario.crowd.talk_max + 1
    }

    /// Whether the process takes nothing of this session any more.
    fn is_over(&self, session: u64) -> bool {
        let told = self.session(session);
        let process = &self.processes[told.process];
        let served = process.running.as_ref().map(|running| &running.served);
        process.life != told.life || served.is_none_or(|served| !served.contains_key(&session))
    }
}

impl World {
    /// A gateway says that it lives, as long as it uses the session.
    pub(crate) fn beat(&mut self, session: u64) {
        let told = self.session(session);
        let alive = self.processes[told.process].life == told.life;
        if alive && self.clients[told.client].state.session() == Some(session) {
            self.say(session, Question::Heartbeat);
            self.schedule(HEARTBEAT_AFTER, Event::Beat { session });
        }
    }

    /// The process has something of a session before it. Whether it takes that: the silence is
    /// measured now, whenever it may have arrived.
    pub(crate) fn hears(&mut self, place: usize, session: u64) -> bool {
        let now = self.now;
        if self.device_of(self.session(session).client).is_none() {
            return true;
        }
        let forgiven = self.bug == Some(Bug::SilenceForgiven);
        let Some(served) = self.running(place).served.get_mut(&session) else {
            return true;
        };
        let silent = now - served.heard > SILENCE_MAX;
        if silent && !forgiven {
            self.drop_silent(place, session);
            return false;
        }
        served.heard = now;
        let life = self.processes[place].life;
        self.schedule(
            SILENCE_MAX + 1,
            Event::Silence {
                process: place,
                life,
                session,
            },
        );
        true
    }

    /// A session may have been silent for too long by now.
    pub(crate) fn silence(&mut self, place: usize, life: u64, session: u64) {
        let now = self.now;
        let process = &self.processes[place];
        if process.life != life || !process.is_awake() {
            return;
        }
        let served = self.running(place).served.get(&session);
        if served.is_some_and(|served| now - served.heard > SILENCE_MAX) {
            self.drop_silent(place, session);
        }
    }

    fn drop_silent(&mut self, place: usize, session: u64) {
        self.trace(|_| format!("{} drops silent session {session}", rank(place)));
        self.tally.count("silent session dropped");
        self.end_attachment(place, session);
        self.answer(session, Answer::Gone);
    }
}

/// A gateway that has nothing to say says so after this time.
const HEARTBEAT_AFTER: u64 = 25;

/// A process takes nothing of a session of which it has heard nothing for longer.
const SILENCE_MAX: u64 = 120;
