//! `exec`: one more process in a container that runs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use super::Machine;
use super::hooks::joinable;
use super::kill::open_process;
use super::newcomer::{Newcomer, Way, hand_over};
use super::outside::memory_for;
use super::terminal::Terminal;
use super::wait::{end, foreground};
use crate::runtime::cgroup::{self, Cgroup};
use crate::runtime::child::{self, Guest};
use crate::runtime::config::{ConfigError, NamespaceKind, Process, parse_process};
use crate::runtime::error::{Error, Result, Step, c_string};
use crate::runtime::id::ContainerId;
use crate::runtime::plan::{Console, ConsoleTo, ProcessPlan, missing_home};
use crate::runtime::seccomp::Filter;
use crate::runtime::state::{FILTER_FILE, State, Status};
use crate::runtime::store::{Folder, read_file, replace_file};
use crate::runtime::sys::entry::Hidden;
use crate::runtime::sys::process::{self, Memory};
use crate::runtime::sys::signal::Signals;
use crate::runtime::sys::{Errno, fs, schedule, socket};

#[derive(Default)]
pub(crate) struct ExecOptions {
    pub(crate) process_file: Option<PathBuf>,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: Option<String>,
    pub(crate) user: Option<(u32, Option<u32>)>,
    pub(crate) groups: Vec<u32>,
    pub(crate) capabilities: Vec<String>,
    pub(crate) no_new_privileges: bool,
    pub(crate) terminal: bool,
    /// Rows and columns.
    pub(crate) console_size: Option<(u16, u16)>,
    pub(crate) console_socket: Option<PathBuf>,
    pub(crate) pidfd_socket: Option<PathBuf>,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) detach: bool,
    pub(crate) ignore_paused: bool,
    pub(crate) cgroup: Option<String>,
    pub(crate) preserve_fds: u32,
    pub(crate) apparmor: Option<String>,
    pub(crate) process_label: Option<String>,
}

/// The exit status for the shell: 0 when detached, else the process's.
pub(crate) fn exec(machine: &Machine, id: &ContainerId, options: &ExecOptions) -> Result<u8> {
    let signals = if options.detach { None } else { Some(Signals::take_all().step("take", "signals")?) };
    machine.log.debug(&format!("exec id={id}"));
    let (pidfd, terminal) = match enter(machine, id, options, signals.as_ref(), Way::Born) {
        Err(Error::NeverRan(_)) => enter(machine, id, options, signals.as_ref(), Way::Moved)?,
        other => other?,
    };
    signals.map_or(Ok(0), |signals| foreground(pidfd.as_fd(), &signals, terminal))
}

