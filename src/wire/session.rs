//! The key exchange of a session: from two hellos to two directions of sealed frames.
//!
//! Noise `NNpsk0_25519_AESGCM_SHA256`, by the crate `snow`. The prologue is the connector's hello
//! and the listener's, as sent. The pre-shared key is HMAC-SHA256(system or client key,
//! "atdd session v1" followed by the role's byte), so that a client's session can never pass as a
//! peer's.
//!
//! ```text
//! connector                                 listener
//!     | hello, 48 bytes ---------------------> |
//!     | <--------------------- hello, 48 bytes |  refuses only after its hello is sent
//!     | psk, e; 48 bytes --------------------> |
//!     | <--------------------- e, ee; 48 bytes |
//!     | first frame -------------------------> |  only now is the connector believed
//!     | <------------------------- first frame |
//! ```
//!
//! Whoever recorded the first message can send it again, but cannot go on: it has no ephemeral
//! key. So the listener acts on nothing before the first frame was opened.
//!
//! Everything here has a fixed size. The ephemeral secrets are passed in: 32 bytes, fresh each time
//! from a source of random bytes that is fit for keys.

use std::sync::Arc;

use snow::params::{CipherChoice, DHChoice, HashChoice, NoiseParams};
use snow::resolvers::{CryptoResolver, DefaultResolver, RingResolver};
use snow::types::{Cipher, Dh, Hash, Random};
use snow::{Builder, HandshakeState, StatelessTransportState};

use super::auth::{ClientKey, KeyIdentifier, SystemKey};
use super::frame::{Opener, Sealer};
use super::hello::{HELLO_BYTES, Hello, HelloError, Process, Role};
use crate::domain::{ClusterId, Rank};

/// The size of each of the two messages of the key exchange: an ephemeral key and a tag.
pub const EXCHANGE_BYTES: usize = 48;

/// The size of an ephemeral secret.
pub const EPHEMERAL_BYTES: usize = 32;

const PATTERN: &str = "Noise_NNpsk0_25519_AESGCM_SHA256";
const PSK_LABEL: &[u8] = b"atdd session v1";

/// A key that sessions may be opened with, ready for use.
#[derive(Clone)]
pub struct SessionKey {
    role: Role,
    psk: [u8; 32],
    identifier: KeyIdentifier,
}

impl SessionKey {
    /// For sessions between processes.
    pub fn peer(key: &SystemKey) -> Self {
        Self {
            role: Role::Peer,
            psk: key.derive(&[PSK_LABEL, &[Role::Peer.code()]]),
            identifier: key.identifier(),
        }
    }

    /// For sessions of clients.
    pub fn client(key: &ClientKey) -> Self {
        Self {
            role: Role::Client,
            psk: key.derive(&[PSK_LABEL, &[Role::Client.code()]]),
            identifier: key.identifier(),
        }
    }
}

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SessionKey({:?})", self.role)
    }
}

/// The connector's end, waiting for the listener's hello.
#[derive(Debug)]
pub struct Connector {
    hello: Hello,
    key: SessionKey,
    /// The process that is dialled.
    expected: Option<Rank>,
}

/// The connector's end, waiting for the listener's part of the exchange.
#[derive(Debug)]
pub struct Connecting {
    noise: HandshakeState,
    listener: Process,
}

/// What the listener's end knows of itself.
#[derive(Clone, Debug)]
pub struct Acceptor {
    /// This process.
    pub process: Process,
    /// Its cluster.
    pub cluster: ClusterId,
    /// The keys that it takes. While keys are changed there may be two for a role; the connector's
    /// hello says which is meant.
    pub keys: Vec<SessionKey>,
}

/// The listener's end, waiting for the connector's part of the exchange.
#[derive(Debug)]
pub struct Accepting {
    noise: HandshakeState,
    connector: Hello,
}

/// A session whose other end holds the key, or has repeated what someone wrote who does: nothing
/// may be done for it before its first frame was opened.
#[derive(Debug)]
pub struct Unproven {
    /// The connector's hello.
    pub connector: Hello,
    /// Seals what goes to the connector.
    pub sealer: Sealer,
    /// Opens what comes from the connector.
    pub opener: Opener,
}

