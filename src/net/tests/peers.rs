//! Sessions between processes, over sockets.

use std::sync::Arc;
use std::time::Duration;

use tracing::Level;

use super::link::*;
use super::log::Log;
use super::support::*;
use crate::domain::{
    Answer, Birth, ClusterId, Held, Incarnation, Question, Reply, Runs, StoreId, Vote,
};
use crate::net::{Identity, LinkState, NetError, Settings, Stage, fetch_status};
use crate::wire::{ClientKey, Credit};

fn settings() -> Settings {
    Settings {
        reconnect_min: Duration::from_millis(5),
        reconnect_max: Duration::from_millis(20),
        ..Settings::default()
    }
}

fn tiny() -> Settings {
    Settings {
        credit: Credit {
            requests: 2,
            bytes: 12_000,
        },
        queue_requests_max: 4,
        queue_bytes_max: 100_000,
        ..settings()
    }
}

#[tokio::test]
async fn a_question_finds_its_answer() {
    let server = Server::start(settings()).await;
    let link = Link::start(identity(1), server.address, &settings());
    let connected = link.events.next().await;
    assert_eq!(
        connected,
        Event::Connected(rank(2), Incarnation(10), introduction(2))
    );
    let greeted = server.host.introduced.wait(Vec::pop).await;
    assert_eq!(greeted, (rank(1), introduction(1)));
    assert_eq!(server.peers.connected(), [rank(1)]);

    let question = Question::Stamps { range: range(8, 2) };
    let asked = request(&link.identity, 1, question);
    link.client.send(vec![asked.clone(), link.store(2)]);
    let (session, received) = server
        .host
        .asked
        .wait(|all| (all.len() == 2).then(|| all.remove(0)))
        .await;
    assert_eq!(received, asked);
    assert_eq!(
        (session.rank(), session.incarnation()),
        (rank(1), Incarnation(10))
    );
    let in_flight = LinkState {
        connected: Some(Incarnation(10)),
        in_flight: 2,
        ..LinkState::default()
    };
    assert_eq!(link.client.state(), in_flight);
    let held = Reply {
        id: asked.id,
        answer: Answer::Held(Held {
            votes: Runs::uniform(2, Vote::ZERO),
            values: Vec::new(),
        }),
    };
    // A second answer to the same question goes nowhere.
    session.reply(vec![held.clone(), held.clone()]);
    session.reply(vec![held.clone()]);
    server.peers.reply(rank(3), vec![held.clone()]);
    server.peers.reply(rank(1), vec![stored(link.store(2).id)]);
    assert_eq!(link.events.next().await, Event::Reply(rank(2), held));
    assert_eq!(
        link.events.next().await,
        Event::Reply(rank(2), stored(link.store(2).id))
    );
    assert_eq!(link.client.state().in_flight, 0);
    link.stop().await;
    eventually(|| server.peers.connected().is_empty()).await;
    server.stop().await;
}

#[tokio::test]
async fn news_reach_both_ends() {
    let server = Server::start(settings()).await;
    let link = Link::start(identity(1), server.address, &settings());
    link.connected().await;
    server.host.introduced.wait(Vec::pop).await;
    let birth = Birth {
        stores: vec![Some(StoreId([1; 16])), None, Some(StoreId([3; 16]))],
    };
    let mut born = introduction(2);
    born.birth = Some(birth.clone());
    server.introduction.send_replace(born.clone());
    assert_eq!(link.events.next().await, Event::Introduced(rank(2), born));
    let mut born = introduction(1);
    born.birth = Some(birth);
    link.introduction.send_replace(born.clone());
    assert_eq!(server.host.introduced.wait(Vec::pop).await, (rank(1), born));
    link.stop().await;
    server.stop().await;
}

