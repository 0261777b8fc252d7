//! A worker: the owner of one shard's register, and everything that its steps cause.
//!
//! The register decides, the worker does: it turns outputs into calls of the store, of the links
//! and of the sessions, batched per round, and what those bring back into inputs. It waits at one
//! place only, its [`Inbox`], and holds no lock. Whatever it gave out and never got back when the
//! process stops is dropped, and with it its clients' `oneshot` senders: they are told that the
//! process is shutting down.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rustc_hash::FxHashMap;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;

use super::inbox::Inbox;
use super::items::{Item, KeeperItem};
use super::timer::sleep_until;
use crate::domain::{OperationId, Rank, Reply, Request, RequestId};
use crate::net::{PeerSessions, RegisterClient};
use crate::register::{
    AtomicRegister, Input, LoadToken, Outcome, Output, PeerFault, RegisterError, StoreToken, Ticket,
};
use crate::store::{Completion, Completions, SectorsManager, StoreRequest};

/// How long what would be cheaper with the answers of all processes waits for the last of them.
const STOP_WAITING_AFTER: Duration = Duration::from_millis(20);

impl Completions for Inbox<Item> {
    fn complete(&self, completions: Vec<Completion>) {
        self.put(Item::Completions(completions));
    }
}

/// What a worker needs around it.
pub(crate) struct Surroundings {
    /// Which of the process's registers it owns.
    pub(crate) shard: u8,
    /// Where its work comes from.
    pub(crate) inbox: Arc<Inbox<Item>>,
    /// Where the process's fence is kept.
    pub(crate) keeper: Arc<Inbox<KeeperItem>>,
    /// The local sectors.
    pub(crate) store: Arc<dyn SectorsManager>,
    /// The links by rank; none to itself.
    pub(crate) links: Vec<Option<Arc<RegisterClient>>>,
    /// Where replies go: each to the session that asked, if that is still there.
    pub(crate) sessions: Arc<PeerSessions>,
    /// How many operations this worker's register has under way or queued, for `status`.
    pub(crate) operations: Arc<AtomicUsize>,
}

/// A client that waits for an operation.
struct Waiting {
    done: oneshot::Sender<Result<Outcome, RegisterError>>,
    /// Dropped, and with it given back, when the operation is complete.
    _permit: OwnedSemaphorePermit,
}

/// The owner of one shard's register.
pub(crate) struct Worker {
    register: AtomicRegister,
    surroundings: Surroundings,
    completions: Arc<dyn Completions>,
    clients: FxHashMap<Ticket, Waiting>,
    next_ticket: u64,
    outputs: Vec<Output>,
    /// What came back at once and is to be stepped in this same round.
    ready: Vec<Input>,
    round: Round,
}

/// What the steps of one round want sent, gathered so that it goes out as one batch each.
#[derive(Default)]
struct Round {
    /// By rank.
    requests: Vec<Vec<Request>>,
    /// By rank.
    replies: Vec<Vec<Reply>>,
    declined: Vec<(Rank, RequestId)>,
    stores: Vec<StoreRequest>,
    finished: Vec<OperationId>,
}

impl Worker {
    pub(crate) fn new(register: AtomicRegister, surroundings: Surroundings) -> Self {
        let completions = Arc::clone(&surroundings.inbox) as Arc<dyn Completions>;
        let round = Round {
            requests: surroundings.links.iter().map(|_| Vec::new()).collect(),
            replies: surroundings.links.iter().map(|_| Vec::new()).collect(),
            ..Round::default()
        };
        Self {
            register,
            surroundings,
            completions,
            clients: HashMap::default(),
            next_ticket: 0,
            outputs: Vec::new(),
            ready: Vec::new(),
            round,
        }
    }

    /// Works until the inbox is closed.
    pub(crate) async fn run(mut self) {
        let inbox = Arc::clone(&self.surroundings.inbox);
        let mut items = Vec::new();
        let mut patience: Option<Instant> = None;
        loop {
            tokio::select! {
                biased;
                open = inbox.take(&mut items) => if !open { return },
                () = sleep_until(patience) => {}
            }
            for item in items.drain(..) {
                self.accept(item);
            }
            // However much there is to do, patience ends.
            if patience.is_some_and(|until| until <= Instant::now()) {
                patience = None;
                self.step(Input::StopWaiting);
            }
            self.flush();
            patience = self
                .register
                .waits_for_more()
                .then(|| patience.unwrap_or_else(|| Instant::now() + STOP_WAITING_AFTER));
            self.surroundings.operations.store(
                self.register.in_flight() + self.register.queued(),
                Ordering::Relaxed,
            );
        }
    }

