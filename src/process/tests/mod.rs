//! Tests of a process's parts: several processes over real sockets, and the keeper's task alone.

mod attachments;
mod crowd;
mod keeper_task;
mod support;
