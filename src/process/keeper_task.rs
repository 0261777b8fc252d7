//! The owner of the process's [`AttachmentKeeper`], and everything that its steps cause.
//!
//! As a worker does for its register, the task turns outputs into calls of the store, the links,
//! the sessions and the workers, and what those bring back into inputs. It waits at one place only.
//! What the keeper says to the registers goes into every worker's inbox in the order in which it
//! was said, and before the answer to any client that follows from it: a client's first operation
//! finds its authority known.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::attached_clients::AttachedClients;
use super::confirmation::Confirmation;
use super::inbox::Inbox;
use super::items::{Item, KeeperItem};
use super::lost_holders::LostHolders;
use super::shared_authority::SharedAuthority;
use super::timer::sleep_until;
use crate::attachment::{AttachmentId, AttachmentKeeper, Input, Output};
use crate::domain::{AttachRefusal, AttachmentReport, Fence, Generation, Holder, OperationId};
use crate::net::{PeerSessions, RegisterClient};
use crate::store::StoreError;
use crate::wire::{HOLDERS_MAX, Introduction};

/// What the rest of the process may know of the keeper.
#[derive(Clone, Debug)]
pub(crate) struct KeeperView {
    /// The newest fence that is stable here.
    pub(crate) fence: Fence,
    /// The attachments of this process's clients, oldest first.
    pub(crate) attachments: Vec<AttachmentReport>,
    /// The generation that this process writes under, if it does and there was one before.
    pub(crate) runs: Option<Fence>,
}

impl Default for KeeperView {
    fn default() -> Self {
        Self {
            fence: Fence::INITIAL,
            attachments: Vec::new(),
            runs: None,
        }
    }
}

/// Makes a fence durable; blocks. A failure ends the process.
pub(crate) type Record = Arc<dyn Fn(Fence) -> Result<(), StoreError> + Send + Sync>;

/// What the task needs around it.
pub(crate) struct KeeperSurroundings {
    /// Where its work comes from.
    pub(crate) inbox: Arc<Inbox<KeeperItem>>,
    /// Every register's.
    pub(crate) workers: Vec<Arc<Inbox<Item>>>,
    /// The links by rank; none to itself.
    pub(crate) links: Vec<Option<Arc<RegisterClient>>>,
    /// Where replies go.
    pub(crate) sessions: Arc<PeerSessions>,
    /// What peers are told of this process.
    pub(crate) introduction: watch::Sender<Introduction>,
    /// The own store.
    pub(crate) record: Record,
    /// What clients without an attachment run under.
    pub(crate) authority: SharedAuthority,
    /// Names for attaches.
    pub(crate) next_id: Arc<AtomicU64>,
    /// What is to be known.
    pub(crate) view: watch::Sender<KeeperView>,
}

/// The keeper's owner.
pub(crate) struct KeeperTask {
    keeper: AttachmentKeeper,
    surroundings: KeeperSurroundings,
    clients: AttachedClients,
    confirmation: Confirmation,
    lost: LostHolders,
    outputs: Vec<Output>,
    /// What follows at once, before any other item is looked at.
    ready: VecDeque<Input>,
    /// Fences to be made durable, in this order; the first is under way if there is a `recording`.
    records: VecDeque<Fence>,
    recording: Option<JoinHandle<Result<(), StoreError>>>,
    /// What peers are to be told, unless they were.
    holders: Option<Vec<Holder>>,
    /// The attach that begins in the present step.
    beginning: Option<AttachmentId>,
    /// What attaches under way ask other processes; the keeper has one operation for each.
    asked: BTreeMap<AttachmentId, OperationId>,
}

impl KeeperTask {
    pub(crate) fn new(keeper: AttachmentKeeper, surroundings: KeeperSurroundings) -> Self {
        Self {
            keeper,
            surroundings,
            clients: AttachedClients::default(),
            confirmation: Confirmation::default(),
            lost: LostHolders::default(),
            outputs: Vec::new(),
            ready: VecDeque::new(),
            records: VecDeque::new(),
            recording: None,
            holders: None,
            beginning: None,
            asked: BTreeMap::new(),
        }
    }