/// What was sent without a connection, or lost with one, is sent again by the register when it
/// hears of the new one; the link itself keeps nothing.
#[tokio::test]
async fn a_link_comes_back_after_the_listener_did() {
    let (log, _guard) = Log::start(Level::WARN);
    let server = Server::start(settings()).await;
    let address = server.address;
    let link = Link::start(identity(1), address, &settings());
    link.client.send(vec![link.store(1)]);
    link.connected().await;
    link.client.send(vec![link.store(2)]);
    let (_, request) = server.host.asked.wait(Vec::pop).await;
    assert_eq!(request, link.store(2), "the first was sent too early");
    server.stop().await;
    assert_eq!(link.events.next().await, Event::Disconnected(rank(2)));
    assert_eq!(link.client.state(), LinkState::default());
    link.client.send(vec![link.store(3)]);

    let mut later = identity(2);
    later.incarnation = Incarnation(11);
    let server = Server::start_at(&address.to_string(), later, settings()).await;
    let connected = link.events.next().await;
    assert_eq!(
        connected,
        Event::Connected(rank(2), Incarnation(11), introduction(2))
    );
    link.client.send(vec![link.store(2)]);
    let (session, request) = server.host.asked.wait(Vec::pop).await;
    assert_eq!(request, link.store(2));
    session.reply(vec![stored(request.id)]);
    assert_eq!(
        link.events.next().await,
        Event::Reply(rank(2), stored(request.id))
    );
    link.stop().await;
    server.stop().await;
    // Starts and stops are no trouble.
    assert!(log.lines().is_empty(), "{:?}", log.lines());
}

