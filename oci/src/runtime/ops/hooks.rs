//! Hooks: programs of the engine, or of the image, run with the container's state on their standard input.

use std::ffi::{CString, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout};

use super::Machine;
use super::exec::{self, filter, plan_of};
use super::newcomer::{Newcomer, Way};
use super::wait::{END_PATIENCE_MS, Ended, end};
use crate::runtime::cgroup::Cgroup;
use crate::runtime::child::{self, Guest};
use crate::runtime::cli::Log;
use crate::runtime::config::{Hook, NamespaceKind, Process, User};
use crate::runtime::error::{Error, Result, Step, c_string};
use crate::runtime::state::{State, Status};
use crate::runtime::store::Folder;
use crate::runtime::sys::entry::Hidden;
use crate::runtime::sys::process::{self, Side, StringList};
use crate::runtime::sys::{Errno, fs, pipe, signal, socket};

#[derive(Clone, Copy)]
pub(super) enum Place<'a> {
    Runtime,
    /// The same for a container that anybody may delete meanwhile: from then on none is begun, as those of its end have run. Its lock
    /// is ours only until the hook is there, which may want it.
    UntilDeleted(&'a Folder),
    /// The container's, while its root is still the engine's and so is the program.
    Namespaces {
        pidfd: BorrowedFd<'a>,
        kinds: i32,
        process: &'a Process,
    },
    /// The program comes out of the image: it gets nothing of the host that the container has not.
    Container {
        machine: &'a Machine,
        folder: &'a Folder,
        state: &'a State,
        pidfd: BorrowedFd<'a>,
    },
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
    let (input, write) = pipe::new().step("create", "pipe")?;
    let (read, output) = pipe::new().step("create", "pipe")?;
    for ours in [&write, &read] {
        pipe::never_wait(ours.as_fd()).step("set up", "pipe")?;
    }
    let streams = [input.as_fd(), output.as_fd(), output.as_fd()];
    let pidfd = match place {
        Place::Runtime => beside(hook, streams, None)?,
        Place::UntilDeleted(folder) => {
            if !folder.lock_again()? {
                return Err(failed("not run, as the container was deleted meanwhile".to_owned()));
            }
            let begun = beside(hook, streams, None);
            folder.unlock()?;
            begun?
        }
        Place::Namespaces { pidfd, kinds, process } => beside(hook, streams, Some((pidfd, kinds, process)))?,
        Place::Container { machine, folder, state, pidfd } => {
            let inside = |way| inside(hook, streams, machine, folder, state, pidfd, way);
            let begun = match inside(Way::Born) {
                Err(Error::NeverRan(_)) => inside(Way::Moved),
                other => other,
            };
            begun.map_err(|error| failed(error.to_string()))?
        }
    };
    // Its time begins with it: who holds the container's lock takes none of that.
    let until = hook.timeout_seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds.into()));
    drop((input, output));
    let mut said = Vec::new();
    let in_time = attend(pidfd.as_fd(), (write, state.as_bytes()), &read, &mut said, until);
    if !matches!(in_time, Ok(true)) {
        let _ = process::send_signal(pidfd.as_fd(), libc::SIGKILL);
    }
    let ended = process::wait_for(pidfd.as_fd(), END_PATIENCE_MS).step("wait for hook", &hook.path)?;
    let ended = ended.ok_or_else(|| failed("somebody traces it and does not let it go".to_owned()))?;
    let why = match (in_time.step("wait for hook", &hook.path)?, ended) {
        (false, _) => format!("it did not end within {} s", hook.timeout_seconds.unwrap_or(0)),
        (true, Ended::Exited(0)) => return Ok(()),
        (true, Ended::Exited(127)) => "it exited with 127 (is it missing?)".to_owned(),
        (true, Ended::Exited(status)) => format!("it exited with {status}"),
        (true, Ended::Killed(signal)) => format!("it was killed by signal {signal} ({})", signal::words(signal)),
    };
    let words = String::from_utf8_lossy(&said);
    let words = words.trim();
    if matches!((place, ended), (Place::Namespaces { .. }, Ended::Exited(126))) && words == gone().to_string() {
        return Err(gone());
    }
    Err(failed(if words.is_empty() { why } else { format!("{why}: {words}") }))
}

