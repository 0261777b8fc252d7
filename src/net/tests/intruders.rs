//! Those who do not belong here: refused with one line in the log each, and no harm to others.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tracing::Level;

use super::classic_client::*;
use super::link::*;
use super::log::Log;
use super::support::*;
use crate::domain::{ClusterId, Incarnation};
use crate::net::transport::{SealedReader, SealedWriter};
use crate::net::{Identity, Settings, handshake};
use crate::wire::{
    Asker, ClientKey, Connector, Credit, PeerMessage, Process, SESSION_MAGIC, SessionKey, SystemKey,
};

/// Whatever these bytes are, sent as a connection's first, the connection is closed, with one line
/// that has these words, and a good client notices nothing.
async fn refused(server: &Server, log: &Log, bytes: &[u8], words: &str) {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    timeout(PATIENCE, closed(&mut stream))
        .await
        .expect("closed");
    drop(stream);
    log.only_line(words).await;
    server.assert_serves().await;
    assert!(server.peers.connected().is_empty());
}

fn connector(identity: &Identity) -> (Connector, [u8; 48]) {
    let process = Process {
        rank: identity.rank,
        incarnation: identity.incarnation,
        processes: identity.processes,
    };
    let key = SessionKey::peer(&identity.system_key);
    Connector::new(Some(process), identity.cluster, key, Some(rank(2)))
}

#[tokio::test]
async fn hellos_that_do_not_fit_are_refused() {
    let (log, _guard) = Log::start(Level::WARN);
    let server = Server::start(Settings::default()).await;
    let hello = |change: &dyn Fn(&mut Identity)| {
        let mut identity = identity(1);
        change(&mut identity);
        connector(&identity).1
    };
    for (change, words) in [
        (
            &(|of: &mut Identity| of.cluster = ClusterId([9; 16])) as &dyn Fn(&mut Identity),
            "belongs to cluster 0909",
        ),
        (&|of: &mut Identity| of.processes = 5, "has 5 processes"),
        (
            &|of: &mut Identity| of.rank = rank(2),
            "the rank of this very process",
        ),
        (
            &|of: &mut Identity| of.system_key = SystemKey::new(&[1; 64]),
            "system key is another one",
        ),
    ] {
        refused(&server, &log, &hello(change), words).await;
    }
    let key = SessionKey::client(&ClientKey::new(&[1; 32]));
    let (_, client) = Connector::new(None, identity(2).cluster, key, None);
    refused(&server, &log, &client, "client key is another one").await;
    let mut version = hello(&|_| ());
    version[9] = 7;
    refused(&server, &log, &version, "speaks version 7").await;
    let mut garbage = SESSION_MAGIC.to_vec();
    garbage.extend([0xff; 40]);
    refused(&server, &log, &garbage, "speaks version 65535").await;
    let mut exchange = hello(&|_| ()).to_vec();
    exchange.extend([0x55; 48]);
    refused(&server, &log, &exchange, "key exchange is not authentic").await;
    server.stop().await;
}