/// Until the program runs.
fn enter(
    machine: &Machine,
    id: &ContainerId,
    options: &ExecOptions,
    signals: Option<&Signals>,
    way: Way,
) -> Result<(OwnedFd, Option<Terminal>)> {
    let folder = machine.open(id, "exec in")?;
    let state = State::load(&folder)?.ok_or_else(|| Error::NotFound { id: id.to_string() })?;
    let gone = || state.refuse("exec in", if state.pid == 0 { Status::Creating } else { Status::Stopped });
    let container = open_process(&state, &machine.proc)?.ok_or_else(gone)?;
    if !options.ignore_paused && state.frozen() {
        return Err(state.refuse("exec in", Status::Paused));
    }
    let cgroup = cgroup(&state, options)?;
    let mut plan = plan(machine, &state, options)?;
    plan.seccomp = filter(&folder)?;
    let to = ConsoleTo { socket: options.console_socket.as_deref(), caller: !options.detach };
    let console = Console::new(plan.terminal, to)?;
    let (ours, theirs) = socket::pair().step("create", "channel")?;
    let root = root_of(machine, &state)?;
    let given = Guest {
        kinds: joinable(machine, state.namespaces),
        container: container.as_fd(),
        root: root.as_ref().map(AsFd::as_fd),
        proc: machine.proc.fd(),
        console: console.as_ref().map(AsFd::as_fd),
        channel: theirs.as_fd(),
        preserve_fds: options.preserve_fds,
    };
    // Who enters a time namespace has to have its memory for itself (setns(2)).
    let shares = state.namespaces & NamespaceKind::Time.flag() == 0;
    let memory = if shares { memory_for(machine, plan.oom_score_adj) } else { Memory::Copied };
    let _hidden = plan.made_outside.then(Hidden::new).transpose().step("hide", "the caller's environment")?;
    let start = |cgroup: Option<BorrowedFd<'_>>| {
        process::start(0, cgroup, memory, || {
            fs::close_copy(ours.as_fd());
            // The copy of the locked folder would keep the lock until the exec.
            fs::close_copy(folder.fd());
            child::guest(&plan, &given)
        })
    };
    let own = || cgroup_of(machine, &state)?.ok_or_else(gone);
    let started = match start(cgroup.as_ref().filter(|_| way == Way::Born).map(Cgroup::fd)) {
        // The container has moved its processes into cgroups of its own below (as systemd does): then to its first one's.
        Err(Errno(libc::EBUSY)) if options.cgroup.is_none() => start(Some(own()?.fd())),
        other => other,
    };
    // Where the container ends meanwhile that is why, whatever it looks like: ENOMEM is what clone says in its pid namespace then.
    let or_gone = |error| if state.is_ending(&machine.proc) { gone() } else { error };
    let (pid, pidfd) = started.step("clone", "a process").map_err(or_gone)?;
    drop(theirs);
    // From here on the container may keep the process from going on: it is paused until somebody resumes it, or stops what it sees of
    // this. Whoever resumes or deletes it wants the lock.
    folder.unlock()?;
    let ends = signals.map(Signals::that_end).transpose().step("take", "signals")?;
    let mut guest = Newcomer { pid, pidfd, channel: ours, plan: &plan, state: &state, status: Status::Running, ends };
    let moved = match cgroup.as_ref().filter(|_| way == Way::Moved).map(|cgroup| cgroup.take(pid)) {
        Some(Err(Error::System { errno: Errno(libc::EBUSY), .. })) if options.cgroup.is_none() => {
            own().and_then(|own| own.take(pid))
        }
        other => other.unwrap_or(Ok(())),
    };
    let driven = moved.and_then(|()| drive(machine, &mut guest, options, console.as_ref()));
    let terminal = driven.inspect_err(|_| end(guest.pidfd.as_fd())).map_err(or_gone)?;
    Ok((guest.pidfd, terminal))
}

/// From the clone to the program.
fn drive(
    machine: &Machine,
    guest: &mut Newcomer<'_>,
    options: &ExecOptions,
    console: Option<&Console>,
) -> Result<Option<Terminal>> {
    guest.made_ready(machine)?;
    let terminal = console.and_then(Console::caller).map(Terminal::receive).transpose()?;
    guest.goes_inside(machine)?;
    if let Some(file) = &options.pid_file {
        replace_file(file, &guest.pid.to_string())?;
    }
    if let Some(path) = &options.pidfd_socket {
        hand_over(path, b"setns", guest.pidfd.as_fd())?;
    }
    guest.runs()?;
    Ok(terminal)
}

/// The container's filter holds for every process in it. A broken file is no reason to go without.
pub(super) fn filter(folder: &Folder) -> Result<Option<Filter>> {
    let Some(bytes) = folder.read(FILTER_FILE)? else { return Ok(None) };
    match Filter::from_bytes(&bytes) {
        Some(filter) => Ok(Some(filter)),
        None => {
            let error = ConfigError::invalid("", "is not a compiled filter");
            Err(Error::Config { file: folder.path.join(FILTER_FILE).display().to_string(), error })
        }
    }
}

/// None when the container has none of its own.
fn cgroup(state: &State, options: &ExecOptions) -> Result<Option<Cgroup>> {
    let missing = |path: &str| Error::Cgroup { path: path.to_owned(), why: "it does not exist".to_owned() };
    if state.cgroup.is_empty() && options.cgroup.is_none() {
        return Ok(None);
    }
    let whole = Cgroup::open(&state.cgroup)?.ok_or_else(|| missing(&state.cgroup))?;
    let below = options.cgroup.as_deref().unwrap_or_default().trim_matches('/');
    if below.is_empty() {
        return Ok(Some(whole));
    }
    if below.split('/').any(|name| matches!(name, "" | "." | "..")) {
        return Err(Error::Cgroup { path: state.cgroup.clone(), why: format!("bad sub cgroup path: {below}") });
    }
    whole.child(below)?.ok_or_else(|| missing(below)).map(Some)
}

/// The cgroup the container's first process is in.
fn cgroup_of(machine: &Machine, state: &State) -> Result<Option<Cgroup>> {
    let path = cgroup::path_of(state.pid.unsigned_abs(), &machine.proc)?;
    // It may have been moved anywhere by root; only its own tree is the container's.
    if !path.starts_with(&format!("{}/", state.cgroup)) {
        return Ok(None);
    }
    Cgroup::open(&path)
}

