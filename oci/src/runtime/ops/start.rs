//! `start`: lets a created container run its program.

use std::os::fd::AsFd;

use super::Machine;
use super::create::failure;
use super::hooks::{Place, run_all};
use super::listener::last_words;
use crate::runtime::error::{Error, Result, Step};
use crate::runtime::id::ContainerId;
use crate::runtime::state::{START_SOCKET, State, Status};
use crate::runtime::store::Folder;
use crate::runtime::sys::{Errno, fs, process, socket};

pub(crate) fn start(machine: &Machine, id: &ContainerId) -> Result<()> {
    start_locked(machine, &machine.store.open(id)?)
}

/// The same with the folder already locked, for `run`.
pub(super) fn start_locked(machine: &Machine, folder: &Folder) -> Result<()> {
    let gone = || Error::NotFound { id: folder.id.to_string() };
    let state = State::load(folder)?.ok_or_else(gone)?;
    let status = state.status(&machine.proc, folder.exists(START_SOCKET));
    if status != Status::Created {
        return Err(state.refuse("start", status));
    }
    let hooks = state.hooks()?;
    let pidfd = process::pidfd_open(state.pid).step("open", "the container's process")?;
    if !hooks.start_container.is_empty() {
        let place = Place::Container { pidfd: pidfd.as_fd(), kinds: state.namespaces };
        if let Err(error) = run_all(&hooks.start_container, &state.document(Status::Created), place) {
            // Spec, section "Lifecycle": the container is stopped, and the failure is the operation's.
            let _ = process::send_signal(pidfd.as_fd(), libc::SIGKILL);
            return Err(error);
        }
    }
    fs::chdir_fd(folder.fd()).step("enter", folder.path.display())?;
    let connection = match socket::connect(START_SOCKET.to_bytes()) {
        // An earlier `start` was killed after it let the program run.
        Err(Errno(libc::ECONNREFUSED)) => return started(folder),
        other => other.step("connect to", folder.path.join("start.sock").display())?,
    };
    // The connection closes when the program runs; before that it carries what went wrong.
    let mut message = [0; 8192];
    let count = match last_words(connection.as_fd(), &state, Status::Created, state.pid, &mut message) {
        Ok(count) => count,
        Err(error) => {
            // Without its listener the container would wait for answers for ever.
            let _ = process::send_signal(pidfd.as_fd(), libc::SIGKILL);
            return Err(error);
        }
    };
    started(folder)?;
    if count > 0 {
        return Err(failure(message.get(..count).unwrap_or_default(), pidfd.as_fd()));
    }
    run_all(&hooks.poststart, &state.document(Status::Running), Place::Runtime).inspect_err(|_| {
        // Spec, section "Lifecycle": the container is stopped, and the failure is the operation's.
        let _ = process::send_signal(pidfd.as_fd(), libc::SIGKILL);
    })
}

/// From now on the state is `running`.
fn started(folder: &Folder) -> Result<()> {
    match fs::unlink(folder.fd(), START_SOCKET, 0) {
        Err(Errno(libc::ENOENT)) => Ok(()),
        other => other.step("remove", "start socket"),
    }
}
