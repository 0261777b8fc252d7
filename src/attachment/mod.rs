//! Generations: which one a process has accepted, and how a client gets one of its own.
//!
//! [`AttachmentKeeper`] is a pure state machine for one volume of one process, above the process's
//! registers: [`AttachmentKeeper::step`] takes an [`Input`] and appends the [`Output`]s that follow
//! from it. The rules that are quoted by number, and the failing histories behind them, are in
//! `ATTACHMENTS.md`.
//!
//! # What it guarantees
//! - No number is granted twice, but to attachments that share its generation: all that are shared,
//!   and those that joined an exclusive one in the process and incarnation that opened it.
//! - What is granted was stable at a majority, this process included, and is not overtaken here. So
//!   whoever still coordinates under an older generation is refused by a majority.
//! - Who is granted to continue a generation has had no other owner's opened since, also where it
//!   joins the generation of another gateway of its device, which is its owner's.
//! - The stable fence never goes back, over restarts neither: it is durable, and every store that
//!   was accepted here under older ones is stable or never will be.
//! - An attachment is granted at most once and ends at most once. It has ended when this process
//!   accepts another fence than its own.
//! - An attach comes to its end when a majority with this process in it can be reached for long
//!   enough, and others do not keep overtaking it. Nothing is tried again by itself: that is the
//!   client's, after a random pause.
//!
//! That somebody is refused because the volume is held is a courtesy to hosts. It is as good as
//! what processes have heard of one another, and nothing of the above rests on it.
//!
//! # What it relies on
//! - Whoever drives it: [`Output::Raise`] and [`Output::Stable`] reach every register in their
//!   order, and what a register says arrives in its order. [`Output::Record`]s become durable in
//!   their order, each before its [`Input::Recorded`]; the last one that did is the next start's
//!   [`Config::fence`]. No incarnation is used twice.
//! - The registers: from [`Output::Raise`] on they refuse whatever is older, and serve nothing of
//!   the fence before [`Output::Stable`]. They say [`Input::Drained`] once for each number, or more
//!   often. They ask others under a fence only for an attachment that was granted, so that what
//!   they are asked under is open.
//! - The links: what is sent arrives, in any order and any number of times, or the connection
//!   breaks and [`Input::PeerConnected`] tells of the next one.
//! - The credit that peers are granted bounds the requests that wait here, one entry for each; the
//!   sessions of clients bound the attaches.
//!
//! # A raise
//! ```text
//!    Open of a newer fence      register met one      own attach was refused by one
//!                       \              |              /
//!                        accepted: everything older is refused
//!                       /              |              \
//!         Raise to all registers    Record          attachments of other fences: Fenced
//!                |                     |            attaches that open others: Refused
//!         Drained by each          Recorded         peers' opens that wait: Refused
//!                       \              |
//!                        stable: Stable to all registers; whoever asked
//!                        or opens and waits here is answered
//! ```
//!
//! # An attach
//! ```text
//!    Attach -- what it joins runs here, and it continues nothing -------> Granted
//!      |
//!    Asking: Question::Fence to all, unless what it joins runs here
//!      |     a majority has answered; no holder's process is waited for
//!      |---- held, served elsewhere, another owner came in between -----> Refused
//!    Opening { target }: Question::Open to all
//!      |     exclusive: the highest number + 1, and a tag of its own; what it joins, as it is
//!      |     shared: the highest if it is shared, or the next number
//!      |     read-only: the highest unless it is exclusive, or the next number, to read only
//!      |---- anybody refuses, or this process accepts another fence ----> Refused
//!      |     a majority has acknowledged, and this process
//!      `----------------------------------------------------------------> Granted
//! ```
//! This process is asked as all others are, by way of `fencing`.
//!
//! # Invariants
//! 1. The accepted fence's number never falls while the process runs. A fence of the same number
//!    replaces it only on a register's word.
//! 2. Every open that waits is of the accepted fence; everyone who waits does so for one raise.
//! 3. Every attachment that runs here is of the accepted fence, which is stable; every attach in
//!    its second round opens the accepted fence.
//! 4. A process counts once in a round, and only in the round of the attach and incarnation that
//!    asked it.
//! 5. An acknowledgement follows from records and drains, and from nothing else.
//!
//! One number is open for one fence only, since two majorities share a process. That one accepted
//! one of the two first, and refused the other while it could still matter: it takes the other in
//! its place only once that is open without it.
//!
//! # Where it departs from the rules, and why it may
//! - **A refusal raises.** By rule 10 the attachment that is refused ends and adopts nothing, and so
//!   it is here. But the process takes the newer fence for its own, so that all of its registers
//!   end what is older in the same way as when the open itself arrives. Thus a fence may be
//!   accepted here though its open was refused, or will never be complete.
//! - **Rule 5 remembers.** For that reason it is not enough to hold an open that continues against
//!   the accepted fence. If that is the owner's own, another owner's may have been accepted and
//!   acknowledged before it. So the highest number that anybody else's fence had is kept beside it;
//!   what readers open after the owner (see below) counts as the owner's. It is not durable: after a
//!   restart every number before the recorded one may have been another owner's. An owner is then
//!   told that it was fenced though it was not, if the recorded fence is the owner's and two numbers
//!   or more above what it continues. Such numbers come from opens of its own that it did not hear
//!   were granted, and from readers.
//! - **A failed open makes way** for the fence of its number that is open, which a register's
//!   request proves. Otherwise the process would never serve that generation. What has drained for
//!   the one has for the other, since nothing is served in between.
//! - **Readers open a generation of their own** ([`Mode::Reading`](crate::domain::Mode)) where the
//!   newest is exclusive and nobody holds it that can be reached; beside a holder they run in its
//!   process. Under the exclusive one they would be a second coordinator: if the writer's process was
//!   only cut off,
//!   what each of them settled could change under the other. Nobody writes under it, all processes
//!   may read, and for rule 5 it counts as the owner's: a writer that was only out of reach goes on
//!   after it, and repeats what was not answered. A holder that can be reached is never fenced by a
//!   reader, except in the instant between its process's word that nobody is there and its grant.
//! - **Fences of one number that dispute it** (opens that failed each where the other was accepted)
//!   would keep readers out for ever. Where no holder says which of them is open, and they are of
//!   several owners, a reader opens a shared generation; there is nobody to be fenced by it.
//! - **A client's earlier session does not refuse it**, nor is it joined: what the client opens is
//!   a generation of its own (rule 6). The gateways of one device are another matter. They have one
//!   owner and a key, and whoever of them runs is joined, even by one that insists: if they overtook
//!   one another, each would end the other's session, for ever. One that joins never repeats.
//! - **Attaches of one process do not overtake each other** unless they insist, and those of one
//!   device never do: the second is told that they contended, and finds the first as a holder when it
//!   comes again.
//! - **A reader waits for the newest coordinator's word**, even beyond a majority, as long as that
//!   can be reached: whoever is there is the one to read beside.

mod attaches;
mod event;
mod fencing;
mod holders;
mod keeper;
mod opening;
mod target;

#[cfg(test)]
mod tests;

pub use event::{AttachmentId, Input, Output};
pub use keeper::{AttachmentKeeper, Config};
