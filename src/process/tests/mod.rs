//! Tests of several processes' parts over real sockets.

mod attachments;
mod crowd;
mod support;