/// The other end of the same refusals: the connector's log says what differs too.
#[tokio::test]
async fn a_refused_connector_says_why() {
    let server = Server::start(Settings::default()).await;
    let quick = Settings {
        reconnect_min: Duration::from_millis(1),
        reconnect_max: Duration::from_millis(2),
        ..Settings::default()
    };
    let change = |change: &dyn Fn(&mut Identity)| {
        let mut identity = identity(1);
        change(&mut identity);
        identity
    };
    for (identity, words) in [
        (
            change(&|of| of.cluster = ClusterId([9; 16])),
            "belongs to cluster 0101",
        ),
        (
            change(&|of| of.processes = 5),
            "has 3 processes, this one's has 5",
        ),
        (
            change(&|of| of.rank = rank(2)),
            "the rank of this very process",
        ),
        (
            change(&|of| of.system_key = SystemKey::new(&[1; 64])),
            "system key is another one",
        ),
    ] {
        let (log, guard) = Log::start(Level::WARN);
        let link = Link::start(identity, server.address, &quick);
        let first = || {
            log.lines()
                .into_iter()
                .find(|line| line.contains("no link to process 2"))
        };
        eventually(|| first().is_some()).await;
        // It tries again and again, and does not say so again and again.
        tokio::time::sleep(Duration::from_millis(30)).await;
        let lines = log.lines();
        let said: Vec<_> = lines
            .iter()
            .filter(|line| line.contains("no link"))
            .collect();
        assert!(
            matches!(said[..], [only] if only.contains(words)),
            "{lines:#?}"
        );
        assert!(link.events.0.lock().is_empty());
        link.stop().await;
        drop(guard);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_session_that_does_not_go_on_has_a_deadline() {
    let settings = Settings {
        handshake_deadline: Duration::from_millis(50),
        ..Settings::default()
    };
    let (_, hello) = connector(&identity(1));
    for bytes in [&SESSION_MAGIC[..], &hello] {
        let (log, _guard) = Log::start(Level::WARN);
        let server = Server::start(settings.clone()).await;
        refused(&server, &log, bytes, "took more than 50ms").await;
        server.stop().await;
    }
}

/// Everything that goes between a link and the listener, as someone in the middle sees it.
struct Middle {
    address: std::net::SocketAddr,
    upward: tokio::task::JoinHandle<(Vec<u8>, Vec<u8>)>,
}

impl Middle {
    /// Passes one connection on, and flips one bit after so many bytes towards the listener.
    async fn start(to: std::net::SocketAddr, flip: Option<usize>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let upward = tokio::spawn(async move {
            let (mut near, _) = listener.accept().await.unwrap();
            drop(listener);
            let mut far = TcpStream::connect(to).await.unwrap();
            let (mut up, mut down) = (Vec::new(), Vec::new());
            let (mut from_near, mut from_far) = ([0; 4096], [0; 4096]);
            loop {
                tokio::select! {
                    read = near.read(&mut from_near) => match read {
                        Ok(1..) => {
                            let bytes = &mut from_near[..read.unwrap()];
                            let place = flip.and_then(|at| at.checked_sub(up.len()));
                            if let Some(byte) = place.and_then(|at| bytes.get_mut(at)) {
                                *byte ^= 4;
                            }
                            up.extend_from_slice(bytes);
                            if far.write_all(bytes).await.is_err() {
                                return (up, down);
                            }
                        }
                        _ => return (up, down),
                    },
                    read = far.read(&mut from_far) => match read {
                        Ok(1..) => {
                            let bytes = &from_far[..read.unwrap()];
                            down.extend_from_slice(bytes);
                            if near.write_all(bytes).await.is_err() {
                                return (up, down);
                            }
                        }
                        _ => return (up, down),
                    },
                }
            }
        });
        Self { address, upward }
    }
}

#[tokio::test]
async fn a_recorded_session_is_worth_nothing() {
    let (log, _guard) = Log::start(Level::WARN);
    let server = Server::start(Settings::default()).await;
    *server.host.prompt.lock().unwrap() = true;
    let middle = Middle::start(server.address, None).await;
    let link = Link::start(identity(1), middle.address, &Settings::default());
    link.connected().await;
    link.client.send(vec![link.store(1)]);
    assert_eq!(
        link.events.next().await,
        Event::Reply(rank(2), stored(link.store(1).id))
    );
    *server.host.prompt.lock().unwrap() = false;
    link.stop().await;
    let (up, down) = timeout(PATIENCE, middle.upward).await.unwrap().unwrap();
    eventually(|| server.peers.connected().is_empty()).await;
    server.host.introduced.change(Vec::clear);

    // Both hellos are the same as then, but not the listener's part of the exchange.
    refused(&server, &log, &up, "a frame is not authentic").await;
    // Its own bytes, sent back to it.
    refused(&server, &log, &down, "the rank of this very process").await;
    assert!(
        server.host.introduced.lock().is_empty(),
        "nothing was acted on"
    );
    assert!(server.host.asked.lock().is_empty());
    server.stop().await;
}

/// A replay of a session's beginning does not disturb the session that is there.
#[tokio::test]
async fn a_replay_does_not_end_the_session_that_it_repeats() {
    let (log, _guard) = Log::start(Level::WARN);
    let server = Server::start(Settings::default()).await;
    *server.host.prompt.lock().unwrap() = true;
    let middle = Middle::start(server.address, None).await;
    let link = Link::start(identity(1), middle.address, &Settings::default());
    link.connected().await;
    link.stop().await;
    let (up, _) = timeout(PATIENCE, middle.upward).await.unwrap().unwrap();
    let link = Link::start(identity(1), server.address, &Settings::default());
    link.connected().await;

    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&up).await.unwrap();
    timeout(PATIENCE, closed(&mut stream))
        .await
        .expect("closed");
    log.only_line("a frame is not authentic").await;
    link.client.send(vec![link.store(1)]);
    assert_eq!(
        link.events.next().await,
        Event::Reply(rank(2), stored(link.store(1).id))
    );
    link.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_changed_bit_ends_the_session_and_is_never_acted_on() {
    let server = Server::start(Settings::default()).await;
    // In the exchange, the first frame's length and body, and a request's frame.
    for at in [60, 97, 120, 200, 3000] {
        let (log, guard) = Log::start(Level::WARN);
        let middle = Middle::start(server.address, Some(at)).await;
        let quick = Settings {
            handshake_deadline: Duration::from_millis(100),
            dead_after: Duration::from_millis(200),
            heartbeat_after: Duration::from_millis(50),
            ..Settings::default()
        };
        let link = Link::start(identity(1), middle.address, &quick);
        // If the session comes to be, its first request is the one that is changed.
        tokio::select! {
            () = link.connected() => link.client.send(vec![link.store(1)]),
            () = log.some_line("no link to process 2") => {}
        }
        log.some_line("no link to process 2").await;
        assert!(server.host.asked.lock().is_empty(), "byte {at}");
        link.stop().await;
        drop(guard);
    }
    server.assert_serves().await;
    server.stop().await;
}

/// A peer that holds the key, and does not keep to the rules.
struct Evil {
    reader: SealedReader<tokio::net::tcp::OwnedReadHalf>,
    writer: SealedWriter<tokio::net::tcp::OwnedWriteHalf>,
    identity: Identity,
}

impl Evil {
    async fn connect(server: &Server) -> Self {
        let identity = identity(1);
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let established = handshake::connect(&mut stream, connector(&identity))
            .await
            .unwrap();
        let (read, write) = stream.into_split();
        Self {
            reader: SealedReader::new(read, established.opener),
            writer: SealedWriter::new(write, established.sealer),
            identity,
        }
    }

    fn asker(&self) -> Asker {
        Asker {
            rank: self.identity.rank,
            incarnation: self.identity.incarnation,
        }
    }

    async fn send(&mut self, messages: &[PeerMessage]) {
        let asker = self.asker();
        for message in messages {
            message.encode(asker, &mut self.writer.encoder);
        }
        self.writer.flush().await.unwrap();
    }

    async fn introduce(&mut self) {
        let credit = Credit {
            requests: 0,
            bytes: 0,
        };
        let introduction = introduction(1);
        self.send(&[PeerMessage::Introduction {
            introduction,
            credit,
        }])
        .await;
        self.reader.first().await.unwrap();
    }

    async fn closed(mut self, log: &Log, words: &str) {
        let mut messages = Vec::new();
        while self.reader.read(&mut messages).await.is_ok() {}
        log.only_line(words).await;
    }
}

#[tokio::test]
async fn a_peer_that_breaks_the_rules_is_closed() {
    let (log, _guard) = Log::start(Level::WARN);
    let settings = Settings {
        credit: Credit {
            requests: 2,
            bytes: 10_000,
        },
        ..Settings::default()
    };
    let server = Server::start(settings).await;
    let own = identity(1);
    let ask = |sequence| PeerMessage::Request(store(&own, sequence));

    let mut evil = Evil::connect(&server).await;
    evil.send(&[ask(1)]).await;
    evil.closed(&log, "did not introduce itself").await;

    let mut evil = Evil::connect(&server).await;
    evil.introduce().await;
    evil.send(&[ask(1), ask(2), ask(3)]).await;
    evil.closed(&log, "more than its credit").await;

    let mut evil = Evil::connect(&server).await;
    evil.introduce().await;
    evil.send(&[ask(1), ask(1)]).await;
    evil.closed(&log, "the same twice at once").await;

    let mut evil = Evil::connect(&server).await;
    evil.introduce().await;
    evil.send(&[PeerMessage::Reply(stored(store(&own, 1).id))])
        .await;
    evil.closed(&log, "type 0x21").await;

    let lower = Identity {
        incarnation: Incarnation(9),
        ..identity(1)
    };
    let link = Link::start(lower, server.address, &Settings::default());
    eventually(|| {
        let mut lines = log.lines().into_iter();
        lines.any(|line| line.contains("as incarnation 9, but 10 was there"))
    })
    .await;
    link.stop().await;
    assert!(server.host.asked.lock().is_empty());
    server.stop().await;
}

/// A thousand connections that say nothing, from the address of the good clients.
#[tokio::test]
async fn a_thousand_silent_connections_keep_nobody_out() {
    let server = Server::start(Settings::default()).await;
    let mut early = server.connect().await;
    early.send(&read(1, 1)).await;
    assert_eq!(early.receive().await.number, 1);
    let link = Link::start(identity(1), server.address, &Settings::default());
    link.connected().await;

    let mut silent = Vec::new();
    for number in 0..1000 {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        // Some are in the middle of something.
        match number % 4 {
            0 => stream.write_all(&SESSION_MAGIC[..3]).await.unwrap(),
            1 => stream
                .write_all(&encoded(&write(1, 1, 1))[..4000])
                .await
                .unwrap(),
            2 => stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap(),
            _ => {}
        }
        silent.push(stream);
        if number % 100 == 0 {
            server.assert_serves().await;
        }
    }
    let open = server.connections.unauthenticated() + server.connections.clients();
    assert!(open <= Settings::default().connections_max, "{open}");
    // The oldest made room, the newest are there still.
    timeout(PATIENCE, closed(&mut silent[0]))
        .await
        .expect("closed");
    early.send(&read(2, 1)).await;
    assert_eq!(early.receive().await.number, 2);
    server.assert_serves().await;
    let second = Link::start(identity(3), server.address, &Settings::default());
    second.connected().await;
    assert!(link.events.0.lock().is_empty());
    drop(silent);
    link.stop().await;
    second.stop().await;
    server.stop().await;
}

/// As many clients as there may be, all of them good: a peer still gets through.
#[tokio::test]
async fn clients_leave_room_for_peers() {
    let (log, _guard) = Log::start(Level::WARN);
    let settings = Settings {
        connections_max: 6,
        clients_max: 4,
        ..Settings::default()
    };
    let server = Server::start(settings).await;
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = server.connect().await;
        client.send(&read(1, 1)).await;
        client.receive().await;
        clients.push(client);
    }
    let mut fifth = server.connect().await;
    fifth.send(&read(1, 1)).await;
    fifth.assert_closed().await;
    log.only_line("as many clients are connected as may be")
        .await;
    let link = Link::start(identity(1), server.address, &Settings::default());
    link.connected().await;
    clients.pop();
    eventually(|| server.connections.clients() == 3).await;
    server.assert_serves().await;
    link.stop().await;
    server.stop().await;
}
