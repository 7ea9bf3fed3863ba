//! The control interface: HTTP/1.1 with JSON, version 1. `types` are its shapes, shared by the daemon and the
//! command line.

pub mod types;
