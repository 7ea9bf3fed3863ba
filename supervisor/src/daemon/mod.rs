//! The daemon: `orlop supervise`.
//!
//! One loop owns all state (`core`); slow work runs in threads and in the runtime's processes and comes back as events. What is
//! to be done is decided by pure functions (`machine` for a unit, `engine` for all of them) and done by `perform`. Every record is
//! written below /run before it is acted upon, so that a supervisor that dies at any instant is followed by one that goes on from
//! there (`recover`): no container ends for it, none starts twice, no exit status is lost.
//!
//! On failure: what concerns one unit fails that unit, with a sentence; everything else is logged and the loop goes on. Only what
//! it cannot be without at its start (an epoll, signals) ends it, and PID 1 starts it anew.

mod boot;
mod bundle;
mod cgroup;
mod clock;
mod conditions;
mod core;
mod engine;
mod events;
pub mod exec;
mod fd_store;
mod handoff;
mod health;
mod id_ranges;
mod images;
mod logger;
mod logs;
mod machine;
mod mailbox;
mod network;
mod networks;
mod notify;
mod paths;
mod perform;
mod phase;
mod pods;
mod process;
mod recover;
mod reload;
mod replies;
mod requests;
mod runtime;
pub(crate) mod secrets;
mod shutdown;
mod sockets;
mod stats;
mod status;
mod store;
#[allow(unsafe_code)] // the crate's room for it
mod sys;
#[cfg(test)]
mod testing;
mod timers;
mod unit_files;
mod watchers;

use std::{env, fs, path::Path, process::ExitCode};

use nix::sys::resource::{Resource, getrlimit, setrlimit};

pub(crate) use self::logs::Owner;
use self::{core::Daemon, handoff::Handoff, paths::Paths};

/// Names the descriptor of the handoff socket.
const HANDOFF_VARIABLE: &str = "ORLOP_HANDOFF";

/// Supervises until it is told to end.
pub fn run() -> ExitCode {
    let paths = Paths::new(Path::new("/"));
    // Before anything is made or opened: this may be a person's shell on a host of another kind.
    let handoff = match take_handoff() {
        Ok(handoff) => handoff,
        Err(error) => {
            eprintln!("orlop supervise: {error}; Orlop's PID 1 starts it: boot a machine with `cargo boot`");
            return ExitCode::FAILURE;
        }
    };
    let cmdline = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    logger::end_with_every_panic();
    let own = logger::start(&paths.spools(), cmdline.split_ascii_whitespace().any(|word| word == "orlop.debug"));
    // Two pipes and a file for each of some hundred units are more than the usual soft limit; containers get limits of their own.
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && let Err(errno) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        log::warn!("raise the limit of open files to {hard}: {errno}");
    }
    match Daemon::new(paths, handoff, own) {
        Ok(mut daemon) => {
            daemon.start();
            daemon.run();
            ExitCode::SUCCESS
        }
        Err(errno) => {
            log::error!("start: {errno}");
            ExitCode::FAILURE
        }
    }
}

fn take_handoff() -> Result<Handoff, String> {
    let number = env::var(HANDOFF_VARIABLE).map_err(|_| format!("there is no {HANDOFF_VARIABLE}"))?;
    let of = |error: &dyn std::fmt::Display| format!("{HANDOFF_VARIABLE}={number}: {error}");
    let fd = sys::adopt_fd(number.parse().map_err(|error: std::num::ParseIntError| of(&error))?);
    fd.and_then(|fd| Ok(Handoff::new(fd)?)).map_err(|error| of(&error))
}