/// What the hook's process says for us where the namespaces it was to join have gone with their process.
fn gone() -> Error {
    Error::System { step: JOIN, object: NAMESPACES.to_owned(), errno: Errno(libc::ESRCH) }
}

const JOIN: &str = "join";
const NAMESPACES: &str = "the container's namespaces";

/// Until the hook ends; `false` when its time is up. It need not read the state, and may say more than a pipe holds: of that the
/// first part is kept, for the case that it fails, as an engine sees nothing else of it (neither stdout nor stderr is a hook's:
/// they are the container's).
fn attend(
    pidfd: BorrowedFd<'_>,
    (to, mut state): (OwnedFd, &[u8]),
    from: &OwnedFd,
    said: &mut Vec<u8>,
    until: Option<Instant>,
) -> crate::runtime::sys::Result<bool> {
    let (mut to, mut open) = (Some(to), true);
    loop {
        let mut all = vec![PollFd::new(pidfd, PollFlags::POLLIN)];
        all.extend(to.as_ref().map(|to| PollFd::new(to.as_fd(), PollFlags::POLLOUT)));
        all.extend(open.then(|| PollFd::new(from.as_fd(), PollFlags::POLLIN)));
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.map_or(PollTimeout::NONE, |left| PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX));
        match nix::poll::poll(&mut all, left) {
            Ok(0) => return Ok(false),
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(Errno(errno as i32)),
        }
        let ended = all.first().is_some_and(|one| one.any() == Some(true));
        open = open && listen(from.as_fd(), said)?;
        let sent = to.as_ref().map(|to| fs::write(to.as_fd(), state));
        match sent {
            Some(Ok(count)) => state = state.get(count..).unwrap_or_default(),
            // A hook that does not want its input is free to close it.
            Some(Err(Errno(libc::EPIPE))) => state = &[],
            None | Some(Err(Errno(libc::EAGAIN | libc::EINTR))) => {}
            Some(Err(errno)) => return Err(errno),
        }
        if state.is_empty() {
            to = None;
        }
        if ended {
            return Ok(true);
        }
    }
}

/// What is there to be read; `false` at the end. A hook that never pauses does not keep us from looking at the clock.
fn listen(from: BorrowedFd<'_>, said: &mut Vec<u8>) -> crate::runtime::sys::Result<bool> {
    const KEPT_BYTES: usize = 4096;
    loop {
        let mut some = [0; KEPT_BYTES];
        let count = match fs::read(from, &mut some) {
            Ok(0) => return Ok(false),
            Err(Errno(libc::EAGAIN | libc::EINTR)) => return Ok(true),
            other => other?,
        };
        said.extend(some.iter().take(count.min(KEPT_BYTES - said.len())));
        if said.len() == KEPT_BYTES {
            return Ok(true);
        }
    }
}

