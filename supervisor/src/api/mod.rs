//! The control interface: HTTP/1.1 with JSON, version 1. `types` are its shapes, shared by the daemon and the command line; the
//! rest is the server's: it never blocks, holds a bounded number of bytes for each of a bounded number of clients, and a client
//! that breaks the rules loses its connection and nothing else happens.

pub(crate) mod connection;
pub(crate) mod frame;
pub(crate) mod http;
pub(crate) mod route;
pub(crate) mod server;
pub mod types;
