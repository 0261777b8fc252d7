//! The server as clients see it: raw bytes on sockets, an independent client, stock tools.

mod client;
mod handshake;
mod independent;
mod lifecycle;
mod limits;
mod model;
mod read_modify_write;
mod served;
mod structured;
mod tools;
mod transmission;