fn take_streams(streams: [BorrowedFd<'_>; 3]) -> crate::runtime::sys::Result<()> {
    (0..).zip(streams).try_for_each(|(stream, fd)| fs::replace_stdio(fd, stream))
}

/// With the runtime's own rights. Without an environment of its own it gets, as with runc, that of whoever it runs beside.
fn beside(hook: &Hook, streams: [BorrowedFd<'_>; 3], join: Option<(BorrowedFd<'_>, i32, &Process)>) -> Result<OwnedFd> {
    let (path, args) = (c_string(hook.path.as_str()), strings(&hook.args));
    let env = match join {
        _ if !hook.env.is_empty() => strings(&hook.env),
        Some((_, _, process)) => strings(&process.env),
        None => StringList::new(std::env::vars_os().map(variable).collect()),
    };
    match process::clone(0, None).step("clone", "hook")? {
        Side::Parent { pidfd, .. } => Ok(pidfd),
        Side::Child => {
            if take_streams(streams).is_err() {
                process::exit_now(126);
            }
            let ready = process::reset_signals().step("reset", "signals").and_then(|()| match join {
                // Nothing of its own: it runs where the runtime does.
                Some((_, 0, _)) | None => Ok(()),
                Some((pidfd, kinds, beside)) => process::join_namespace(pidfd, kinds)
                    .and_then(|()| root_of(kinds, &beside.user))
                    .step(JOIN, NAMESPACES),
            });
            let failed = ready.and_then(|()| Err::<(), _>(process::exec(&path, &args, &env)).step("exec", ""));
            let missing = matches!(failed, Err(Error::System { step: "exec", errno: Errno(libc::ENOENT), .. }));
            // Told as if the hook had said it.
            let words = failed.err().map(|error| error.to_string()).unwrap_or_default();
            let _ = fs::write(fs::stdio(2), words.as_bytes());
            process::exit_now(if missing { 127 } else { 126 });
        }
    }
}

/// Of the container's namespaces those this runtime is not in: an ordinary user's has entered the user namespace already.
pub(super) fn joinable(machine: &Machine, kinds: i32) -> i32 {
    kinds & if machine.entered { !NamespaceKind::User.flag() } else { !0 }
}

/// In a user namespace nobody is somebody until he says who: without that the exec would take all rights away.
fn root_of(kinds: i32, or: &User) -> crate::runtime::sys::Result<()> {
    if kinds & NamespaceKind::User.flag() == 0 {
        return Ok(());
    }
    child::root_or(process::set_group, or.gid)?;
    match process::set_groups(&[]) {
        // A user namespace whose gid_map was written by an ordinary user.
        Ok(()) | Err(Errno(libc::EPERM)) => child::root_or(process::set_user, or.uid),
        other => other,
    }
}

/// Like a process of `exec`: in the container's cgroup, as its user, with its capabilities and its filter.
fn inside(
    hook: &Hook,
    streams: [BorrowedFd<'_>; 3],
    machine: &Machine,
    folder: &Folder,
    state: &State,
    container: BorrowedFd<'_>,
    way: Way,
) -> Result<OwnedFd> {
    let mut process = state.process()?;
    process.args = if hook.args.is_empty() { vec![hook.path.clone()] } else { hook.args.clone() };
    process.terminal = false;
    if !hook.env.is_empty() {
        process.env.clone_from(&hook.env);
    }
    let mut plan = plan_of(machine, state, &process, "hooks.startContainer".to_owned())?;
    plan.name = c_string(hook.path.as_str());
    plan.candidates = vec![plan.name.clone()];
    plan.seccomp = filter(folder)?;
    let cgroup = Cgroup::open(&state.cgroup)?;
    let (ours, theirs) = socket::pair().step("create", "channel")?;
    let root = exec::root_of(machine, state)?;
    let given = Guest {
        kinds: joinable(machine, state.namespaces),
        container,
        root: root.as_ref().map(AsFd::as_fd),
        proc: machine.proc.fd(),
        console: None,
        channel: theirs.as_fd(),
        preserve_fds: 0,
    };
    let _hidden = plan.made_outside.then(Hidden::new).transpose().step("hide", "the caller's environment")?;
    let at_birth = cgroup.as_ref().filter(|_| way == Way::Born).map(Cgroup::fd);
    let (pid, pidfd) = match process::clone(0, at_birth).step("clone", "hook")? {
        Side::Parent { pid, pidfd } => (pid, pidfd),
        Side::Child => {
            fs::close_copy(ours.as_fd());
            match take_streams(streams) {
                Ok(()) => child::guest(&plan, &given),
                Err(_) => process::exit_now(126),
            }
        }
    };
    drop(theirs);
    let mut guest = Newcomer { pid, pidfd, channel: ours, plan: &plan, state, status: Status::Created, ends: None };
    let moved = cgroup.filter(|_| way == Way::Moved).map_or(Ok(()), |cgroup| cgroup.take(pid));
    let ready = moved.and_then(|()| guest.made_ready(machine));
    let driven = ready.and_then(|()| guest.goes_inside(machine)).and_then(|()| guest.runs());
    let driven = driven.inspect_err(|_| end(guest.pidfd.as_fd()));
    // Where the container ends meanwhile that is why, whatever it looks like.
    let or_gone =
        |error| if state.is_ending(&machine.proc) { state.refuse("run a hook in", Status::Stopped) } else { error };
    driven.map(|()| guest.pidfd).map_err(or_gone)
}

fn strings(all: &[String]) -> StringList {
    StringList::new(all.iter().map(|one| c_string(one.as_str())).collect())
}

fn variable((name, value): (OsString, OsString)) -> CString {
    c_string([name.as_encoded_bytes(), b"=", value.as_encoded_bytes()].concat())
}