/// A session with a listener that has proven to hold the key.
#[derive(Debug)]
pub struct Established {
    /// The listener's process.
    pub listener: Process,
    /// Seals what goes to the listener.
    pub sealer: Sealer,
    /// Opens what comes from the listener.
    pub opener: Opener,
}

impl Connector {
    /// A session of the key's role to `expected`, if the address should be a certain process's.
    /// The bytes are to be sent first.
    pub fn new(
        sender: Option<Process>,
        cluster: ClusterId,
        key: SessionKey,
        expected: Option<Rank>,
    ) -> (Self, [u8; HELLO_BYTES]) {
        let hello = Hello {
            role: key.role,
            sender,
            cluster,
            key: key.identifier,
        };
        let bytes = hello.to_bytes();
        let connector = Self {
            hello,
            key,
            expected,
        };
        (connector, bytes)
    }

    /// Takes the listener's hello. The bytes are to be sent next.
    pub fn hello(
        self,
        theirs: &[u8; HELLO_BYTES],
        ephemeral: [u8; EPHEMERAL_BYTES],
    ) -> Result<(Connecting, [u8; EXCHANGE_BYTES]), SessionError> {
        let hello = Hello::from_bytes(theirs)?;
        let listener = hello.sender.ok_or(HelloError::Role)?;
        check_cluster(&hello, self.hello.cluster)?;
        if let Some(own) = self.hello.sender {
            check_process(listener, own)?;
        }
        if let Some(expected) = self.expected.filter(|&rank| rank != listener.rank) {
            let theirs = listener.rank;
            return Err(HelloError::OtherRank { theirs, expected }.into());
        }
        if hello.role != self.key.role {
            return Err(HelloError::Role.into());
        }
        if hello.key != self.key.identifier {
            let role = self.key.role;
            return Err(HelloError::Key { role }.into());
        }
        let hellos = [self.hello.to_bytes(), *theirs];
        let mut noise = handshake(&self.key, &hellos, ephemeral, Side::Connector);
        let mut message = [0; EXCHANGE_BYTES];
        let length = noise
            .write_message(&[], &mut message)
            .map_err(SessionError::Exchange)?;
        assert_eq!(length, EXCHANGE_BYTES, "the first message has a fixed size");
        Ok((Connecting { noise, listener }, message))
    }
}

impl Connecting {
    /// Takes the listener's part of the exchange.
    pub fn exchange(mut self, theirs: &[u8; EXCHANGE_BYTES]) -> Result<Established, SessionError> {
        self.noise
            .read_message(theirs, &mut [])
            .map_err(|_| SessionError::NotAuthentic)?;
        let (sealer, opener) = transport(self.noise)?;
        Ok(Established {
            listener: self.listener,
            sealer,
            opener,
        })
    }
}

impl Acceptor {
    /// Takes a connector's hello. The bytes are to be sent in any case: even where the hello is
    /// refused they tell the connector's operator what differs, and nothing that is secret.
    pub fn hello(
        &self,
        theirs: &[u8; HELLO_BYTES],
        ephemeral: [u8; EPHEMERAL_BYTES],
    ) -> ([u8; HELLO_BYTES], Result<Accepting, SessionError>) {
        let connector = Hello::from_bytes(theirs);
        let role = connector.as_ref().map_or(Role::Peer, |hello| hello.role);
        let of_role = || self.keys.iter().filter(|key| key.role == role);
        let meant = connector.as_ref().ok().map(|hello| hello.key);
        let key = of_role().find(|key| Some(key.identifier) == meant);
        let shown = key.or_else(|| of_role().next());
        let ours = Hello {
            role,
            sender: Some(self.process),
            cluster: self.cluster,
            key: shown.map_or(KeyIdentifier([0; 8]), |key| key.identifier),
        };
        let ours = ours.to_bytes();
        let accepting = connector.and_then(|connector| {
            self.check(&connector)?;
            let key = key.ok_or(HelloError::Key { role })?;
            let noise = handshake(key, &[*theirs, ours], ephemeral, Side::Listener);
            Ok(Accepting { noise, connector })
        });
        (ours, accepting.map_err(SessionError::from))
    }