/// The process of the file, or the container's own with what the command line changes.
fn plan(machine: &Machine, state: &State, options: &ExecOptions) -> Result<ProcessPlan> {
    let (file, process) = match &options.process_file {
        Some(path) => {
            let text = read_file(path).step("read", path.display())?;
            let file = path.display().to_string();
            let parsed = parse_process(&text).map_err(|error| Error::Config { file: file.clone(), error });
            let (process, remarks) = parsed?;
            for remark in remarks {
                machine.log.remark(&format!("{file}: {remark}"));
            }
            (file, completed(process, state.process()?))
        }
        None => ("process".to_owned(), changed(state.process()?, options)?),
    };
    let mut plan = plan_of(machine, state, &process, file)?;
    if let Some(cpus) = &process.exec_affinity.initial {
        // The process inherits it.
        schedule::set_affinity(cpus).step("set", "process.execCPUAffinity.initial")?;
    }
    plan.affinity = process.exec_affinity.after;
    Ok(plan)
}

/// Of a further process in the container.
pub(super) fn plan_of(machine: &Machine, state: &State, process: &Process, file: String) -> Result<ProcessPlan> {
    let own = process::permitted_capabilities().step("read", "own capabilities")?;
    let maps_users = state.namespaces & NamespaceKind::User.flag() != 0;
    let grantable = if maps_users { u64::MAX } else { own };
    let home: Vec<String> = home(machine, state, process).into_iter().collect();
    let linux = state.linux()?;
    let mut warn = |warning: String| machine.log.warn(&warning);
    let plan = ProcessPlan::new(process, &linux, &home, grantable, &mut warn);
    let mut plan = plan.map_err(|error| Error::Config { file, error })?;
    plan.limits_from_outside = maps_users;
    plan.made_outside = state.namespaces & NamespaceKind::Pid.flag() != 0;
    Ok(plan)
}

/// The container's root, where joining its namespaces does not lead there.
pub(super) fn root_of(machine: &Machine, state: &State) -> Result<Option<OwnedFd>> {
    if state.namespaces & NamespaceKind::Mount.flag() != 0 {
        return Ok(None);
    }
    let path = c_string(format!("{}/root", state.pid));
    fs::open_at(machine.proc.fd(), &path, libc::O_PATH | libc::O_DIRECTORY, 0)
        .step("open", "the container's root")
        .map(Some)
}

/// By the root of the container's first process, as it is mounted now.
fn home(machine: &Machine, state: &State, process: &Process) -> Option<String> {
    let path = c_string(format!("{}/root", state.pid));
    let root = fs::open_at(machine.proc.fd(), &path, libc::O_PATH | libc::O_DIRECTORY, 0).ok()?;
    missing_home(&process.env, root.as_fd(), process.user.uid)
}

/// What confines the container's own process confines this one where the file says nothing else, as with runc.
fn completed(mut process: Process, own: Process) -> Process {
    process.apparmor_profile = process.apparmor_profile.or(own.apparmor_profile);
    process.selinux_label = process.selinux_label.or(own.selinux_label);
    process.capabilities = process.capabilities.or(own.capabilities);
    if process.rlimits.is_empty() {
        process.rlimits = own.rlimits;
    }
    process
}

fn changed(mut process: Process, options: &ExecOptions) -> Result<Process> {
    process.args.clone_from(&options.args);
    // What is named twice has its last value (see `ProcessPlan`).
    process.env.extend(options.env.iter().cloned());
    process.terminal = options.terminal;
    process.console_size = options.console_size;
    if let Some(cwd) = &options.cwd {
        if !cwd.starts_with('/') {
            return Err(Error::Usage(format!("--cwd {cwd:?} is not an absolute path")));
        }
        process.cwd.clone_from(cwd);
    }
    if let Some((uid, gid)) = options.user {
        process.user.uid = uid;
        process.user.gid = gid.unwrap_or(process.user.gid);
    }
    process.user.additional_gids.extend(&options.groups);
    process.no_new_privileges |= options.no_new_privileges;
    process.apparmor_profile = options.apparmor.clone().or(process.apparmor_profile);
    process.selinux_label = options.process_label.clone().or(process.selinux_label);
    if !options.capabilities.is_empty() {
        let sets = process.capabilities.get_or_insert_default();
        for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
            set.extend(options.capabilities.iter().cloned());
        }
        // As with runc: what a container's config lets be inherited, a process is given to inherit.
        if !sets.inheritable.is_empty() {
            sets.ambient.extend(options.capabilities.iter().cloned());
        }
    }
    Ok(process)
}
