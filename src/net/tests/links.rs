//! Single connections of links, over pipes: what depends on time runs while time stands still.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::link::*;
use super::support::*;
use crate::domain::{Answer, Held, Incarnation, Rank, Reply, Request, Runs, Vote};
use crate::net::link_connection::LinkConnection;
use crate::net::transport::{SealedReader, SealedWriter};
use crate::net::{NetError, PeerEvents, RegisterClient, Settings, Stage, handshake};
use crate::wire::{
    Acceptor, Asker, Connector, Credit, Introduction, PeerMessage, Process, SessionKey,
};

/// The other end of a link's connection, played by the test.
struct Peer {
    reader: SealedReader<ReadHalf<DuplexStream>>,
    writer: SealedWriter<WriteHalf<DuplexStream>>,
    asker: Asker,
}

impl Peer {
    async fn send(&mut self, message: &PeerMessage) {
        message.encode(self.asker, &mut self.writer.encoder);
        self.writer.flush().await.unwrap();
    }

    async fn introduce(&mut self, credit: Credit) {
        let introduction = introduction(2);
        self.send(&PeerMessage::Introduction {
            introduction,
            credit,
        })
        .await;
    }

    async fn receive(&mut self) -> Vec<PeerMessage> {
        let mut messages: Vec<Bytes> = Vec::new();
        while messages.is_empty() {
            self.reader.read(&mut messages).await.unwrap();
        }
        let decode = |message| PeerMessage::decode(message, self.asker).unwrap();
        messages.into_iter().map(decode).collect()
    }
}

struct Piped {
    peer: Peer,
    client: Arc<RegisterClient>,
    events: Arc<TestEvents>,
    connection: JoinHandle<NetError>,
    _introduction: watch::Sender<Introduction>,
}

/// A link of process 1 with a pipe that holds this many bytes, up to the link's introduction.
async fn piped(settings: &Settings, pipe_bytes: usize) -> Piped {
    let own = identity(1);
    let process = |rank| Process {
        rank,
        incarnation: own.incarnation,
        processes: own.processes,
    };
    let key = SessionKey::peer(&own.system_key);
    let acceptor = Acceptor {
        process: process(rank(2)),
        cluster: own.cluster,
        keys: vec![key.clone()],
    };
    let (mut ours, mut theirs) = duplex(pipe_bytes);
    let connector = Connector::new(Some(process(rank(1))), own.cluster, key, Some(rank(2)));
    let (established, unproven) = tokio::join!(
        handshake::connect(&mut ours, connector),
        handshake::accept(&mut theirs, &acceptor)
    );
    let (established, unproven) = (established.unwrap(), unproven.unwrap());

    let asker = Asker {
        rank: own.rank,
        incarnation: own.incarnation,
    };
    let client = RegisterClient::new(rank(2), String::new(), own.into(), settings);
    let events = Arc::new(TestEvents::default());
    let introduced = watch::Sender::new(introduction(1));
    let connection = tokio::spawn({
        let (client, events) = (client.clone(), events.clone());
        let introduction = introduced.subscribe();
        async move {
            let connection = LinkConnection::new(&client, split(ours), established, introduction);
            connection.run(&*events as &dyn PeerEvents).await
        }
    });
    let (read, write) = split(theirs);
    let mut peer = Peer {
        reader: SealedReader::new(read, unproven.opener),
        writer: SealedWriter::new(write, unproven.sealer),
        asker,
    };
    let first = PeerMessage::decode(peer.reader.first().await.unwrap(), asker).unwrap();
    let PeerMessage::Introduction {
        introduction: theirs,
        ..
    } = first
    else {
        panic!("not an introduction: {first:?}");
    };
    assert_eq!(theirs, introduction(1));
    Piped {
        peer,
        client,
        events,
        connection,
        _introduction: introduced,
    }
}

const CREDIT: Credit = Credit {
    requests: 100,
    bytes: 1 << 20,
};

