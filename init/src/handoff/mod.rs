//! The handoff socket between PID 1 and the supervisor: wire types, version 1.
//!
//! A `SOCK_SEQPACKET` pair made by PID 1; the supervisor finds its end as fd 3 ([`SUPERVISOR_FD`]). One packet is
//! one message: `b"OH"`, the version, a kind, then the fields in order, integers little-endian, a text as a `u16`
//! length and UTF-8 bytes. File descriptors travel beside a packet (`SCM_RIGHTS`), one at most. A packet of
//! another version, of unknown kind, too short, too long or with a broken text is an error to the reader and
//! nothing else: PID 1 counts it, logs it and goes on.
//!
//! And how both let go of what containers gave them: [`close_aside`].

#[allow(unsafe_code)] // the library's room for it
mod aside;
mod codec;
mod idle;
mod message;

pub use aside::{close_all_aside, close_aside};
pub use codec::WireError;
pub use idle::idle_ns;
pub use message::{Exit, Hello, LastEnd, ShutdownKind, StateStore, ToInit, ToSupervisor};

/// Version of the wire format; the third byte of every packet.
pub const VERSION: u8 = 1;

/// Where the supervisor finds its end of the socket.
pub const SUPERVISOR_FD: i32 = 3;

/// No packet is longer, in bytes.
pub const MAX_PACKET_BYTES: usize = 512;

/// No name in the fd store is longer, in bytes.
pub const MAX_NAME_BYTES: usize = 128;

/// No text (console lines, reasons) is longer, in bytes; writers cut at a character boundary.
pub const MAX_TEXT_BYTES: usize = 400;
