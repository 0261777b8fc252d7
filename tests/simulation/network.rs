//! Connections between processes: which are there, and which swallow what is sent.

/// All connections. A pair of processes has one, and numbers it anew each time it is made.
pub(crate) struct Network {
    links: Vec<Link>,
    processes: usize,
}

#[derive(Clone, Default)]
struct Link {
    connection: u64,
    up: bool,
    /// Until when it cannot be made again.
    cut_until: u64,
    /// What the lower process sends is swallowed, and what the higher one does.
    swallows: [bool; 2],
}

impl Network {
    pub(crate) fn new(processes: usize) -> Self {
        Self {
            links: vec![Link::default(); processes * processes],
            processes,
        }
    }

    /// The connection that a message would take, if there is one; and whether it would arrive.
    pub(crate) fn route(&self, from: usize, to: usize) -> Option<(u64, bool)> {
        let link = &self.links[self.place(from, to)];
        link.up
            .then(|| (link.connection, !link.swallows[usize::from(from > to)]))
    }

    /// Whether this connection is still there.
    pub(crate) fn is_current(&self, from: usize, to: usize, connection: u64) -> bool {
        let link = &self.links[self.place(from, to)];
        link.up && link.connection == connection
    }

    /// Makes a connection where there is none and it may be; true if so.
    pub(crate) fn connect(&mut self, a: usize, b: usize, now: u64) -> bool {
        let place = self.place(a, b);
        let link = &mut self.links[place];
        if link.up || now < link.cut_until {
            return false;
        }
        link.up = true;
        link.connection += 1;
        link.swallows = [false; 2];
        true
    }

    /// Breaks the connection; no other can be made until then. Whether there was one.
    pub(crate) fn cut(&mut self, a: usize, b: usize, until: u64) -> bool {
        let place = self.place(a, b);
        let link = &mut self.links[place];
        link.cut_until = link.cut_until.max(until);
        std::mem::replace(&mut link.up, false)
    }

    /// The connection swallows what `from` sends, until it breaks.
    pub(crate) fn swallow(&mut self, from: usize, to: usize) {
        let place = self.place(from, to);
        self.links[place].swallows[usize::from(from > to)] = true;
    }

    fn place(&self, a: usize, b: usize) -> usize {
        a.min(b) * self.processes + a.max(b)
    }
}
