//! The bounds of everything that the network keeps, and its times.

use std::time::Duration;

use crate::wire::Credit;

/// Bounds and times. The default is right for a cluster of a few processes within 1024
/// descriptors, and is what tests tighten.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Connections of clients and of those who have not said who they are, together. When there
    /// are as many, the oldest unauthenticated one is closed for a new one. Sessions of peers are
    /// not among them: there is one for each rank.
    pub connections_max: usize,
    /// Of those, how many may be authenticated clients. What is left is always there for
    /// connections that may turn out to be peers.
    pub clients_max: usize,
    /// Of [`Self::connections_max`], how many may come from one address.
    pub per_address_max: usize,
    /// Requests of one classic connection that are under way at once; at the most it is not read
    /// any further.
    pub classic_in_flight_max: usize,
    /// Wrong tags that a classic connection may send in a row at full speed.
    pub auth_failures_burst: u32,
    /// How long nothing is read after each further wrong tag.
    pub auth_failure_pause: Duration,
    /// What a peer may have under way here: requests, and the bytes that they and their replies
    /// carry.
    pub credit: Credit,
    /// Requests that wait for a peer's credit; beyond it those of finished operations are dropped.
    pub queue_requests_max: u32,
    /// The bytes of those requests and their replies.
    pub queue_bytes_max: u64,
    /// How long a connection may take to be established.
    pub connect_deadline: Duration,
    /// How long a session may take from its hello to its first authenticated message.
    pub handshake_deadline: Duration,
    /// After so long without sending anything, a heartbeat is sent.
    pub heartbeat_after: Duration,
    /// After so long without receiving anything, the other end counts as dead.
    pub dead_after: Duration,
    /// After so long without sending anything to a client, a heartbeat is sent. More often than to
    /// peers: a client is to go on through another process within two seconds.
    pub client_heartbeat_after: Duration,
    /// After so long without receiving anything from a client its session is dropped, with what it
    /// has attached.
    pub client_dead_after: Duration,
    /// What a client may have under way in its session: questions, and the bytes that they and
    /// their answers carry.
    pub client_credit: Credit,
    /// The shortest pause before connecting again.
    pub reconnect_min: Duration,
    /// The longest pause before connecting again.
    pub reconnect_max: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connections_max: 768,
            clients_max: 704,
            per_address_max: 704,
            classic_in_flight_max: 256,
            auth_failures_burst: 32,
            auth_failure_pause: Duration::from_millis(100),
            credit: Credit {
                requests: 2048,
                bytes: 16 << 20,
            },
            queue_requests_max: 8192,
            queue_bytes_max: 32 << 20,
            connect_deadline: Duration::from_secs(3),
            handshake_deadline: Duration::from_secs(3),
            heartbeat_after: Duration::from_secs(1),
            dead_after: Duration::from_secs(3),
            client_heartbeat_after: Duration::from_millis(500),
            client_dead_after: Duration::from_secs(3),
            client_credit: Credit {
                requests: 1024,
                bytes: 32 << 20,
            },
            reconnect_min: Duration::from_millis(50),
            reconnect_max: Duration::from_secs(1),
        }
    }
}
