//! Who is connected, and which worker gets what: the network's view of the process.
//!
//! Replies of a peer count only while its store is *recognized*: the membership has found it to be
//! the store that the birth record names. A link that comes up is unrecognized until then, so an
//! empty directory that took a process's place has no vote, whatever it answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;

use crate::domain::{ATTACH_SHARD, Birth, Holder, Incarnation, Question, Rank, Reply, Request};
use crate::net::{PeerEvents, PeerSession};
use crate::wire::Introduction;

use super::inbox::Inbox;
use super::items::{Item, KeeperItem};
use super::operations::shard;

/// What the membership is told.
#[derive(Clone, Debug)]
pub(crate) enum News {
    /// A link is up and its peer has said who it is, or has said it anew.
    Introduced {
        /// Which peer.
        peer: Rank,
        /// Over which of the link's connections.
        connection: Connection,
        /// What it said.
        introduction: Introduction,
    },
    /// A link is down.
    Disconnected(Rank),
    /// A peer that asks this process has said over its own link with which stores the cluster was
    /// born. It may be all that is ever heard of that peer, if it does not let this process in.
    Record {
        /// Which peer.
        peer: Rank,
        /// Its record.
        birth: Birth,
    },
}

/// One of a link's connections.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connection(u64);

/// The junction between the network's tasks, the workers, the keeper and the membership.
#[derive(Debug)]
pub(crate) struct Switchboard {
    workers: Vec<Arc<Inbox<Item>>>,
    keeper: Arc<Inbox<KeeperItem>>,
    /// By rank: twice the number of the link's state, which every connection and every end of one
    /// raises, and one more while the peer's store is recognized. In one word, so that what is
    /// found out about one connection is never held for the next.
    standings: Vec<AtomicU64>,
    /// Whether every peer is recognized. Its lock is held while a standing changes and those who
    /// must know are told, so that they hear of changes in the order in which these were made.
    complete: Mutex<watch::Sender<bool>>,
    news: Inbox<News>,
}

impl Switchboard {
    /// For a cluster of `processes`, with these inboxes of the workers and the keeper.
    pub(crate) fn new(
        processes: u8,
        workers: Vec<Arc<Inbox<Item>>>,
        keeper: Arc<Inbox<KeeperItem>>,
    ) -> Self {
        Self {
            workers,
            keeper,
            standings: (0..processes).map(|_| AtomicU64::new(0)).collect(),
            complete: Mutex::new(watch::Sender::new(processes == 1)),
            news: Inbox::new(),
        }
    }

    /// What has happened to the links; taken by the membership alone.
    pub(crate) fn news(&self) -> &Inbox<News> {
        &self.news
    }

    /// The peer's store on this connection is the right one: it has a vote, and is owed what is
    /// unfinished. Nothing when that connection is gone, or known already.
    pub(crate) fn recognize(&self, peer: Rank, Connection(number): Connection) {
        let (unrecognized, recognized) = (2 * number, 2 * number + 1);
        let complete = self.complete();
        let standing = &self.standings[peer.place()];
        if standing.load(Ordering::Acquire) == unrecognized {
            standing.store(recognized, Ordering::Release);
            for worker in &self.workers {
                worker.put(Item::PeerConnected(peer));
            }
            self.keeper.put(KeeperItem::PeerConnected(peer));
            self.count(&complete);
        }
    }

    /// The peer says over this connection that it runs these attachments. Nothing when it is not
    /// recognized on it.
    pub(crate) fn holders(&self, peer: Rank, Connection(number): Connection, holders: Vec<Holder>) {
        let _changes = self.complete();
        if self.standings[peer.place()].load(Ordering::Acquire) == 2 * number + 1 {
            self.keeper.put(KeeperItem::PeerHolders(peer, holders));
        }
    }

    /// Whether a link to this peer is up and its store is the right one.
    pub(crate) fn is_recognized(&self, peer: Rank) -> bool {
        self.standings[peer.place()].load(Ordering::Acquire) % 2 == 1
    }

    /// Whether all peers are recognized, now and from now on.
    pub(crate) fn completeness(&self) -> watch::Receiver<bool> {
        self.complete().subscribe()
    }

    /// Hands a peer's requests to the workers, and to the keeper what is about the volume. Which
    /// worker gets a request decides about speed only: a register answers for any sector.
    pub(crate) fn route_requests(&self, session: &Arc<PeerSession>, mut requests: Vec<Request>) {
        let from = session.rank();
        let of_volume =
            |request: &Request| matches!(request.question, Question::Fence | Question::Open { .. });
        if requests.iter().any(of_volume) {
            let requests = requests.extract_if(.., |request| of_volume(request));
            let requests = requests.collect();
            self.keeper.put(KeeperItem::Requests { from, requests });
        }
        self.route(
            requests,
            |request| {
                let range = request.question.range();
                let range = range.expect("what has none is the keeper's");
                shard(range.first(), self.workers.len())
            },
            |requests| Item::Requests { from, requests },
        );
    }

    /// Another connection of the link to this peer, or none: it is not recognized any more. Only
    /// the link's own task calls this.
    fn change(&self, peer: Rank) {
        let complete = self.complete();
        let standing = &self.standings[peer.place()];
        let before = standing.load(Ordering::Acquire);
        standing.store(2 * (before / 2 + 1), Ordering::Release);
        if before % 2 == 1 {
            for worker in &self.workers {
                worker.put(Item::PeerDisconnected(peer));
            }
            self.keeper.put(KeeperItem::PeerDisconnected(peer));
            self.count(&complete);
        }
    }

