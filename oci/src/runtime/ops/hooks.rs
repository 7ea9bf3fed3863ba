//! Hooks: programs of the engine, run with the container's state on their standard input.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, BorrowedFd};

use super::wait::Ended;
use crate::runtime::cli::Log;
use crate::runtime::config::Hook;
use crate::runtime::error::{Error, Result, Step, c_string};
use crate::runtime::store::write_all;
use crate::runtime::sys::process::{self, Side, StringList};
use crate::runtime::sys::{Errno, fs, pipe};

/// In whose namespaces a hook runs.
#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    Runtime,
    Container { pidfd: BorrowedFd<'a>, kinds: i32, env: &'a [String] },
}

/// In order; the first that fails ends it (spec, section "Lifecycle").
pub(super) fn run_all(point: &'static str, hooks: &[Hook], state: &str, place: Place<'_>) -> Result<()> {
    hooks.iter().enumerate().try_for_each(|(at, hook)| run(point, at, hook, state, place))
}

/// Every one of them, whatever becomes of the others; what fails is told.
pub(super) fn run_every(point: &'static str, hooks: &[Hook], state: &str, log: &Log) {
    for (at, hook) in hooks.iter().enumerate() {
        if let Err(error) = run(point, at, hook, state, Place::Runtime) {
            log.warn(&error.to_string());
        }
    }
}

fn run(point: &'static str, at: usize, hook: &Hook, state: &str, place: Place<'_>) -> Result<()> {
    let failed = |why: String| Error::Hook { point, at, path: hook.path.clone(), why };
    let path = c_string(hook.path.as_str());
    let args = strings(&hook.args);
    // Without one of its own it gets, as with runc, that of whoever it runs beside.
    let env = match place {
        _ if !hook.env.is_empty() => strings(&hook.env),
        Place::Container { env, .. } => strings(env),
        Place::Runtime => StringList::new(std::env::vars_os().map(variable).collect()),
    };
    let (read, write) = pipe::new().step("create", "pipe")?;
    let pidfd = match process::clone(0, None).step("clone", "hook")? {
        Side::Parent { pidfd, .. } => pidfd,
        Side::Child => {
            drop(write);
            let ready = fs::replace_stdio(read.as_fd(), 0).and_then(|()| process::reset_signals());
            let ready = ready.and_then(|()| match place {
                Place::Runtime => Ok(()),
                Place::Container { pidfd, kinds, .. } => process::join_namespace(pidfd, kinds),
            });
            let errno = ready.err().unwrap_or_else(|| process::exec(&path, &args, &env));
            process::exit_now(if errno.0 == libc::ENOENT { 127 } else { 126 });
        }
    };
    drop(read);
    // A hook that does not want its input is free to close it.
    match write_all(write.as_fd(), state.as_bytes()) {
        Ok(()) | Err(Errno(libc::EPIPE)) => {}
        Err(errno) => return Err(failed(format!("write state: {errno}"))),
    }
    drop(write);
    let timeout = hook.timeout_seconds.map_or(-1, |s| i32::try_from(u64::from(s) * 1000).unwrap_or(i32::MAX));
    if !process::wait_readable(pidfd.as_fd(), timeout).step("wait for hook", &hook.path)? {
        let _ = process::send_signal(pidfd.as_fd(), libc::SIGKILL);
        let _ = process::wait(pidfd.as_fd());
        return Err(failed(format!("it did not end within {} s", hook.timeout_seconds.unwrap_or(0))));
    }
    match process::wait(pidfd.as_fd()).step("wait for hook", &hook.path)? {
        Ended::Exited(0) => Ok(()),
        Ended::Exited(127) => Err(failed("it exited with 127 (is it missing?)".to_owned())),
        Ended::Exited(status) => Err(failed(format!("it exited with {status}"))),
        Ended::Killed(signal) => Err(failed(format!("it was killed by signal {signal}"))),
    }
}

fn strings(all: &[String]) -> StringList {
    StringList::new(all.iter().map(|one| c_string(one.as_str())).collect())
}

fn variable((name, value): (OsString, OsString)) -> CString {
    c_string([name.as_encoded_bytes(), b"=", value.as_encoded_bytes()].concat())
}
