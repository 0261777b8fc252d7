//! Sockets: the listener, classic connections, sessions and the links to peers.

mod connections;
mod host;
mod identity;
mod listener;
mod peer_link;
mod peer_session;
mod settings;
mod status_client;

pub use connections::Connections;
pub use host::{Disk, DiskError, Host, PeerEvents, Stage};
pub use identity::Identity;
pub use listener::{Listener, Services};
pub use peer_link::{LinkState, RegisterClient};
pub use peer_session::{PeerSession, PeerSessions};
pub use settings::Settings;
pub use status_client::{SessionError, fetch_status};