#[tokio::test]
async fn a_newer_session_takes_the_place_of_the_older() {
    let server = Server::start(settings()).await;
    let old = Link::start(identity(1), server.address, &settings());
    old.connected().await;
    eventually(|| server.peers.session(rank(1)).is_some()).await;
    let replaced = server.peers.session(rank(1)).unwrap();
    let later = Identity {
        incarnation: Incarnation(11),
        ..identity(1)
    };
    let new = Link::start(later, server.address, &settings());
    new.connected().await;
    assert_eq!(old.events.next().await, Event::Disconnected(rank(2)));
    let session = server.peers.session(rank(1)).unwrap();
    assert_eq!(session.incarnation(), Incarnation(11));
    assert!(!Arc::ptr_eq(&session, &replaced));
    // The older process tries for ever, and never gets in, even when the newer one is gone.
    new.stop().await;
    eventually(|| server.peers.connected().is_empty()).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert!(server.peers.connected().is_empty());
    assert_eq!(old.client.state().connected, None);
    old.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_queue_waits_for_credit_and_drops_only_what_is_finished() {
    let server = Server::start(tiny()).await;
    let link = Link::start(identity(1), server.address, &tiny());
    link.connected().await;
    // Two go, eight wait; four would be the limit, but none of them is finished.
    link.client
        .send((0..10).map(|sequence| link.store(sequence)).collect());
    server
        .host
        .asked
        .wait(|all| (all.len() == 2).then_some(()))
        .await;
    eventually(|| link.client.state().queued == 8).await;
    // What is known is not sent again.
    link.client
        .send((0..10).map(|sequence| link.store(sequence)).collect());
    assert_eq!(link.client.state().queued, 8);
    let operations: Vec<_> = [3, 2, 9].map(|at| link.store(at).id.operation).into();
    link.client.finished(&operations);
    let state = link.client.state();
    assert_eq!((state.queued, state.dropped), (5, 3));
    let mut answered = Vec::new();
    while answered.len() < 7 {
        let (session, request) = server
            .host
            .asked
            .wait(|all| (!all.is_empty()).then(|| all.remove(0)))
            .await;
        session.reply(vec![stored(request.id)]);
        answered.push(request.id.operation.sequence);
    }
    assert_eq!(answered, [0, 1, 4, 5, 6, 7, 8]);
    link.stop().await;
    server.stop().await;
}

/// What the process will never answer must not cost its place for ever.
#[tokio::test]
async fn a_declined_request_gives_its_credit_back() {
    let server = Server::start(tiny()).await;
    let link = Link::start(identity(1), server.address, &tiny());
    link.connected().await;
    link.client
        .send((0..6).map(|sequence| link.store(sequence)).collect());
    for _ in 0..6 {
        let (session, request) = server.host.asked.wait(Vec::pop).await;
        session.decline(&[request.id]);
        session.reply(vec![stored(request.id)]);
    }
    eventually(|| link.client.state().in_flight == 0).await;
    assert_eq!(link.events.0.lock().len(), 0);
    link.stop().await;
    server.stop().await;
}

/// All ask all at full depth, with credits of two requests, while one of them answers nothing for
/// a while.
#[tokio::test]
async fn nothing_deadlocks_with_tiny_credits_and_a_stopped_peer() {
    const REQUESTS: u64 = 2000;
    let (one, two) = (
        Server::start_at("127.0.0.1:0", identity(2), tiny()).await,
        Server::start_at("127.0.0.1:0", identity(2), tiny()).await,
    );
    *two.host.prompt.lock().unwrap() = true;
    let links: Vec<_> = [(1, &one), (3, &one), (1, &two), (3, &two)]
        .into_iter()
        .map(|(from, to)| Link::start(identity(from), to.address, &tiny()))
        .collect();
    for link in &links {
        link.connected().await;
        link.client
            .send((0..REQUESTS).map(|sequence| link.store(sequence)).collect());
    }
    for link in &links[2..] {
        link.events
            .0
            .wait(|events| (events.len() == 2000).then_some(()))
            .await;
    }
    for link in &links[..2] {
        let state = link.client.state();
        assert_eq!((state.in_flight, state.queued), (2, 1998));
    }
    // It goes on.
    *one.host.prompt.lock().unwrap() = true;
    for (session, request) in one.host.asked.change(std::mem::take) {
        session.reply(vec![stored(request.id)]);
    }
    for link in &links[..2] {
        link.events
            .0
            .wait(|events| (events.len() == 2000).then_some(()))
            .await;
    }
    for link in links {
        link.stop().await;
    }
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_process_closes_what_it_finds_faulty() {
    let (log, _guard) = Log::start(Level::WARN);
    let server = Server::start(settings()).await;
    let link = Link::start(identity(1), server.address, &settings());
    link.connected().await;
    link.client.close("it lies".into());
    assert_eq!(link.events.next().await, Event::Disconnected(rank(2)));
    log.only_line("lost process 2 at 127.0.0.1").await;
    link.connected().await;
    eventually(|| server.peers.session(rank(1)).is_some()).await;
    let session = server.peers.session(rank(1)).unwrap();
    session.close("it lies as well".into());
    assert_eq!(link.events.next().await, Event::Disconnected(rank(2)));
    // The other end may be faster in seeing the close than this one in telling of it.
    let told = |line: &String| line.contains("it lies as well");
    eventually(|| log.lines().iter().any(told)).await;
    link.connected().await;
    link.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_status_is_fetched() {
    let server = Server::start(settings()).await;
    server.serving.send_replace(false);
    let address = server.address.to_string();
    let ask = |rank, cluster, key: ClientKey| {
        let address = address.clone();
        async move { fetch_status(&address, rank, cluster, &key, PATIENCE).await }
    };
    let cluster = identity(2).cluster;
    let status = ask(Some(rank(2)), cluster, client_key()).await.unwrap();
    assert_eq!(status, b"{\"state\":\"tested\"}"[..]);

    let refused = |result: Result<_, NetError>| result.unwrap_err().to_string();
    let other_rank = refused(ask(Some(rank(1)), cluster, client_key()).await);
    assert!(other_rank.contains("rank 1 was expected"), "{other_rank}");
    let other_cluster = refused(ask(None, ClusterId([9; 16]), client_key()).await);
    assert!(
        other_cluster.contains("belongs to cluster 0101"),
        "{other_cluster}"
    );
    let other_key = refused(ask(None, cluster, ClientKey::new(&[9; 32])).await);
    assert!(
        other_key.contains("client key is another one"),
        "{other_key}"
    );
    server.stage.send_replace(Stage::Draining);
    server.connections.clients_gone().await;
    server.stop().await;
    let refused = refused(ask(None, cluster, client_key()).await);
    assert!(refused.contains("cannot connect to 127.0.0.1"), "{refused}");
}
