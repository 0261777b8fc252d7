//! Sockets: the listener, classic connections, sessions and the links to peers.
//!
//! ```text
//!  clients, peers                                            peers
//!       |                                                      ^
//!   Listener -- arrival --+-- ClassicConnection -- Disk        |
//!       |                 +-- PeerConnection ---- Host    LinkConnection
//!   Connections           |     AttachedConnection -- Host     |
//!                         +-- ClientSession ----- Host         |
//!                                                       RegisterClient -- PeerEvents
//!  a process
//!       |
//!   ClientConnection -- the client library, operators' questions
//! ```
//!
//! Between two processes there are two connections: on each its connector asks, and its listener
//! answers. A connection is one task, in which both directions run side by side, so that whichever
//! ends first ends it. Every task has an owner that awaits it: `Listener::serve` those of
//! connections, and the process [`RegisterClient::run`].
//!
//! What is kept, and what bounds it:
//!
//! | what | bound |
//! |---|---|
//! | connections | [`Settings::connections_max`], [`Settings::clients_max`], and a session for each peer |
//! | requests of a classic client, with their responses | [`Settings::classic_in_flight_max`]; then it is not read |
//! | requests of an attached classic client, with their responses | [`Settings::client_credit`], and one more; then it is not read |
//! | requests of a peer, with their replies | the credit that it was granted; beyond it is a fault |
//! | questions of a client's session, with their answers | the credit that it was granted; beyond it is a fault |
//! | requests to a peer that are under way | the credit that it grants |
//! | requests to a peer that wait | admission of client requests, and [`Settings::queue_requests_max`] and [`Settings::queue_bytes_max`] for what is finished |
//! | bytes that were received | a message, once its connection is authenticated; before that half a request, or a first frame |
//! | bytes to be sent | what is under way, and one write of sealed frames |
//!
//! Only a classic client ever waits for one of these bounds: a reader of a session never stops
//! because something is to be written. So no two processes can wait for one another.
//!
//! Everything runs as well on a runtime of one thread. What the process is asked, and what comes
//! back to it, is handed over by the batch.

mod absence;
mod arrival;
mod attached_connection;
mod attaching;
mod classic;
mod classic_stream;
mod client_connection;
mod client_questions;
mod client_session;
mod connections;
mod error;
mod failures;
mod gather;
mod handshake;
mod host;
mod identity;
mod link_connection;
mod link_queue;
mod listener;
mod peer_connection;
mod peer_link;
mod peer_session;
mod peer_sessions;
mod refusals;
mod settings;
mod socket;
mod stage;
mod transport;

#[cfg(test)]
pub(crate) mod tests;

pub use client_connection::{ClientConnection, ClientLimits, ClientReceiver, ClientSender};
pub use client_questions::{fetch_attachments, fetch_status, release_attachment};
pub use connections::Connections;
pub use error::NetError;
pub use host::{Attached, Disk, DiskError, Host, NeverAttached, PeerEvents};
pub use identity::Identity;
pub use listener::{Listener, Services};
pub use peer_link::{LinkState, RegisterClient};
pub use peer_session::PeerSession;
pub use peer_sessions::PeerSessions;
pub use settings::Settings;
pub use stage::Stage;