    fn check(&self, connector: &Hello) -> Result<(), HelloError> {
        check_cluster(connector, self.cluster)?;
        match (connector.role, connector.sender) {
            (Role::Peer, Some(theirs)) => check_process(theirs, self.process),
            (Role::Client, None) => Ok(()),
            _ => Err(HelloError::Role),
        }
    }
}

impl Accepting {
    /// Takes the connector's part of the exchange. The bytes are to be sent next.
    pub fn exchange(
        mut self,
        theirs: &[u8; EXCHANGE_BYTES],
    ) -> Result<(Unproven, [u8; EXCHANGE_BYTES]), SessionError> {
        self.noise
            .read_message(theirs, &mut [])
            .map_err(|_| SessionError::NotAuthentic)?;
        let mut message = [0; EXCHANGE_BYTES];
        let length = self
            .noise
            .write_message(&[], &mut message)
            .map_err(SessionError::Exchange)?;
        assert_eq!(
            length, EXCHANGE_BYTES,
            "the second message has a fixed size"
        );
        let (sealer, opener) = transport(self.noise)?;
        let unproven = Unproven {
            connector: self.connector,
            sealer,
            opener,
        };
        Ok((unproven, message))
    }
}

fn check_cluster(hello: &Hello, ours: ClusterId) -> Result<(), HelloError> {
    if hello.cluster == ours {
        Ok(())
    } else {
        let theirs = hello.cluster;
        Err(HelloError::Cluster { theirs, ours })
    }
}

fn check_process(theirs: Process, ours: Process) -> Result<(), HelloError> {
    if theirs.processes != ours.processes {
        let (theirs, ours) = (theirs.processes, ours.processes);
        Err(HelloError::Processes { theirs, ours })
    } else if theirs.rank == ours.rank {
        Err(HelloError::OwnRank { rank: ours.rank })
    } else {
        Ok(())
    }
}

#[derive(Copy, Clone)]
enum Side {
    Connector,
    Listener,
}

fn handshake(
    key: &SessionKey,
    hellos: &[[u8; HELLO_BYTES]; 2],
    ephemeral: [u8; EPHEMERAL_BYTES],
    side: Side,
) -> HandshakeState {
    let parameters: NoiseParams = PATTERN.parse().expect("the pattern is one that snow knows");
    let resolver = Box::new(Resolver { ephemeral });
    let prologue = hellos.concat();
    let builder = Builder::with_resolver(parameters, resolver)
        .psk(0, &key.psk)
        .and_then(|builder| builder.prologue(&prologue))
        .expect("each is set once");
    let state = match side {
        Side::Connector => builder.build_initiator(),
        Side::Listener => builder.build_responder(),
    };
    state.expect("the resolver has every primitive of the pattern")
}

fn transport(noise: HandshakeState) -> Result<(Sealer, Opener), SessionError> {
    let transport = StatelessTransportState::try_from(noise).map_err(SessionError::Exchange)?;
    let transport = Arc::new(transport);
    Ok((Sealer::new(Arc::clone(&transport)), Opener::new(transport)))
}

/// Ring's primitives where it has them (its AES-GCM is six times the default's here), and the
/// ephemeral secret that was passed in.
struct Resolver {
    ephemeral: [u8; EPHEMERAL_BYTES],
}

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        Some(Box::new(Ephemeral(Some(self.ephemeral))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        DefaultResolver.resolve_dh(choice)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        RingResolver.resolve_hash(choice)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        RingResolver.resolve_cipher(choice)
    }
}

/// Gives its bytes once: a second ephemeral key would be the first again.
struct Ephemeral(Option<[u8; EPHEMERAL_BYTES]>);

impl Random for Ephemeral {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), snow::Error> {
        match self.0.take() {
            Some(bytes) if out.len() == bytes.len() => {
                out.copy_from_slice(&bytes);
                Ok(())
            }
            _ => Err(snow::Error::Rng),
        }
    }
}

/// Why a session does not come to be.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// By the other end's hello.
    #[error(transparent)]
    Hello(#[from] HelloError),
    /// The other end has another key, or something between changed the bytes.
    #[error("its part of the key exchange is not authentic")]
    NotAuthentic,
    /// Our own part failed.
    #[error("the key exchange failed")]
    Exchange(#[source] snow::Error),
}

#[cfg(test)]
pub(super) mod tests;