    fn count(&self, complete: &watch::Sender<bool>) {
        let recognized = |standing: &&AtomicU64| standing.load(Ordering::Acquire) % 2 == 1;
        let all = self.standings.iter().filter(recognized).count() + 1 == self.standings.len();
        complete.send_if_modified(|present| std::mem::replace(present, all) != all);
    }

    fn complete(&self) -> MutexGuard<'_, watch::Sender<bool>> {
        self.complete.lock().expect("nobody panics with the lock")
    }

    fn route<T>(
        &self,
        items: Vec<T>,
        worker_of: impl Fn(&T) -> usize,
        wrap: impl Fn(Vec<T>) -> Item,
    ) {
        if let [only] = &self.workers[..] {
            if !items.is_empty() {
                only.put(wrap(items));
            }
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
        self.change(peer);
        self.introduced(peer, introduction);
    }

    fn introduced(&self, peer: Rank, introduction: Introduction) {
        let connection = Connection(self.standings[peer.place()].load(Ordering::Acquire) / 2);
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

    fn replies(&self, from: Rank, mut replies: Vec<Reply>) {
        if !self.is_recognized(from) {
            return;
        }
        let own = |reply: &Reply| usize::from(reply.id.operation.shard);
        let of_attach = |reply: &Reply| reply.id.operation.shard == ATTACH_SHARD;
        if replies.iter().any(of_attach) {
            let replies = replies.extract_if(.., |reply| of_attach(reply));
            let replies = replies.collect();
            self.keeper.put(KeeperItem::Replies { from, replies });
        }
        replies.retain(|reply| own(reply) < self.workers.len());
        self.route(replies, own, |replies| Item::Replies { from, replies });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::StoreId;

    #[tokio::test]
    async fn what_is_found_out_of_one_connection_is_not_held_for_the_next() {
        let switchboard = Switchboard::new(3, vec![Arc::new(Inbox::new())], Arc::new(Inbox::new()));
        let peer = Rank::new(2).unwrap();
        let connect = |store| {
            let introduction = Introduction {
                store: StoreId([store; 16]),
                birth: None,
                empty: false,
                holders: Vec::new(),
            };
            switchboard.connected(peer, Incarnation(1), introduction);
        };
        connect(1);
        let mut news = Vec::new();
        switchboard.news().take(&mut news).await;
        let Some(News::Introduced { connection, .. }) = news.pop() else {
            panic!("an introduction");
        };
        // While the first is thought about, the peer comes back with another directory.
        switchboard.disconnected(peer);
        switchboard.recognize(peer, connection);
        assert!(!switchboard.is_recognized(peer));
        connect(9);
        switchboard.recognize(peer, connection);
        assert!(
            !switchboard.is_recognized(peer),
            "the empty store has no vote"
        );
        switchboard.news().take(&mut news).await;
        let Some(News::Introduced { connection, .. }) = news.pop() else {
            panic!("an introduction");
        };
        switchboard.recognize(peer, connection);
        assert!(switchboard.is_recognized(peer));
        switchboard.introduced(
            peer,
            Introduction {
                store: StoreId([9; 16]),
                birth: None,
                empty: false,
                holders: Vec::new(),
            },
        );
        assert!(
            switchboard.is_recognized(peer),
            "news do not end a connection"
        );
    }

    #[tokio::test]
    async fn workers_and_keeper_hear_of_recognized_connections_only() {
        let (worker, keeper) = (Arc::new(Inbox::new()), Arc::new(Inbox::new()));
        let switchboard = Switchboard::new(3, vec![Arc::clone(&worker)], Arc::clone(&keeper));
        let complete = switchboard.completeness();
        let peers = [Rank::new(2).unwrap(), Rank::new(3).unwrap()];
        let introduction = Introduction {
            store: StoreId([1; 16]),
            birth: None,
            empty: false,
            holders: Vec::new(),
        };
        for peer in peers {
            switchboard.connected(peer, Incarnation(1), introduction.clone());
            switchboard.holders(peer, Connection(1), Vec::new());
            switchboard.disconnected(peer);
            switchboard.connected(peer, Incarnation(1), introduction.clone());
            switchboard.recognize(peer, Connection(3));
            switchboard.recognize(peer, Connection(3));
            switchboard.holders(peer, Connection(3), Vec::new());
        }
        assert!(*complete.borrow());
        switchboard.disconnected(peers[0]);
        switchboard.holders(peers[0], Connection(3), Vec::new());
        assert!(!*complete.borrow());
        let mut items = Vec::new();
        worker.take(&mut items).await;
        let heard: Vec<(Rank, bool)> = items
            .iter()
            .map(|item| match item {
                Item::PeerConnected(rank) => (*rank, true),
                Item::PeerDisconnected(rank) => (*rank, false),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            heard,
            [(peers[0], true), (peers[1], true), (peers[0], false)]
        );
        let mut items = Vec::new();
        keeper.take(&mut items).await;
        let heard: Vec<(Rank, &str)> = items
            .iter()
            .map(|item| match item {
                KeeperItem::PeerConnected(rank) => (*rank, "connected"),
                KeeperItem::PeerHolders(rank, _) => (*rank, "holders"),
                KeeperItem::PeerDisconnected(rank) => (*rank, "disconnected"),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(
            heard,
            [
                (peers[0], "connected"),
                (peers[0], "holders"),
                (peers[1], "connected"),
                (peers[1], "holders"),
                (peers[0], "disconnected"),
            ]
        );
    }
}