    /// Works until the inbox is closed.
    pub(crate) async fn run(mut self) {
        let inbox = Arc::clone(&self.surroundings.inbox);
        let mut items = Vec::new();
        loop {
            let due = earlier(self.clients.due(), self.confirmation.due());
            tokio::select! {
                open = inbox.take(&mut items) => {
                    if !open {
                        break;
                    }
                    for item in items.drain(..) {
                        self.accept(item);
                    }
                }
                recorded = ended(&mut self.recording) => self.recorded(recorded),
                () = sleep_until(due) => self.time_passed(Instant::now()),
            }
            self.publish();
        }
        if let Some(recording) = self.recording {
            // Whoever waits for the fence has gone; the store knows how it ended.
            drop(recording.await);
        }
    }

    fn accept(&mut self, item: KeeperItem) {
        match item {
            KeeperItem::Attach {
                id,
                attach,
                client,
                answer,
            } => {
                let input = self.clients.ask(id, attach, client, answer);
                self.step(input);
            }
            KeeperItem::Detach(id) => {
                if self.clients.remove(id) {
                    self.step(Input::Detach { id });
                }
            }
            KeeperItem::Confirm { answer } => {
                if let Some(holder) = self.lost.missed(self.keeper.accepted(), Instant::now()) {
                    let refusal = AttachRefusal::Held(Box::new(holder.clone()));
                    // Whoever has gone needs no answer.
                    answer.send(Err(refusal)).ok();
                    return;
                }
                if let Some(input) = self.confirmation.ask(answer, self.next_id()) {
                    self.step(input);
                }
            }
            KeeperItem::Release { owner, answer } => {
                let before = self.clients.ended();
                self.step(Input::Release { owner });
                // Whoever asked may have gone.
                answer.send(self.clients.ended() > before).ok();
            }
            KeeperItem::Requests { from, requests } => {
                for request in requests {
                    self.step(Input::Request { from, request });
                }
            }
            KeeperItem::Replies { from, replies } => {
                for reply in replies {
                    self.step(Input::Reply { from, reply });
                }
            }
            KeeperItem::PeerConnected(rank) => self.step(Input::PeerConnected { rank }),
            KeeperItem::PeerDisconnected(rank) => {
                self.lost.disconnected(rank, Instant::now());
                self.step(Input::PeerDisconnected { rank });
            }
            KeeperItem::PeerHolders(rank, holders) => {
                self.lost.told(rank, &holders);
                self.step(Input::PeerHolders { rank, holders });
            }
            KeeperItem::Raise(fence) => self.step(Input::Raise { fence }),
            KeeperItem::Drained { shard, generation } => {
                self.step(Input::Drained { shard, generation });
            }
        }
    }

    /// One step of the keeper, and those that follow from it at once.
    fn step(&mut self, input: Input) {
        self.ready.push_back(input);
        while let Some(input) = self.ready.pop_front() {
            match input {
                Input::Attach { id, .. } => self.beginning = Some(id),
                Input::Detach { id } => self.asks_no_more(id),
                _ => {}
            }
            self.keeper.step(input, &mut self.outputs);
            let mut outputs = std::mem::take(&mut self.outputs);
            for output in outputs.drain(..) {
                self.carry_out(output);
            }
            self.outputs = outputs;
            self.beginning = None;
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Request { to, request } => {
                self.asks(request.id.operation);
                if let Some(link) = &self.surroundings.links[to.place()] {
                    link.send(vec![request]);
                }
            }
            Output::Reply { to, reply } => self.surroundings.sessions.reply(to, vec![reply]),
            Output::Raise { fence } => {
                self.surroundings.authority.raise(fence);
                self.tell_workers(|| Item::Raise(fence));
            }
            Output::Stable { fence } => self.tell_workers(|| Item::Stable(fence)),
            Output::Record { fence } => {
                self.records.push_back(fence);
                self.record_next();
            }
            Output::Granted { id, fence } => self.granted(id, fence),
            Output::Refused { id, refusal } => {
                self.asks_no_more(id);
                if self.confirmation.is(id) {
                    self.confirmation.refused(&refusal);
                } else {
                    self.clients.refused(id, refusal);
                }
            }
            Output::Fenced { id, by } => self.clients.fenced(id, by),
            Output::Holders { holders } => self.holders = Some(holders),
        }
    }

