//! `delete`: nothing of the container is left.

use std::os::fd::AsFd;

use super::Machine;
use super::hooks::run_every;
use super::kill::open_process;
use super::{rdt, rootfs};
use crate::runtime::cgroup::{Cgroup, is_within};
use crate::runtime::error::{Error, Result, Step};
use crate::runtime::id::ContainerId;
use crate::runtime::state::{START_SOCKET, State, Status};
use crate::runtime::store::Folder;
use crate::runtime::sys::{Errno, process};

pub(crate) fn delete(machine: &Machine, id: &ContainerId, force: bool) -> Result<()> {
    match machine.open(id, "delete") {
        Err(Error::NotFound { .. }) if force => Ok(()),
        other => delete_locked(machine, &other?, force),
    }
}

pub(super) fn delete_locked(machine: &Machine, folder: &Folder, force: bool) -> Result<()> {
    // No state file: its `create` died at once, and made nothing but the folder.
    let state = match State::load(folder) {
        Ok(Some(state)) => state,
        Ok(None) => return folder.remove(),
        // Nobody can say any more what is to be ended.
        Err(error @ Error::Config { .. }) if force => {
            machine.log.warn(&format!("only the container's folder is removed: {error}"));
            return folder.remove();
        }
        Err(error) => return Err(error),
    };
    // "creating" with the lock in our hands: its `create` died on the way.
    let mut cgroup = Cgroup::open(&state.cgroup)?;
    if state.pid == 0 {
        // Nobody can say whether the cgroup had been made by then, or was somebody else's and about to be refused.
        if let Some(Err(error)) = cgroup.take().map(Cgroup::remove_unused) {
            machine.log.warn(&error.to_string());
        }
    } else if state.lives(&machine.proc)? {
        let waiting = folder.exists(START_SOCKET)?;
        if !waiting && !force {
            return Err(state.refuse("delete", state.status(&machine.proc, waiting)?));
        }
        end(&state, machine)?;
    }
    clear(machine, folder, &state, cgroup)
}

/// What is left when the container's first process has ended.
pub(super) fn clear(machine: &Machine, folder: &Folder, state: &State, cgroup: Option<Cgroup>) -> Result<()> {
    let heirs = cgroup.as_ref().map(|cgroup| heirs(machine, state, cgroup)).transpose()?.unwrap_or_default();
    match (cgroup, heirs.first()) {
        (Some(cgroup), Some((id, _))) => {
            let stays = format!("cgroup {}: container {id} is in it now; it is left", state.cgroup);
            machine.log.warn(&stays);
            cgroup.end_around(&heirs.iter().map(|(_, path)| path.as_str()).collect::<Vec<_>>(), &machine.proc)?;
        }
        (Some(cgroup), None) => cgroup.remove()?,
        (None, _) => {}
    }
    if heirs.is_empty() {
        leave_scope(machine, state);
    }
    rootfs::take_away(state)?;
    rdt::leave(&state.resctrl_made)?;
    // Of namespaces, and of mounts in them, nothing is left: both went with the last process.
    folder.remove()?;
    // Spec, section "Lifecycle": a warning, as if the hook had succeeded.
    run_every("poststop", &state.hooks()?.poststop, &state.document(Status::Stopped), &machine.log);
    Ok(())
}

/// Who lives in the cgroup of a container that has ended, or below it, and where: an empty one is taken over by whoever has the same
/// cgroupsPath.
pub(super) fn heirs(machine: &Machine, state: &State, cgroup: &Cgroup) -> Result<Vec<(ContainerId, String)>> {
    if !cgroup.populated() {
        return Ok(Vec::new());
    }
    let ids = machine.store.ids()?.into_iter().filter(|id| id.as_str() != state.id);
    let heirs = ids.filter_map(|id| {
        let other = State::peek(&machine.store, &id).ok().filter(|other| is_within(&other.cgroup, &state.cgroup))?;
        (other.pid == 0 || other.lives(&machine.proc).unwrap_or(true)).then_some((id, other.cgroup))
    });
    Ok(heirs.collect())
}

/// systemd sees that a scope is empty, but not at once, and a container of the same name may be next. Nothing runs in it any more:
/// a systemd that does not say in time that it is gone is no reason to keep the container.
pub(super) fn leave_scope(machine: &Machine, state: &State) {
    if state.scope.is_empty() {
        return;
    }
    if let Err(error) = machine.systemd().and_then(|mut systemd| systemd.stop(&state.scope)) {
        machine.log.warn(&error.to_string());
    }
}

/// SIGKILL, and wait until the process is gone.
fn end(state: &State, machine: &Machine) -> Result<()> {
    let Some(pidfd) = open_process(state, &machine.proc)? else { return Ok(()) };
    match process::send_signal(pidfd.as_fd(), libc::SIGKILL) {
        Ok(()) | Err(Errno(libc::ESRCH)) => {}
        Err(errno) => return Err(errno).step("kill", format!("container {}", state.id)),
    }
    if process::wait_readable(pidfd.as_fd(), 10_000).step("wait for the end of", "the container's process")? {
        return Ok(());
    }
    Err(Errno(libc::ETIMEDOUT)).step("wait for the end of", "the container's process")
}