#[tokio::test(start_paused = true)]
async fn heartbeats_go_both_ways_while_there_is_nothing_to_say() {
    let settings = Settings::default();
    let mut piped = piped(&settings, 1 << 20).await;
    piped.peer.introduce(CREDIT).await;
    let start = Instant::now();
    for beat in 1..=20 {
        assert_eq!(piped.peer.receive().await, [PeerMessage::Heartbeat]);
        assert_eq!(start.elapsed().as_secs(), beat, "one a second");
        piped.peer.send(&PeerMessage::Heartbeat).await;
    }
    assert!(!piped.connection.is_finished());
}

/// A listener that had news right after its introduction was taken for one that breaks the rules,
/// when both arrived at once: a cluster that was born just then began with a fault.
#[tokio::test(start_paused = true)]
async fn news_may_come_together_with_the_introduction() {
    let mut piped = piped(&Settings::default(), 1 << 20).await;
    for number in [2, 3] {
        let message = PeerMessage::Introduction {
            introduction: introduction(number),
            credit: CREDIT,
        };
        message.encode(piped.peer.asker, &mut piped.peer.writer.encoder);
    }
    piped.peer.writer.flush().await.unwrap();
    let connected = piped.events.next().await;
    assert!(matches!(connected, Event::Connected(..)), "{connected:?}");
    let news = piped.events.next().await;
    assert_eq!(news, Event::Introduced(rank(2), introduction(3)));
    assert!(!piped.connection.is_finished());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_is_found_dead() {
    let settings = Settings::default();
    let mut piped = piped(&settings, 1 << 20).await;
    piped.peer.introduce(CREDIT).await;
    let start = Instant::now();
    tokio::time::sleep(Duration::from_secs(2)).await;
    piped.peer.send(&PeerMessage::Heartbeat).await;
    let error = piped.connection.await.unwrap();
    assert!(matches!(error, NetError::Silent { .. }), "{error}");
    assert_eq!(
        start.elapsed(),
        Duration::from_secs(2) + settings.dead_after
    );
}

/// A peer that reads nothing holds the writer up, but not the reader; and as it says nothing
/// either, it is found dead with the writer still waiting.
#[tokio::test(start_paused = true)]
async fn a_stopped_peer_is_found_dead_while_the_pipe_is_full() {
    let settings = Settings::default();
    let mut piped = piped(&settings, 8 << 10).await;
    piped.peer.introduce(CREDIT).await;
    piped.events.next().await;
    let own = identity(1);
    piped
        .client
        .send((0..20).map(|sequence| store(&own, sequence)).collect());
    tokio::time::sleep(Duration::from_secs(1)).await;
    // Its reply is heard, although nothing more can be written to it.
    piped
        .peer
        .send(&PeerMessage::Reply(stored(store(&own, 0).id)))
        .await;
    let reply = piped.events.next().await;
    assert_eq!(reply, Event::Reply(rank(2), stored(store(&own, 0).id)));
    let start = Instant::now();
    let error = piped.connection.await.unwrap();
    assert!(matches!(error, NetError::Silent { .. }), "{error}");
    assert_eq!(start.elapsed(), settings.dead_after);
}

#[tokio::test(start_paused = true)]
async fn an_introduction_has_a_deadline() {
    let settings = Settings::default();
    let piped = piped(&settings, 1 << 20).await;
    let start = Instant::now();
    let error = piped.connection.await.unwrap();
    assert!(matches!(error, NetError::Deadline { .. }), "{error}");
    assert_eq!(start.elapsed(), settings.handshake_deadline);
    assert!(piped.events.0.lock().is_empty());
}

#[tokio::test(start_paused = true)]
async fn everything_queued_goes_out_together() {
    let mut piped = piped(&Settings::default(), 1 << 20).await;
    piped.peer.introduce(CREDIT).await;
    piped.events.next().await;
    let own = identity(1);
    let requests: Vec<_> = (0..10).map(|sequence| store(&own, sequence)).collect();
    piped.client.send(requests[..4].to_vec());
    piped.client.send(requests[4..].to_vec());
    let received = piped.peer.receive().await;
    assert_eq!(
        received,
        requests
            .into_iter()
            .map(PeerMessage::Request)
            .collect::<Vec<_>>()
    );
}

/// A process that is born right after it introduced itself, or a connector that slept meanwhile.
#[tokio::test(start_paused = true)]
async fn what_comes_together_with_the_introduction_is_heard_as_well() {
    let mut piped = piped(&Settings::default(), 1 << 20).await;
    let (first, second) = (introduction(2), introduction(3));
    for introduction in [first.clone(), second.clone()] {
        let credit = CREDIT;
        let message = PeerMessage::Introduction {
            introduction,
            credit,
        };
        message.encode(piped.peer.asker, &mut piped.peer.writer.encoder);
    }
    piped.peer.writer.flush().await.unwrap();
    let connected = Event::Connected(rank(2), identity(1).incarnation, first);
    assert_eq!(piped.events.next().await, connected);
    let introduced = Event::Introduced(rank(2), second);
    assert_eq!(piped.events.next().await, introduced);
    assert!(!piped.connection.is_finished());
}

#[track_caller]
fn ends(message: PeerMessage, words: &'static str) -> impl Future<Output = ()> {
    let caller = std::panic::Location::caller();
    async move {
        let mut piped = piped(&Settings::default(), 1 << 20).await;
        piped.peer.introduce(CREDIT).await;
        piped.events.next().await;
        piped.client.send(vec![store(&identity(1), 1)]);
        assert_eq!(piped.peer.receive().await.len(), 1);
        piped.peer.send(&message).await;
        let error = piped.connection.await.unwrap().to_string();
        assert!(error.contains(words), "at {caller}: {error}");
        assert!(piped.events.0.lock().is_empty(), "at {caller}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_no_correct_peer_says_ends_the_connection() {
    let own = identity(1);
    let unasked = stored(store(&own, 2).id);
    ends(
        PeerMessage::Reply(unasked),
        "answers nothing that was asked",
    )
    .await;
    let never = store(&own, 2).id;
    ends(
        PeerMessage::Declined(never),
        "answers nothing that was asked",
    )
    .await;
    let mut wrong = stored(store(&own, 1).id);
    wrong.answer = Answer::Held(Held {
        votes: Runs::uniform(1, Vote::ZERO),
        values: Vec::new(),
    });
    ends(PeerMessage::Reply(wrong), "does not fit its request").await;
    ends(PeerMessage::Request(store(&own, 3)), "type 0x12").await;
}

/// Sends from within the event, as a process may.
struct Eager {
    client: OnceLock<Arc<RegisterClient>>,
    request: Request,
}

impl PeerEvents for Eager {
    fn connected(&self, _peer: Rank, _incarnation: Incarnation, _introduction: Introduction) {
        let client = self.client.get().unwrap();
        client.send(vec![self.request.clone()]);
    }

    fn introduced(&self, _peer: Rank, _introduction: Introduction) {}

    fn disconnected(&self, _peer: Rank) {}

    fn replies(&self, _from: Rank, _replies: Vec<Reply>) {}
}

/// What the event of a new connection makes the process send must not be lost: nothing would send
/// it again before the next connection.
#[tokio::test]
async fn what_is_sent_on_hearing_of_the_connection_is_not_lost() {
    let server = Server::start(Settings::default()).await;
    let own = Arc::new(identity(1));
    let eager = Arc::new(Eager {
        client: OnceLock::new(),
        request: store(&own, 1),
    });
    let address = server.address.to_string();
    let client = RegisterClient::new(rank(2), address, own, &Settings::default());
    assert!(eager.client.set(client.clone()).is_ok());
    let introduction = watch::Sender::new(introduction(1));
    let stage = watch::Sender::new(Stage::Running);
    let running = tokio::spawn(client.run(eager, introduction.subscribe(), stage.subscribe()));
    server
        .host
        .asked
        .wait(|asked| (asked.len() == 1).then_some(()))
        .await;
    stage.send_replace(Stage::Stopped);
    running.await.unwrap();
    server.stop().await;
}
