//! What a client asks of a running cluster. Reads, writes and attachments come with the client
//! library; so far it asks processes how they are.

mod status;

pub use status::{StatusError, status};
