//! `run`: create and start in one go; in the foreground also wait and delete.

use std::os::fd::AsFd;

use super::Machine;
use super::create::{CreateOptions, Created, create};
use super::delete::{clear, delete_locked};
use super::start::let_run;
use super::wait::foreground;
use crate::runtime::error::{Result, Step};
use crate::runtime::id::ContainerId;
use crate::runtime::state::State;
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
    let Created { folder, state, cgroup, pidfd, channel, held } = create(machine, id, options, true)?;
    // Before the program prints: its terminal is then as it is to be.
    let terminal = held.terminal();
    let started = terminal.and_then(|terminal| {
        let_run(machine, &folder, &state, pidfd.as_fd(), Some(channel))?;
        Ok(terminal)
    });
    let undo = || {
        // It may have been unlocked for hooks by then.
        let again =
            folder.lock_again().and_then(|there| if there { delete_locked(machine, &folder, true) } else { Ok(()) });
        if let Err(more) = again {
            machine.log.warn(&format!("while undoing: {more}"));
        }
    };
    let terminal = started.inspect_err(|_| undo())?;
    drop(held);
    let Some(signals) = signals else { return Ok(0) };
    // Others may look at the container, or kill it, while it runs.
    folder.unlock()?;
    let status = foreground(pidfd.as_fd(), &signals, terminal).inspect_err(|_| {
        if !keep {
            undo();
        }
    })?;
    if !keep && folder.lock_again()? {
        // As it is by now: an `update` may have made something more.
        let state = State::load(&folder)?.unwrap_or(state);
        clear(machine, &folder, &state, cgroup)?;
    }
    Ok(status)
}
