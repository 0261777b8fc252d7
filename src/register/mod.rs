//! The (N,N)-AtomicRegister: every sector of the disk is one, and every process can coordinate any
//! read or write of it.
//!
//! [`AtomicRegister`] is a pure state machine. [`AtomicRegister::step`] takes an [`Input`] and
//! appends the [`Output`]s that follow from it; there is no I/O, clock or randomness in here. One
//! register serves many sectors, a shard of a process's, and has state only for those with work
//! in flight, and the fence of the newest generation. All that lasts is in the store.
//!
//! # What it guarantees
//! Each sector by itself is linearizable: every operation takes effect at one moment between its
//! command and its [`Output::Done`]. One that was never done, because its process crashed, takes
//! effect once at some later moment, or never. What was done is at a majority on stable storage.
//! Sectors of one operation take effect each at its own moment.
//!
//! Once an exclusive generation is open, nothing of an older one changes what was seen or written
//! under it. Under a shared one operations are linearizable too, but what an older one left
//! unfinished may still appear while several processes read. The rules that are named by number
//! here are those of `ATTACHMENTS.md`; its rules of opening are the `attachment` module's.
//!
//! # What it relies on
//! - The store: loads see stable state only, `Stored` means stable, stamps never go back, and a
//!   damaged copy is [`Vote::Lost`](crate::domain::Vote::Lost) until a value that is not older
//!   replaces it. A store that goes back or answers what was not asked ends the process. Every
//!   load and store is completed, a store that is older than what it finds as well. That holds
//!   for a damaged copy of a newer value, too: it is still lost afterwards, just as if the store
//!   had been acknowledged first and the damage had come then. (Were it never acknowledged, two
//!   copies damaged in different sectors would keep a write of both waiting for ever.)
//! - The store, for settling: what is stored as [`Content::Unchanged`](crate::domain::Content)
//!   raises the settled generation of whatever the sectors hold then, values that are stored later
//!   are compared with what came of that, and so are votes.
//! - The store's owner: each start has an incarnation of its own, raised durably before anything,
//!   and the fence that it begins with is the last that was ever stable.
//! - The keeper of the process's fence: it raises every register before it calls a fence stable, it
//!   does that when the fence is on record and every register has said [`Output::Drained`], and
//!   whoever commands under a fence was granted it after that, at a majority.
//! - The links: what is sent arrives, in any order and any number of times, or the connection
//!   breaks and [`Input::PeerConnected`] tells of the next one. A reply may come over any.
//! - Whoever drives it: admission bounds the operations in flight, and what is under way for each
//!   peer. The register itself bounds those that wait for a sector (`Config::queue_max`).
//!
//! # The classic algorithm's events, and where they are here
//! | `seeds/004` (Cachin, Guerraoui, Rodrigues, for crash-recovery) | here |
//! |---|---|
//! | `Init`, `Recovery` | [`AtomicRegister::new`]: nothing is carried over |
//! | `Read`, `Write` | [`Input::Command`] |
//! | `rid` | [`OperationId`](crate::domain::OperationId) and the round |
//! | `Broadcast READ_PROC` | [`Question::Stamps`](crate::domain::Question::Stamps) of a write, [`Question::Values`](crate::domain::Question::Values) of a read |
//! | `Deliver READ_PROC`, `Send VALUE` | `gate`, then `replica`: [`Output::Load`], then [`Answer::Held`](crate::domain::Answer::Held) |
//! | `Deliver VALUE`, `readlist`, `highest` | phase `Query` in `read` and `write`, `ballot`, `quorum::judge` |
//! | `Broadcast WRITE_PROC` | [`Question::Store`](crate::domain::Question::Store) |
//! | `Deliver WRITE_PROC`, `store`, `Send ACK` | `gate`, then `replica`: [`Output::Store`], then [`Answer::Stored`](crate::domain::Answer::Stored) |
//! | `Deliver ACK`, `acklist` | `store_round`, the last phase of `write`, `read` and `settle` |
//! | `ReadReturn`, `WriteReturn` | [`Output::Done`] |
//! | stubborn links and broadcast | [`Input::PeerConnected`], `resend` |
//! | (rules 2 and 3) | `gate`: [`Input::Raise`], [`Output::Raise`], [`Output::Drained`], [`Input::Stable`], [`Answer::Refused`](crate::domain::Answer::Refused) |
//! | (rule 9, ahead of need) | [`Command::Settle`] |
//!
//! # Invariants
//! 1. Two different values of a sector never have the same stamp.
//! 2. An acknowledgement follows from [`Input::Stored`] and from nothing else; a vote from
//!    [`Input::Loaded`].
//! 3. A process counts once in a round, and only for the operation and round that it was asked in.
//! 4. A write's stamp is above every stamp that a majority held when, or after, it began.
//! 5. A read returns a value only when a majority holds it, or a newer one, on stable storage.
//! 6. At most one operation of this process is under way on a sector; those that wait begin in
//!    the order of their arrival.
//! 7. A lost copy never votes.
//! 8. Nothing is sent to this process itself.
//! 9. Nothing is served, begun or answered under another fence than the one accepted, and nothing
//!    under that before it is stable here. The accepted fence never goes to a lower number, and
//!    to another owner of its number only while nobody is known to operate under it (rules 2
//!    and 3).
//! 10. Every operation under way or queued is of the accepted fence: accepting another ends it
//!     (rule 10).
//! 11. Whatever is stored under a generation is settled under exactly that generation. So a process
//!     that has voted under it holds, ever after, what it voted for or what is settled under it or
//!     a later one; settling without the value relies on that.
//! 12. A value that was settled under an older generation than a read's is returned when all
//!     processes hold it, or when a majority has settled it (rule 9).
//!
//! Linearizability follows from 1 to 5 as in the book: majorities share a process, so what is
//! done is seen by all that begins later, and stamps order all values. That an older generation
//! changes nothing follows from 9, 11 and 12: what is seen is settled at a majority or held by
//! all, whatever else the older one left has a lower stamp from then on, and no majority takes
//! anything more of it.
//!
//! # Where it departs from the classic pseudocode, and why it may
//! - **Durability is an input.** The pseudocode's `store` returns when it is stable; here the
//!   driver says so later, and only then is the acknowledgement put out. To have accepted a value
//!   without having synced it is as not to have got the message yet.
//! - **No `store(rid)`.** It keeps replies to an operation from before a crash from counting for
//!   one after it. The incarnation in every operation's name does the same, for one durable
//!   increment at each start.
//! - **The own copy is stored in parallel**, not before the broadcast. In the pseudocode that
//!   order keeps a process from using a timestamp twice when it crashes in between. The
//!   incarnation in the stamp does that. The own acknowledgement counts when the own copy is
//!   stable, as anyone else's does; a majority without it is as good.
//! - **Writes query stamps only.** The pseudocode carries values and drops them.
//! - **Exclusive writes query nothing** (rule 7). Every stamp of an exclusive generation is made by
//!   one register, whose timestamps only go up, and every other stamp is lower: there is nothing to
//!   be asked. Shared ones ask (rule 8), and count the timestamps of their own generation only. That
//!   they might find a later one, and would have to stop, cannot be: whoever holds such a stamp has
//!   accepted its fence, and refuses. Who answers so all the same is reported.
//! - **Reads of one round.** When a majority answers that it holds the highest stamp, every later
//!   majority has one of them and will see that stamp or a higher one: writing it back would add
//!   nothing. Otherwise only those are sent the value that lack it, and those that voted for it
//!   count as having acknowledged: a vote says that it is stable there.
//! - **Values travel only where they are newer than the asker's.** A read sends its own votes
//!   along. Where another holds no newer value, the asker has it itself; it decides nothing
//!   before it has its own values in hand, whose stamps are at least those it sent. Where its
//!   copy turns out damaged it asks once more, saying so.
//! - **A write that was cut off by a crash is not started over.** Under a new stamp it would take
//!   effect twice: a majority may have passed on its first value, then another write, then it
//!   would come back. Under its one stamp it stays where it got to, and every later operation that
//!   meets it either passes it (a write) or completes it (a read). Since no coordination is
//!   durable, the register after a start is empty, and nothing could be started over.
//! - **Ranges.** An operation on consecutive sectors sends one message for all of them, and a write
//!   gives all the same stamp, one above the highest that a majority has on any. That is for each
//!   sector what an operation on it alone would do, only with a stamp that may be higher than
//!   need be. Where the answers of a majority end before the range does, what they cover is done
//!   first and the rest as a further piece under a new name.
//! - **Discards** are writes of zeroes, with tombstones instead of data. Sectors of which nobody
//!   in a majority has a value are left out: there the discard is a read that returned the initial
//!   zeroes. One vote for a value is enough for a tombstone.
//! - **Lost copies.** A majority must be of intact copies, so that it shares an intact one with the
//!   majority that acknowledged a write. More lost copies than that allows fail the operation;
//!   processes that are silent never do. What a read had to fetch for its own damaged copy it
//!   stores there again.
//! - **Settling.** A value of an older generation is written under its own stamp with the settled
//!   generation raised, so that what that generation left at a minority cannot come back above it
//!   (rule 9). Whoever voted for it is told to settle what it holds, one record for a whole range;
//!   the others get the value. No vote counts as an acknowledgement of that. What was never written
//!   is settled like any value, by reads and where discards leave it out.
//! - **Waiting for more than a majority.** If all processes hold an older value, nothing need be
//!   settled, as long as no process is down. So where all who answered agree, and nothing has to be
//!   stored in any case, an operation waits for those that are connected, until
//!   [`Input::StopWaiting`]; whoever was waited for in vain is not again before it answers something.
//!   It is a matter of cost alone: settling is right at any time.
//! - **Fences** are in `gate`, which every message and every command passes. A refusal by a newer
//!   one raises this register's own, and ends all operations by that. Requests that were passed to
//!   the store under an older one are refused when it answers.

mod atomic_register;
mod ballot;
mod coordinator;
mod event;
mod extents;
mod fault;
mod gate;
mod operation;
mod operations;
mod quorum;
mod range_locks;
mod read;
mod replica;
mod settle;
mod store_round;
mod token;
mod write;

#[cfg(test)]
mod tests;

pub use atomic_register::AtomicRegister;
pub use coordinator::Config;
pub use event::{
    Command, DISCARD_SECTORS_MAX, Input, LoadToken, OPERATION_SECTORS_MAX, Outcome, Output,
    RegisterError, StoreToken, Ticket,
};
pub use fault::PeerFault;
