//! Attachments over a network whose processes are played by the tests, in time that stands still
//! until everybody waits.

mod attaching;
mod failing_over;
mod gateway;
mod log;
mod ordinary;
mod support;
