//! Who is connected, and which worker gets what: the network's view of the process.
//!
//! Replies of a peer count only while its store is *recognized*: the membership has found it to be
//! the store that the birth record names. A link that comes up is unrecognized until then, so an
//! empty directory that took a process's place has no vote, whatever it answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::domain::{Incarnation, Rank, Reply, Request};
use crate::net::{PeerEvents, PeerSession};
use crate::wire::Introduction;

use super::disk::shard;
use super::inbox::Inbox;
use super::worker::Item;

/// What the membership is told.
#[derive(Clone, Debug)]
pub(crate) enum News {
    /// A link is up and its peer has said who it is, or has said it anew.
    Introduced {
        /// Which peer.
        peer: Rank,
        /// What it said.
        introduction: Introduction,
    },
    /// A link is down.
    Disconnected(Rank),
}

/// The junction between the network's tasks, the workers and the membership.
#[derive(Debug)]
pub(crate) struct Switchboard {
    workers: Vec<Arc<Inbox<Item>>>,
    recognized: Vec<AtomicBool>,
    news: Inbox<News>,
}

impl Switchboard {
    /// For a cluster of `processes`, with these workers' inboxes.
    pub(crate) fn new(processes: u8, workers: Vec<Arc<Inbox<Item>>>) -> Self {
        let recognized = (0..processes).map(|_| AtomicBool::new(false)).collect();
        Self {
            workers,
            recognized,
            news: Inbox::new(),
        }
    }

    /// What has happened to the links; taken by the membership alone.
    pub(crate) fn news(&self) -> &Inbox<News> {
        &self.news
    }

    /// The peer's store is the right one: it has a vote, and is owed what is unfinished.
    pub(crate) fn recognize(&self, peer: Rank) {
        if !self.recognized[peer.place()].swap(true, Ordering::AcqRel) {
            for worker in &self.workers {
                worker.put(Item::PeerConnected(peer));
            }
        }
    }

    /// Whether a link to this peer is up and its store is the right one.
    pub(crate) fn is_recognized(&self, peer: Rank) -> bool {
        self.recognized[peer.place()].load(Ordering::Acquire)
    }

    /// Hands a peer's requests to the workers. Which one gets a request decides about speed only:
    /// answering needs no state of a register.
    pub(crate) fn route_requests(&self, session: &Arc<PeerSession>, requests: Vec<Request>) {
        let from = session.rank();
        self.route(
            requests,
            |request| shard(request.question.range().first(), self.workers.len()),
            |requests| Item::Requests { from, requests },
        );
    }

    fn route<T>(
        &self,
        items: Vec<T>,
        worker_of: impl Fn(&T) -> usize,
        wrap: impl Fn(Vec<T>) -> Item,
    ) {
        if let [only] = &self.workers[..] {
            only.put(wrap(items));
            return;
        }
        let mut parts: Vec<Vec<T>> = self.workers.iter().map(|_| Vec::new()).collect();
        for item in items {
            parts[worker_of(&item)].push(item);
        }
        for (worker, part) in self.workers.iter().zip(parts) {
            if !part.is_empty() {
                worker.put(wrap(part));
            }
        }
    }
}

impl PeerEvents for Switchboard {
    fn connected(&self, peer: Rank, _incarnation: Incarnation, introduction: Introduction) {
        self.recognized[peer.place()].store(false, Ordering::Release);
        self.news.put(News::Introduced { peer, introduction });
    }

    fn introduced(&self, peer: Rank, introduction: Introduction) {
        self.news.put(News::Introduced { peer, introduction });
    }

    fn disconnected(&self, peer: Rank) {
        self.recognized[peer.place()].store(false, Ordering::Release);
        self.news.put(News::Disconnected(peer));
    }

    fn replies(&self, from: Rank, replies: Vec<Reply>) {
        if !self.is_recognized(from) {
            return;
        }
        let own = |reply: &Reply| usize::from(reply.id.operation.shard);
        let replies = replies
            .into_iter()
            .filter(|reply| own(reply) < self.workers.len())
            .collect();
        self.route(replies, own, |replies| Item::Replies { from, replies });
    }
}
