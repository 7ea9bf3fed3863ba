//! `run`: create and start in one go; in the foreground also wait and delete.

use std::os::fd::AsFd;

use super::Machine;
use super::create::{CreateOptions, Created, create};
use super::delete::{delete, delete_locked};
use super::start::start_locked;
use super::wait::foreground;
use crate::runtime::error::{Result, Step};
use crate::runtime::id::ContainerId;
use crate::runtime::sys::signal::Signals;

/// The exit status for the shell: 0 when detached, else the container's.
pub(crate) fn run(
    machine: &Machine,
    id: &ContainerId,
    options: &CreateOptions,
    detach: bool,
    keep: bool,
) -> Result<u8> {
    // Taken before there is a process to pass them on to: none is lost in between.
    let signals = if detach { None } else { Some(Signals::take_all().step("take", "signals")?) };
    let Created { folder, pidfd } = create(machine, id, options)?;
    if let Err(error) = start_locked(machine, &folder) {
        if let Err(more) = delete_locked(machine, &folder, true) {
            machine.log.warn(&format!("while undoing: {more}"));
        }
        return Err(error);
    }
    let Some(signals) = signals else { return Ok(0) };
    // Others may look at the container, or kill it, while it runs.
    drop(folder);
    let status = foreground(pidfd.as_fd(), &signals)?;
    if !keep {
        delete(machine, id, true)?;
    }
    Ok(status)
}
