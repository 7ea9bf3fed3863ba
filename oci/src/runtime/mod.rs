//! The OCI runtime: a bundle becomes a process (runtime-spec 1.3, Linux, cgroup v2), by runc's command line.
//!
//! ```text
//! cli ─► ops (create, start, exec, kill, delete, …) ─► plan (all that is to be done, worked out) ─► child (does it, execs)
//!          │                                            ▲
//!          ├─ store, state   the folder of a container  config (config.json, read in one walk)
//!          └─ cgroup         its cgroup
//! ```
//!
//! One short-lived process an operation; nothing stays behind but the container, whose parent is then PID 1. Invariants: an
//! operation that fails leaves nothing behind; two operations on one container come one after the other; no path of a
//! container is ever walked but through a descriptor of its root. Errors name the step, the object and the kernel's reason.

mod cgroup;
mod child;
mod cli;
mod config;
mod error;
mod id;
mod json;
mod ops;
mod plan;
mod procfs;
mod seccomp;
mod signal;
mod state;
mod store;
#[allow(unsafe_code)]
mod sys;
mod systemd;
mod time;

pub use signal::signal;
pub use sys::{Bump, start};
