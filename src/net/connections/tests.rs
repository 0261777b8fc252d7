use std::net::Ipv4Addr;

use tokio::task::JoinSet;

use super::*;

/// Connections that do nothing but keep their places.
struct Keeper {
    connections: Arc<Connections>,
    tasks: JoinSet<()>,
    places: Arc<Mutex<Vec<Arc<Place>>>>,
}

impl Keeper {
    fn new(connections_max: usize, clients_max: usize, per_address_max: usize) -> Self {
        let settings = Settings {
            connections_max,
            clients_max,
            per_address_max,
            ..Settings::default()
        };
        Self {
            connections: Arc::new(Connections::new(&settings)),
            tasks: JoinSet::new(),
            places: Arc::default(),
        }
    }

    /// A connection from 10.0.0.`host`; says the port of the one that was closed for it.
    fn enter(&mut self, host: u8, port: u16) -> Option<u16> {
        let address = SocketAddr::from((Ipv4Addr::new(10, 0, 0, host), port));
        let closed = self.connections.enter(address, |place| {
            self.places.lock().unwrap().push(Arc::new(place));
            self.tasks.spawn(std::future::pending())
        });
        closed.map(|address| address.port())
    }

    fn place(&self, at: usize) -> Arc<Place> {
        Arc::clone(&self.places.lock().unwrap()[at])
    }
}

#[tokio::test]
async fn the_oldest_unauthenticated_makes_room() {
    let mut keeper = Keeper::new(3, 2, 3);
    for port in 0..3 {
        assert_eq!(keeper.enter(1, port), None);
    }
    keeper.place(0).become_client().unwrap();
    assert_eq!(keeper.enter(1, 3), Some(1), "a client stays");
    assert_eq!(keeper.enter(1, 4), Some(2));
    assert_eq!(
        (
            keeper.connections.clients(),
            keeper.connections.unauthenticated()
        ),
        (1, 2)
    );
    assert!(matches!(
        keeper.place(1).become_client(),
        Err(NetError::NoRoom)
    ));
    assert!(keeper.place(1).address().is_none());
    // Its task was told to end.
    let ended = keeper.tasks.join_next().await.unwrap();
    assert!(ended.unwrap_err().is_cancelled());
}

#[tokio::test]
async fn clients_leave_places_free() {
    let mut keeper = Keeper::new(3, 2, 3);
    (0..3).for_each(|port| assert_eq!(keeper.enter(1, port), None));
    keeper.place(0).become_client().unwrap();
    keeper.place(1).become_client().unwrap();
    assert!(matches!(
        keeper.place(2).become_client(),
        Err(NetError::TooManyClients)
    ));
    keeper.places.lock().unwrap().remove(0);
    assert_eq!(keeper.connections.clients(), 1);
    keeper.place(1).become_client().unwrap();
}

#[tokio::test]
async fn an_address_has_no_more_than_its_share() {
    let mut keeper = Keeper::new(100, 90, 2);
    assert_eq!(keeper.enter(1, 0), None);
    assert_eq!(keeper.enter(2, 1), None);
    assert_eq!(keeper.enter(1, 2), None);
    assert_eq!(keeper.enter(1, 3), Some(0));
    keeper.place(2).become_client().unwrap();
    keeper.place(3).become_client().unwrap();
    // Nobody of the address can go; it may be a peer.
    assert_eq!(keeper.enter(1, 4), None);
    assert!(matches!(
        keeper.place(4).become_client(),
        Err(NetError::TooManyClients)
    ));
    keeper.place(1).become_client().unwrap();
}

#[tokio::test]
async fn a_place_is_given_back_once() {
    let mut keeper = Keeper::new(2, 1, 2);
    assert_eq!(keeper.enter(1, 0), None);
    keeper.place(0).become_client().unwrap();
    let gone = {
        let connections = Arc::clone(&keeper.connections);
        tokio::spawn(async move { connections.clients_gone().await })
    };
    keeper.places.lock().unwrap().clear();
    gone.await.unwrap();
    let table = keeper.connections.lock();
    assert!(table.per_address.is_empty() && table.clients.is_empty());
}
