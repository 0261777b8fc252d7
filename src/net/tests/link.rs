//! A link of a process, and what it tells.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::support::*;
use crate::domain::{Incarnation, Rank, Reply, Request};
use crate::net::{Identity, PeerEvents, RegisterClient, Settings, Stage};
use crate::wire::Introduction;

/// What a link tells its process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::net) enum Event {
    Connected(Rank, Incarnation, Introduction),
    Introduced(Rank, Introduction),
    Disconnected(Rank),
    Reply(Rank, Reply),
}

/// The events of links, in their order.
#[derive(Default)]
pub(in crate::net) struct TestEvents(pub(super) Watched<Vec<Event>>);

impl TestEvents {
    /// The next event.
    #[track_caller]
    pub(in crate::net) fn next(&self) -> impl Future<Output = Event> {
        self.0
            .wait(|events| (!events.is_empty()).then(|| events.remove(0)))
    }

    fn add(&self, event: Event) {
        self.0.change(|events| events.push(event));
    }
}

impl PeerEvents for TestEvents {
    fn connected(&self, peer: Rank, incarnation: Incarnation, introduction: Introduction) {
        self.add(Event::Connected(peer, incarnation, introduction));
    }

    fn introduced(&self, peer: Rank, introduction: Introduction) {
        self.add(Event::Introduced(peer, introduction));
    }

    fn disconnected(&self, peer: Rank) {
        self.add(Event::Disconnected(peer));
    }

    fn replies(&self, from: Rank, replies: Vec<Reply>) {
        for reply in replies {
            self.add(Event::Reply(from, reply));
        }
    }
}

/// A running link of a process to process 2.
pub(in crate::net) struct Link {
    pub(in crate::net) client: Arc<RegisterClient>,
    pub(in crate::net) events: Arc<TestEvents>,
    pub(in crate::net) identity: Arc<Identity>,
    pub(in crate::net) introduction: watch::Sender<Introduction>,
    stage: watch::Sender<Stage>,
    task: JoinHandle<()>,
}

impl Link {
    pub(in crate::net) fn start(identity: Identity, to: SocketAddr, settings: &Settings) -> Self {
        let identity = Arc::new(identity);
        let address = to.to_string();
        let client = RegisterClient::new(rank(2), address, Arc::clone(&identity), settings);
        let events = Arc::new(TestEvents::default());
        let introduction = watch::Sender::new(introduction(identity.rank.number()));
        let stage = watch::Sender::new(Stage::Running);
        let task = tokio::spawn(Arc::clone(&client).run(
            Arc::clone(&events) as Arc<dyn PeerEvents>,
            introduction.subscribe(),
            stage.subscribe(),
        ));
        Self {
            client,
            events,
            identity,
            introduction,
            stage,
            task,
        }
    }

    /// Waits for the link to be up, as the first event.
    pub(in crate::net) async fn connected(&self) {
        let event = self.events.next().await;
        assert!(matches!(event, Event::Connected(..)), "{event:?}");
    }

    /// A store of one sector, of the link's own process.
    pub(in crate::net) fn store(&self, sequence: u64) -> Request {
        store(&self.identity, sequence)
    }

    pub(in crate::net) async fn stop(self) {
        self.stage.send_replace(Stage::Stopped);
        timeout(PATIENCE, self.task)
            .await
            .expect("the link stops")
            .unwrap();
    }
}
