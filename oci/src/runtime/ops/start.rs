//! `start`: lets a created container run its program.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::Machine;
use super::hooks::{Place, run_all};
use super::kill::open_process;
use super::listener::last_words;
use super::newcomer::failure;
use super::outside::{answer, last_said};
use super::wait::END_PATIENCE_MS;
use crate::runtime::error::{Error, Result, Step};
use crate::runtime::id::ContainerId;
use crate::runtime::state::{START_SOCKET, State, Status};
use crate::runtime::store::Folder;
use crate::runtime::sys::{Errno, fs, process, socket};

pub(crate) fn start(machine: &Machine, id: &ContainerId) -> Result<()> {
    let folder = &machine.open(id, "start")?;
    let gone = || Error::NotFound { id: folder.id.to_string() };
    let state = State::load(folder)?.ok_or_else(gone)?;
    let status = state.status(&machine.proc, folder.exists(START_SOCKET)?)?;
    if status != Status::Created {
        return Err(state.refuse("start", status));
    }
    // It may have ended since: then its number is anybody's.
    let pidfd = open_process(&state, &machine.proc)?.ok_or_else(|| state.refuse("start", Status::Stopped))?;
    let_run(machine, folder, &state, pidfd.as_fd(), None)
}

/// The steps of starting, around the word to the process: by its maker's channel, or by the socket at which it waits for `start`.
pub(super) fn let_run(
    machine: &Machine,
    folder: &Folder,
    state: &State,
    pidfd: BorrowedFd<'_>,
    channel: Option<OwnedFd>,
) -> Result<()> {
    let hooks = state.hooks()?;
    if !hooks.start_container.is_empty() {
        let place = Place::Container { machine, folder, state, pidfd };
        if let Err(error) = run_all("startContainer", &hooks.start_container, &state.document(Status::Created), place) {
            // Spec, section "Lifecycle": the container is stopped, and the failure is the operation's.
            let ended = stop(pidfd);
            // Unless it had ended by itself, and the hook found nothing to go into.
            let own = channel.filter(|_| ended).map(|channel| last_said(channel.as_fd(), pidfd));
            let own = own.filter(|words| !words.is_empty());
            return Err(own.map_or(error, |words| failure(&words, pidfd)));
        }
    }
    let connection = match channel {
        Some(channel) => answer(channel.as_fd(), pidfd).map(|()| Some(channel)),
        None => connect(folder),
    };
    let Some(connection) = connection? else {
        // An earlier `start` was killed after it let the program run; or there is no program any more.
        let ended = process::wait_readable(pidfd, 0).step("look for", "the container's process")?;
        return if ended { Err(state.refuse("start", Status::Stopped)) } else { Ok(()) };
    };
    // Nothing is written any more. Who keeps the program from going on (in a pid namespace that is somebody else's, too) must not keep
    // the lock from those who end it; and a hook may call the runtime about its container.
    folder.unlock()?;
    // The connection closes when the program runs; before that it carries what went wrong.
    // Without its listener the container would wait for answers for ever.
    let words = last_words(connection.as_fd(), state, Status::Created, state.pid).inspect_err(|_| _ = stop(pidfd))?;
    if !words.is_empty() {
        return Err(failure(&words, pidfd));
    }
    // Where the hooks of `create` are, too; the container's own folder is nobody's to write in.
    let _ = std::env::set_current_dir(&state.bundle).or_else(|_| std::env::set_current_dir("/"));
    let place = Place::UntilDeleted(folder);
    // Spec, section "Lifecycle": the container is stopped, and the failure is the operation's.
    run_all("poststart", &hooks.poststart, &state.document(Status::Running), place).inspect_err(|_| _ = stop(pidfd))
}

/// Its state is "stopped" then, unless somebody holds it.
fn stop(pidfd: BorrowedFd<'_>) -> bool {
    let _ = process::send_signal(pidfd, libc::SIGKILL);
    process::wait_readable(pidfd, END_PATIENCE_MS).unwrap_or(false)
}

/// None where nobody waits for it.
fn connect(folder: &Folder) -> Result<Option<OwnedFd>> {
    fs::chdir_fd(folder.fd()).step("enter", folder.path.display())?;
    let connection = match socket::connect(START_SOCKET.to_bytes()) {
        Err(Errno(libc::ECONNREFUSED)) => None,
        other => Some(other.step("connect to", folder.path.join("start.sock").display())?),
    };
    started(folder).map(|()| connection)
}

/// From now on the state is `running`.
fn started(folder: &Folder) -> Result<()> {
    match fs::unlink(folder.fd(), START_SOCKET, 0) {
        Err(Errno(libc::ENOENT)) => Ok(()),
        other => other.step("remove", "start socket"),
    }
}
