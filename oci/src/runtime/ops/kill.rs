//! `kill`, `pause`, `resume`.

use std::os::fd::{AsFd, OwnedFd};

use super::Machine;
use super::delete::heirs;
use crate::runtime::cgroup::Cgroup;
use crate::runtime::config::NamespaceKind;
use crate::runtime::error::{Error, Result, Step};
use crate::runtime::id::ContainerId;
use crate::runtime::procfs::Procfs;
use crate::runtime::state::{START_SOCKET, State, Status};
use crate::runtime::sys::{Errno, process};

/// A descriptor of the container's process, if it is still that process and has not ended.
pub(super) fn open_process(state: &State, proc: &Procfs) -> Result<Option<OwnedFd>> {
    if state.pid == 0 {
        return Ok(None);
    }
    let pidfd = match process::pidfd_open(state.pid) {
        // Nobody, or by now a thread of another process.
        Err(Errno(libc::ESRCH | libc::EINVAL | libc::ENOENT)) => return Ok(None),
        other => other.step("open", format!("process {}", state.pid))?,
    };
    // Checked after the descriptor is there: from then on the number cannot come to mean another process for us.
    Ok(state.lives(proc)?.then_some(pidfd))
}

pub(crate) fn kill(machine: &Machine, id: &ContainerId, signal: i32, all: bool) -> Result<()> {
    let not_found = || Error::NotFound { id: id.to_string() };
    // The lock may be a hook's operation, which is to be ended by this.
    let mut state = State::peek(&machine.store, id)?;
    let mut alone = None;
    if state.pid == 0 || (all && signal != libc::SIGKILL) {
        // There is nobody to be killed yet; or all of them are frozen meanwhile, and nobody else may do that.
        state = State::load(alone.insert(machine.open(id, "kill")?))?.ok_or_else(not_found)?;
    }
    let process = open_process(&state, &machine.proc)?;
    // Without a pid namespace of its own, the end of its first process ends nothing else.
    let alone_in_it = state.namespaces & NamespaceKind::Pid.flag() != 0 && !state.guest;
    let everyone = all || (signal == libc::SIGKILL && !alone_in_it);
    // Without a cgroup there is the first process, whose end is that of its pid namespace.
    if everyone
        && let Some(cgroup) = Cgroup::open(&state.cgroup)?
        && (process.is_some() || (cgroup.populated() && heirs(machine, &state, &cgroup)?.is_empty()))
    {
        return kill_all(&cgroup, signal, state.frozen());
    }
    let Some(process) = process else {
        let status = if state.pid == 0 { Status::Creating } else { Status::Stopped };
        // Engines ask to be sure; there is nothing left to be done.
        return if all && status == Status::Stopped { Ok(()) } else { Err(state.refuse("kill", status)) };
    };
    match process::send_signal(process.as_fd(), signal) {
        Err(Errno(libc::ESRCH)) => Err(state.refuse("kill", Status::Stopped)),
        other => other.step("kill", format!("container {id}")),
    }
}

/// Frozen meanwhile: who is forked while the list is read would be missed, and a number that is free again be somebody else's. So
/// the signal is sent to everybody there is at one instant. Who has it blocked keeps it for later, and what he forks until then is
/// born without it (signal(7): a child's set of pending signals is empty): so do the forks of musl and of posix_spawn, which
/// block all signals for a moment. Only SIGKILL ends those, too.
fn kill_all(cgroup: &Cgroup, signal: i32, paused: bool) -> Result<()> {
    if signal == libc::SIGKILL {
        return cgroup.kill();
    }
    // Should one of them not freeze in time, the others are; it gets the signal all the same.
    let _ = if paused { Ok(()) } else { cgroup.freeze(true) };
    let sent = cgroup.pids().and_then(|pids| {
        pids.into_iter().try_for_each(|pid| match process::kill(pid, signal) {
            Ok(()) | Err(Errno(libc::ESRCH)) => Ok(()),
            Err(errno) => Err(errno).step("kill", format!("process {pid}")),
        })
    });
    let thawed = if paused { Ok(()) } else { cgroup.freeze(false) };
    sent.and(thawed)
}

pub(crate) fn freeze(machine: &Machine, id: &ContainerId, frozen: bool) -> Result<()> {
    let operation = if frozen { "pause" } else { "resume" };
    let folder = machine.open(id, operation)?;
    let state = State::load(&folder)?.ok_or_else(|| Error::NotFound { id: id.to_string() })?;
    let status = state.status(&machine.proc, folder.exists(START_SOCKET)?)?;
    state.needs_cgroup(operation)?;
    let allowed = if frozen { matches!(status, Status::Running | Status::Created) } else { status == Status::Paused };
    let cgroup = Cgroup::open(&state.cgroup)?;
    match cgroup.filter(|_| allowed) {
        Some(cgroup) => cgroup.freeze(frozen),
        None => Err(state.refuse(operation, status)),
    }
}
