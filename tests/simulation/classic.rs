//! Classic clients. They know of no attachments: their process runs what they ask for under a
//! shared attachment of its own, and under generation 0 as long as nobody has ever attached.

use atdd::attachment::{AttachmentId, Input};
use atdd::domain::{Attach, AttachKind, Fence};
use atdd::register::Ticket;

use crate::front::Asker;
use crate::process::{Task, Worker};
use crate::sessions::Ended;
use crate::world::{World, rank};

/// How a process stands with its classic clients.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Classic {
    /// It asks a majority which shared generation is open.
    Asking(AttachmentId),
    /// This one is, as far as it knows.
    Open(Fence),
    /// It answers nobody.
    Closed,
}

/// Attachments from this one on are of classic clients.
pub(crate) const CLASSIC: AttachmentId = AttachmentId(1 << 32);

impl Classic {
    /// After a start with this fence on record.
    pub(crate) fn after_start(fence: Fence) -> Self {
        if fence == Fence::INITIAL {
            Self::Open(fence)
        } else {
            Self::Closed
        }
    }
}

impl World {
    /// The next operation of a classic client, if its process is up.
    pub(crate) fn think_classic(&mut self, client: usize, place: usize) {
        let state = &self.clients[client];
        let busy = state.left == 0 || !state.unanswered.is_empty();
        if busy || !self.processes[place].is_up() {
            return;
        }
        let Classic::Open(fence) = self.running(place).classic else {
            self.attach_classic(place);
            self.think_later(client, self.scenario.delay_max * 5);
            return;
        };
        let number = self.begin_operation(client);
        let ticket = self.command(place, number, fence);
        self.askers.insert(ticket, Asker::Classic(client));
    }

    /// A classic client is answered; where its process was fenced, its connection is closed.
    pub(crate) fn answered_classic(
        &mut self,
        client: usize,
        ticket: Ticket,
        ended: Ended,
    ) -> Result<(), String> {
        let number = self.history.number(ticket);
        // A planted bug goes on with what nobody waits for.
        if self.history.is_open(number) {
            self.end_operation(ticket, ended)?;
            self.clients[client].unanswered.clear();
            self.think_soon(client);
        }
        Ok(())
    }

    /// The clients of a process that has crashed will never know. Returns their writes.
    pub(crate) fn forget_classic(&mut self, place: usize) -> Result<Vec<usize>, String> {
        let mut cut_off = Vec::new();
        for client in &mut self.clients {
            if client.is_classic_at(place) {
                cut_off.append(&mut client.unanswered);
            }
        }
        for &number in &cut_off {
            self.history.cut_off(number)?;
        }
        Ok(cut_off)
    }

    pub(crate) fn granted_classic(
        &mut self,
        place: usize,
        id: AttachmentId,
        fence: Fence,
    ) -> Result<(), String> {
        if fence.is_exclusive() {
            return Err(format!("{id:?} is to share {fence:?}"));
        }
        let classic = &mut self.running(place).classic;
        if *classic == Classic::Asking(id) {
            *classic = Classic::Open(fence);
            // It is open, and stays so; whoever runs under it holds nothing.
            let input = Input::Detach { id };
            self.put(place, Worker::Keeper, Task::Keeper(input));
        }
        Ok(())
    }

    /// The process is not attached.
    pub(crate) fn refused_classic(&mut self, place: usize, id: AttachmentId) {
        let classic = &mut self.running(place).classic;
        if *classic == Classic::Asking(id) {
            *classic = Classic::Closed;
        }
    }

    /// The process has accepted this fence: what is older is over.
    pub(crate) fn close_classic(&mut self, place: usize, by: Fence) {
        let classic = &mut self.running(place).classic;
        if let Classic::Open(fence) = *classic
            && fence != by
        {
            *classic = Classic::Closed;
        }
    }

    fn attach_classic(&mut self, place: usize) {
        if self.running(place).classic != Classic::Closed {
            return;
        }
        let owner = self.new_owner();
        let id = AttachmentId(CLASSIC.0 + self.history.tick());
        self.running(place).classic = Classic::Asking(id);
        let attach = Attach {
            owner,
            kind: AttachKind::Shared,
            take_over: false,
            continues: None,
        };
        let client = format!("classic clients of {}", rank(place));
        self.ask_keeper(place, id, attach, client);
    }
}
