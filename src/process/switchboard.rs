//! Who is connected, and which worker gets what: the network's view of the process.
//!
//! Replies of a peer count only while its store is *recognized*: the membership has found it to be
//! the store that the birth record names. A link that comes up is unrecognized until then, so an
//! empty directory that took a process's place has no vote, whatever it answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::{Incarnation, Rank, Reply, Request};
use crate::net::{PeerEvents, PeerSession};
use crate::wire::Introduction;

use super::disk::shard;
use super::inbox::Inbox;
use super::worker::Item;

/// Tells one connection of a link from those before and after it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connection(u64);

/// What the membership is told.
#[derive(Clone, Debug)]
pub(crate) enum News {
    /// A link is up and its peer has said who it is, or has said it anew.
    Introduced {
        /// Which peer.
        peer: Rank,
        /// On which of the link's connections.
        connection: Connection,
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
    peers: Vec<Peer>,
    news: Inbox<News>,
}

/// How it stands with the link to one peer.
#[derive(Debug, Default)]
struct Peer {
    /// How often the link has come up or gone down.
    changes: AtomicU64,
    /// At which of these its store was recognized; 0 is never.
    recognized: AtomicU64,
}

impl Switchboard {
    /// For a cluster of `processes`, with these workers' inboxes.
    pub(crate) fn new(processes: u8, workers: Vec<Arc<Inbox<Item>>>) -> Self {
        let peers = (0..processes).map(|_| Peer::default()).collect();
        Self {
            workers,
            peers,
            news: Inbox::new(),
        }
    }

    /// What has happened to the links; taken by the membership alone.
    pub(crate) fn news(&self) -> &Inbox<News> {
        &self.news
    }

    /// The store that the peer named on this connection is the right one: it has a vote, and is
    /// owed what is unfinished. A connection that was replaced meanwhile gains nothing by it.
    pub(crate) fn recognize(&self, peer: Rank, connection: Connection) {
        let before = self.peers[peer.place()]
            .recognized
            .swap(connection.0, Ordering::AcqRel);
        if before != connection.0 {
            for worker in &self.workers {
                worker.put(Item::PeerConnected(peer));
            }
        }
    }

    /// Whether a link to this peer is up and its store is the right one.
    pub(crate) fn is_recognized(&self, peer: Rank) -> bool {
        let peer = &self.peers[peer.place()];
        let recognized = peer.recognized.load(Ordering::Acquire);
        recognized != 0 && recognized == peer.changes.load(Ordering::Acquire)
    }

    /// A link has come up or gone down: whatever was recognized is so no longer.
    fn change(&self, peer: Rank) -> Connection {
        Connection(
            self.peers[peer.place()]
                .changes
                .fetch_add(1, Ordering::AcqRel)
                + 1,
        )
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
        let connection = self.change(peer);
        self.news.put(News::Introduced {
            peer,
            connection,
            introduction,
        });
    }

    fn introduced(&self, peer: Rank, introduction: Introduction) {
        let connection = Connection(self.peers[peer.place()].changes.load(Ordering::Acquire));
        self.news.put(News::Introduced {
            peer,
            connection,
            introduction,
        });
    }

    fn disconnected(&self, peer: Rank) {
        self.change(peer);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::StoreId;

    fn introduction() -> Introduction {
        Introduction {
            store: StoreId([1; 16]),
            birth: None,
            empty: false,
        }
    }

    async fn connection_of(switchboard: &Switchboard) -> Connection {
        let mut news = Vec::new();
        switchboard.news().take(&mut news).await;
        match news.pop() {
            Some(News::Introduced { connection, .. }) => connection,
            other => panic!("{other:?}"),
        }
    }

    /// A directory that is exchanged while the membership still looks at the one before it must
    /// not get its vote.
    #[tokio::test]
    async fn recognizing_a_connection_that_was_replaced_gives_the_next_one_no_vote() {
        let switchboard = Switchboard::new(2, Vec::new());
        let peer = Rank::new(2).unwrap();
        switchboard.connected(peer, Incarnation(1), introduction());
        let first = connection_of(&switchboard).await;
        switchboard.disconnected(peer);
        switchboard.connected(peer, Incarnation(1), introduction());
        let second = connection_of(&switchboard).await;
        switchboard.recognize(peer, first);
        assert!(!switchboard.is_recognized(peer));
        switchboard.recognize(peer, second);
        assert!(switchboard.is_recognized(peer));
        switchboard.disconnected(peer);
        assert!(!switchboard.is_recognized(peer));
    }
}
