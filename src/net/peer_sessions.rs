//! The sessions of all peers: at most one for each rank.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::{NetError, PeerSession};
use crate::domain::{Incarnation, Rank, Reply};

/// The peers that ask this process.
#[derive(Debug, Default)]
pub struct PeerSessions {
    peers: Mutex<BTreeMap<Rank, Peer>>,
}

#[derive(Debug)]
struct Peer {
    /// The latest that was seen: an earlier one is a thing of the past, or of a copied store.
    incarnation: Incarnation,
    session: Option<Arc<PeerSession>>,
}

impl PeerSessions {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Answers the newest session of the process `to`, as [`PeerSession::reply`] does.
    pub fn reply(&self, to: Rank, replies: Vec<Reply>) {
        if let Some(session) = self.session(to) {
            session.reply(replies);
        }
    }

    /// The newest session of this process, if it has one.
    pub fn session(&self, rank: Rank) -> Option<Arc<PeerSession>> {
        self.lock().get(&rank)?.session.clone()
    }

    /// The processes that have a session, ascending.
    pub fn connected(&self) -> Vec<Rank> {
        let peers = self.lock();
        let connected = peers.iter().filter(|(_, peer)| peer.session.is_some());
        connected.map(|(&rank, _)| rank).collect()
    }

    /// Takes a session that was just authenticated. It ends an older one of the same process.
    pub(super) fn enter(&self, session: &Arc<PeerSession>) -> Result<(), NetError> {
        let (rank, theirs) = (session.rank(), session.incarnation());
        let mut peers = self.lock();
        let peer = peers.entry(rank).or_insert(Peer {
            incarnation: theirs,
            session: None,
        });
        if theirs < peer.incarnation {
            let seen = peer.incarnation;
            return Err(NetError::Outdated { rank, theirs, seen });
        }
        peer.incarnation = theirs;
        let older = peer.session.replace(Arc::clone(session));
        drop(peers);
        if let Some(older) = older {
            older.end(NetError::Superseded(rank));
        }
        Ok(())
    }

    /// Forgets a session that has ended, unless a newer one took its place.
    pub(super) fn leave(&self, session: &Arc<PeerSession>) {
        let mut peers = self.lock();
        if let Some(peer) = peers.get_mut(&session.rank())
            && peer
                .session
                .as_ref()
                .is_some_and(|present| Arc::ptr_eq(present, session))
        {
            peer.session = None;
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Rank, Peer>> {
        self.peers.lock().expect("nobody panics with the lock")
    }
}
