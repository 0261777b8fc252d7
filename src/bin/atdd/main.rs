//! The command line of Atomic Disk Drive.
fn main() {}
