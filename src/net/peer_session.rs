//! Under construction.
use crate::domain::{Incarnation, Rank, Reply, RequestId};
use crate::wire::Introduction;

/// A session.
#[derive(Debug)]
pub struct PeerSession;

impl PeerSession {
    /// Who asks.
    pub fn rank(&self) -> Rank {
        todo!()
    }
    /// Its incarnation.
    pub fn incarnation(&self) -> Incarnation {
        todo!()
    }
    /// Its newest introduction.
    pub fn introduction(&self) -> Introduction {
        todo!()
    }
    /// Replies.
    pub fn reply(&self, _replies: Vec<Reply>) {
        todo!()
    }
    /// These are never answered.
    pub fn decline(&self, _requests: &[RequestId]) {
        todo!()
    }
}

/// All sessions.
#[derive(Debug, Default)]
pub struct PeerSessions;

impl PeerSessions {
    /// None.
    pub fn new() -> Self {
        Self
    }
    /// Replies to the newest session of a rank.
    pub fn reply(&self, _to: Rank, _replies: Vec<Reply>) {
        todo!()
    }
}
