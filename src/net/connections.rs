//! Who is connected, and who has to go when there is no room.
//!
//! Two kinds of connection share a number of places: clients that have authenticated a request,
//! and those that have authenticated nothing yet. The second kind is what anybody can make, so it
//! never keeps anyone out: the oldest of them is closed for a new connection. Clients leave some
//! places free for them, so that a peer, which begins as one of them, always gets through; once
//! authenticated a peer has no place here any more, since there is one session for each rank.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::{NetError, Settings};

/// The connections of one listener.
#[derive(Debug)]
pub struct Connections {
    total_max: usize,
    clients_max: usize,
    per_address_max: usize,
    table: Mutex<Table>,
    clients: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// Oldest first.
    unauthenticated: BTreeMap<u64, (SocketAddr, AbortHandle)>,
    clients: HashMap<u64, SocketAddr>,
    per_address: HashMap<IpAddr, usize>,
}

/// A connection's place, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    connections: Arc<Connections>,
    number: u64,
}

impl Connections {
    /// None, and room for as many as the settings say.
    pub fn new(settings: &Settings) -> Self {
        Self {
            total_max: settings.connections_max,
            clients_max: settings.clients_max,
            per_address_max: settings.per_address_max,
            table: Mutex::default(),
            clients: watch::Sender::new(0),
        }
    }

    /// How many authenticated clients are connected.
    pub fn clients(&self) -> usize {
        *self.clients.borrow()
    }

    /// How many connections have not authenticated anything.
    pub fn unauthenticated(&self) -> usize {
        self.lock().unauthenticated.len()
    }

    /// Returns once no client is connected: after [`Stage::Draining`](super::Stage::Draining), once
    /// everything that was under way for them is answered.
    pub async fn clients_gone(&self) {
        let mut clients = self.clients.subscribe();
        clients
            .wait_for(|&clients| clients == 0)
            .await
            .expect("the sender is in `self`");
    }

    /// Makes room for a new connection, of which nothing is known but its address, and spawns its
    /// task, which keeps the place. Says whose connection was closed for it, if one was.
    pub(super) fn enter(
        self: &Arc<Self>,
        address: SocketAddr,
        spawn: impl FnOnce(Place) -> AbortHandle,
    ) -> Option<SocketAddr> {
        let mut table = self.lock();
        let of_address = table.per_address.get(&address.ip()).copied().unwrap_or(0);
        let mut closed = None;
        if of_address >= self.per_address_max {
            closed = table.close_oldest(|oldest| oldest == address.ip());
        }
        if table.unauthenticated.len() + table.clients.len() >= self.total_max {
            closed = table.close_oldest(|_| true);
        }
        let number = table.next;
        table.next += 1;
        *table.per_address.entry(address.ip()).or_default() += 1;
        // With the table locked, so that the task finds itself in it.
        let handle = spawn(Place {
            connections: Arc::clone(self),
            number,
        });
        table.unauthenticated.insert(number, (address, handle));
        closed
    }

    /// Closes everything that has not authenticated.
    pub(super) fn close_unauthenticated(&self) {
        let mut table = self.lock();
        while table.close_oldest(|_| true).is_some() {}
    }

    /// Closes the oldest unauthenticated connection, to have its descriptor back.
    pub(super) fn close_oldest(&self) -> Option<SocketAddr> {
        self.lock().close_oldest(|_| true)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().expect("nobody panics with the lock")
    }
}

impl Place {
    /// Whose connection it is; none when the place was given to another.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        let table = self.connections.lock();
        let unauthenticated = table
            .unauthenticated
            .get(&self.number)
            .map(|(address, _)| address);
        unauthenticated
            .or_else(|| table.clients.get(&self.number))
            .copied()
    }

    /// The connection has authenticated itself as a client's.
    pub(super) fn become_client(&self) -> Result<(), NetError> {
        let connections = &self.connections;
        let mut table = connections.lock();
        let Some(&(address, _)) = table.unauthenticated.get(&self.number) else {
            return Err(NetError::NoRoom);
        };
        let of_address = table
            .clients
            .values()
            .filter(|other| other.ip() == address.ip())
            .count();
        if table.clients.len() >= connections.clients_max
            || of_address >= connections.per_address_max
        {
            return Err(NetError::TooManyClients);
        }
        table.unauthenticated.remove(&self.number);
        table.clients.insert(self.number, address);
        connections.clients.send_replace(table.clients.len());
        Ok(())
    }

    /// The connection has authenticated itself as a peer's, and needs no place any more.
    pub(super) fn become_peer(self) -> Result<(), NetError> {
        match self.connections.lock().remove(self.number) {
            Some(_) => Ok(()),
            None => Err(NetError::NoRoom),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut table = self.connections.lock();
        table.remove(self.number);
        self.connections.clients.send_if_modified(|clients| {
            let before = std::mem::replace(clients, table.clients.len());
            before != *clients
        });
    }
}

impl Table {
    /// Closes the oldest unauthenticated connection of such an address; says which it was.
    fn close_oldest(&mut self, of: impl Fn(IpAddr) -> bool) -> Option<SocketAddr> {
        let mut unauthenticated = self.unauthenticated.iter();
        let (&number, (_, handle)) = unauthenticated.find(|(_, (address, _))| of(address.ip()))?;
        handle.abort();
        self.remove(number)
    }

    fn remove(&mut self, number: u64) -> Option<SocketAddr> {
        let unauthenticated = self
            .unauthenticated
            .remove(&number)
            .map(|(address, _)| address);
        let address = unauthenticated.or_else(|| self.clients.remove(&number))?;
        if let Some(count) = self.per_address.get_mut(&address.ip()) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&address.ip());
            }
        }
        Some(address)
    }
}

#[cfg(test)]
mod tests;
