//! The runtime as its users see it: the built binary, real namespaces, a real cgroup v2, a root with one static program.
//!
//! Each test thread has a mount namespace of its own, in which the machine's root file system is read-only, /tmp is a fresh
//! tmpfs and /sys/fs/cgroup is cgroup v2: whatever a hostile bundle manages to do, it does not do it to the machine.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test; the lint's own exemption sees only #[test] functions

mod copy_up;
mod ends;
mod exec;
mod failure;
mod forbidden;
mod habits;
#[cfg(target_arch = "x86_64")] // its registers
mod inject;
mod isolation;
#[cfg(target_arch = "x86_64")] // for the shapes
mod killed;
mod lifecycle;
mod mounts;
mod newcomers;
mod races;
mod resources;
#[cfg(target_arch = "x86_64")] // its registers
mod robust;
mod rootless;
mod scores;
mod seccomp;
mod security;
#[cfg(target_arch = "x86_64")] // for the one above that needs its registers
mod shapes;
mod support;
mod terminal;
mod update;
