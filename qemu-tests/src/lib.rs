//! Machines for tests, benchmarks and `cargo boot`: builds what they boot from, runs them in QEMU, talks to them as a
//! user would — console, HTTP through forwarded ports, and the control interface through a virtio-serial port.
//!
//! Invariants: every wait has a deadline and shows the console's tail when it runs out; QEMU never outlives the process
//! that started it; no root is needed; nothing is written outside `target/orlop`.

mod accel;
mod artefacts;
mod builder;
mod command;
mod console;
pub mod engines;
mod folder;
mod http;
mod machine;
mod process;
mod proxy;
mod qmp;
mod slot;
mod stand;
#[allow(unsafe_code)]
mod sys;

pub use accel::Accel;
pub use artefacts::{Artefacts, BuildError};
pub use builder::Builder;
pub use command::Forward;
pub use console::{Console, ConsoleError, Echo};
pub use http::{HttpError, Response, Stream, ask_tcp, get_tcp};
pub use machine::{End, LIMIT, Machine, MachineError};
pub use qmp::{Event, Qmp, QmpError};
pub use stand::Stand;
