//! Sockets: the listener, classic connections, sessions and the links to peers.

mod absence;
mod arrival;
mod classic;
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
mod status_client;
mod transport;

#[cfg(test)]
mod tests;

pub use connections::Connections;
pub use error::NetError;
pub use host::{Disk, DiskError, Host, PeerEvents};
pub use identity::Identity;
pub use listener::{Listener, Services};
pub use peer_link::{LinkState, RegisterClient};
pub use peer_session::PeerSession;
pub use peer_sessions::PeerSessions;
pub use settings::Settings;
pub use stage::Stage;
pub use status_client::fetch_status;