    fn accept(&mut self, item: Item) {
        match item {
            Item::Command {
                authority,
                command,
                done,
                permit,
            } => {
                let ticket = Ticket(self.next_ticket);
                self.next_ticket += 1;
                self.clients.insert(
                    ticket,
                    Waiting {
                        done,
                        _permit: permit,
                    },
                );
                self.step(Input::Command {
                    ticket,
                    authority,
                    command,
                });
            }
            Item::Requests { from, requests } => {
                for request in requests {
                    self.step(Input::Request { from, request });
                }
            }
            Item::Replies { from, replies } => {
                for reply in replies {
                    self.step(Input::Reply { from, reply });
                }
            }
            Item::Completions(completions) => {
                for completion in completions {
                    self.step(match completion {
                        Completion::Stored { token } => Input::Stored {
                            token: StoreToken(token),
                        },
                        Completion::Refused { token } => Input::Refused {
                            token: StoreToken(token),
                        },
                        Completion::Loaded { token, held } => Input::Loaded {
                            token: LoadToken(token),
                            held,
                        },
                    });
                }
            }
            Item::PeerConnected(rank) => self.step(Input::PeerConnected { rank }),
            Item::PeerDisconnected(rank) => self.step(Input::PeerDisconnected { rank }),
            Item::Raise(fence) => self.step(Input::Raise { fence }),
            Item::Stable(fence) => self.step(Input::Stable { fence }),
        }
    }

    /// One step of the register, and those that follow from it at once.
    fn step(&mut self, input: Input) {
        self.ready.push(input);
        while let Some(input) = self.ready.pop() {
            self.register.step(input, &mut self.outputs);
            let mut outputs = std::mem::take(&mut self.outputs);
            for output in outputs.drain(..) {
                self.carry_out(output);
            }
            self.outputs = outputs;
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Request { to, request } => self.round.requests[to.place()].push(request),
            Output::Reply { to, reply } => self.round.replies[to.place()].push(reply),
            Output::Decline { to, id } => self.round.declined.push((to, id)),
            Output::Load {
                token,
                range,
                newer_than,
            } => {
                let store = &self.surroundings.store;
                if let Some(held) = store.load(token.0, range, newer_than, &self.completions) {
                    self.ready.push(Input::Loaded { token, held });
                }
            }
            Output::Store { token, extents } => {
                self.round.stores.push(StoreRequest {
                    token: token.0,
                    extents,
                });
            }
            Output::Done { ticket, outcome } => {
                let waiting = self
                    .clients
                    .remove(&ticket)
                    .expect("an operation is done once");
                // A client that has gone no longer wants to know.
                drop(waiting.done.send(outcome));
            }
            Output::Finished { operation } => self.round.finished.push(operation),
            Output::Faulty { from, fault } => self.close_connections(from, fault),
            Output::Raise { fence } => self.surroundings.keeper.put(KeeperItem::Raise(fence)),
            Output::Drained { generation } => {
                let shard = self.surroundings.shard;
                let drained = KeeperItem::Drained { shard, generation };
                self.surroundings.keeper.put(drained);
            }
        }
    }

    /// Ends both connections to a peer that says what no correct process says: nothing more on
    /// them can be relied on. The link and the peer's own will try again.
    fn close_connections(&self, peer: Rank, fault: PeerFault) {
        let Surroundings {
            links, sessions, ..
        } = &self.surroundings;
        if let Some(link) = links.get(peer.place()).and_then(Option::as_ref) {
            link.close(fault.to_string());
        }
        if let Some(session) = sessions.session(peer) {
            session.close(fault.to_string());
        }
    }

    /// Sends what the round has gathered. What is to be sent goes first: the others' disks can
    /// then work while the own one does.
    fn flush(&mut self) {
        let Surroundings {
            links,
            sessions,
            store,
            ..
        } = &self.surroundings;
        for (link, requests) in links.iter().zip(&mut self.round.requests) {
            if let Some(link) = link
                && !requests.is_empty()
            {
                link.send(std::mem::take(requests));
            }
        }
        let ranks = Rank::all(Rank::MAX);
        for (to, replies) in ranks.zip(&mut self.round.replies) {
            if !replies.is_empty() {
                sessions.reply(to, std::mem::take(replies));
            }
        }
        for (to, id) in self.round.declined.drain(..) {
            if let Some(session) = sessions.session(to) {
                session.decline(&[id]);
            }
        }
        if !self.round.stores.is_empty() {
            store.store(std::mem::take(&mut self.round.stores), &self.completions);
        }
        if !self.round.finished.is_empty() {
            for link in links.iter().flatten() {
                link.finished(&self.round.finished);
            }
            self.round.finished.clear();
        }
    }
}