    fn granted(&mut self, id: AttachmentId, fence: Fence) {
        self.asks_no_more(id);
        if self.confirmation.is(id) {
            self.surroundings.authority.open(fence);
            self.confirmation.granted(fence);
            // It is open, and stays so; whoever runs under it holds nothing.
            self.ready.push_front(Input::Detach { id });
        } else {
            self.clients.granted(id, fence);
        }
    }

    /// Notes what the attach that begins in this step asks: what no other has asked.
    fn asks(&mut self, operation: OperationId) {
        if let Some(id) = self.beginning
            && !self.asked.values().any(|asked| *asked == operation)
        {
            self.asked.insert(id, operation);
        }
    }

    /// What is still queued for slow peers is not worth sending: one that has missed a generation
    /// hears of it with the first operation under it.
    fn asks_no_more(&mut self, id: AttachmentId) {
        if let Some(operation) = self.asked.remove(&id) {
            for link in self.surroundings.links.iter().flatten() {
                link.finished(&[operation]);
            }
        }
    }

    fn tell_workers(&self, item: impl Fn() -> Item) {
        for worker in &self.surroundings.workers {
            worker.put(item());
        }
    }

    fn record_next(&mut self) {
        if self.recording.is_none()
            && let Some(&fence) = self.records.front()
        {
            let record = Arc::clone(&self.surroundings.record);
            self.recording = Some(tokio::task::spawn_blocking(move || record(fence)));
        }
    }

    fn recorded(&mut self, recorded: Result<(), StoreError>) {
        self.recording = None;
        let fence = self.records.pop_front();
        match recorded {
            Ok(()) => {
                let fence = fence.expect("the first was under way");
                self.step(Input::Recorded { fence });
                self.record_next();
            }
            // The store has failed, and the process ends: nothing more is recorded.
            Err(error) => tracing::error!(%error, "the fence was not recorded"),
        }
    }

    fn time_passed(&mut self, now: Instant) {
        while let Some(input) = self.clients.stop_waiting(now) {
            self.step(input);
        }
        let id = self.next_id();
        if let Some(input) = self.confirmation.time_passed(now, id) {
            self.step(input);
        }
    }

    fn next_id(&self) -> AttachmentId {
        next_id(&self.surroundings.next_id)
    }

    /// Tells the rest of the process and the peers what has changed.
    fn publish(&mut self) {
        if let Some(mut holders) = self.holders.take() {
            holders.truncate(HOLDERS_MAX);
            self.surroundings.introduction.send_if_modified(|present| {
                let changed = present.holders != holders;
                present.holders = holders;
                changed
            });
        }
        let fence = self.keeper.fence();
        let confirmed = self.surroundings.authority.now();
        let runs = self.clients.runs().or(confirmed);
        let runs = runs.filter(|fence| fence.generation > Generation(0));
        let attachments = self.clients.take_changes();
        self.surroundings.view.send_if_modified(|view| {
            let changed = (view.fence, view.runs) != (fence, runs) || attachments.is_some();
            view.fence = fence;
            view.runs = runs;
            if let Some(attachments) = attachments {
                view.attachments = attachments;
            }
            changed
        });
    }
}

/// A name that no other attach has.
pub(crate) fn next_id(counter: &AtomicU64) -> AttachmentId {
    AttachmentId(counter.fetch_add(1, Ordering::Relaxed))
}

fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    one.into_iter().chain(other).min()
}

async fn ended(
    recording: &mut Option<JoinHandle<Result<(), StoreError>>>,
) -> Result<(), StoreError> {
    match recording {
        Some(recording) => recording.await.expect("recording does not panic"),
        None => std::future::pending().await,
    }
}
