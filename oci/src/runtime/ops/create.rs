//! `create`: everything of the container but its program running.
//!
//! Order: what can be refused is refused before anything is made; then folder, state file, cgroup, mounts (detached), and only
//! then the process, which is in its cgroup and namespaces from its first instruction. Whatever fails, all of it is undone.

use std::ffi::OsString;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use super::Machine;
use super::delete::leave_scope;
use super::hooks::{Place, joinable, run_all, run_every};
use super::newcomer::{Way, cloned, failure, hand_over, heard, leaves, next, set_from_outside};
use super::outside::{answer, memory_for, outside_steps, set_limits, set_offsets, unless_ended};
use super::terminal::Terminal;
use super::wait::end;
use super::{net_devices, rdt, rootfs};
use crate::runtime::cgroup::{self, Cgroup, LAST_PROGRAM};
use crate::runtime::child::{self, CLONED, Ends, FULL, HOOKS, IDMAP, JOINED, OFFSETS, READY};
use crate::runtime::config::{Config, Hooks, NamespaceKind, Process, Resources};
use crate::runtime::error::{Error, Result, Step, c_string};
use crate::runtime::id::ContainerId;
use crate::runtime::plan::{Console, ConsoleTo, Given, MountStep, Namespaces, Plan, Source, rootfs_path};
use crate::runtime::state::{FILTER_FILE, START_SOCKET, State, Status};
use crate::runtime::store::{Folder, read_file, replace_file};
use crate::runtime::sys::entry::Hidden;
use crate::runtime::sys::process::{self, Memory};
use crate::runtime::sys::{Errno, fs, socket};
use crate::runtime::systemd::{Helper, Scope};
use crate::runtime::time;

/// What is left to be done by a process that is seen in somebody else's pid namespace takes no time; who stops it there must not hold us.
const SEEN_PATIENCE_MS: i32 = 30_000;
/// Where all is done there (`can_be_outside`), large folders may have to be copied.
const BETWEEN_PATIENCE_MS: i32 = 600_000;

#[derive(Default)]
pub(crate) struct CreateOptions {
    pub(crate) bundle: PathBuf,
    /// The name of config.json, in the bundle.
    pub(crate) config: PathBuf,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) console_socket: Option<PathBuf>,
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// The cgroup is to be a scope of systemd.
    pub(crate) systemd: bool,
    /// The caller stays, and a terminal is for it.
    pub(crate) foreground: bool,
    pub(crate) preserve_fds: u32,
    /// How many of those the program is told of (see `listen_fds`).
    pub(crate) listen_fds: u32,
    pub(crate) no_pivot: bool,
    pub(crate) no_new_keyring: bool,
}

/// A created container: its folder is still locked, its process waits: for a word on the channel if it is to go on at once, else
/// for `start`.
pub(crate) struct Created {
    pub(crate) folder: Folder,
    pub(crate) state: State,
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) pidfd: OwnedFd,
    pub(crate) channel: OwnedFd,
    /// Nothing of it may go before the program runs.
    pub(crate) held: Box<Held>,
}

/// What the container's process works with, in the memory it shares with us.
pub(crate) struct Held {
    plan: Plan,
    ends: Ends,
}

impl Held {
    /// The program's terminal, if it is for the caller.
    pub(super) fn terminal(&self) -> Result<Option<Terminal>> {
        self.plan.console.as_ref().and_then(Console::caller).map(Terminal::receive).transpose()
    }
}

/// What has to be undone when a later step fails.
#[derive(Default)]
struct Made {
    cgroup: Option<Cgroup>,
    pidfd: Option<OwnedFd>,
    held: Option<Box<Held>>,
    devices: Option<net_devices::Taken>,
    hooks_ran: bool,
}

/// `at_once`: the same process will start it, so nothing is needed by which another one could.
pub(crate) fn create(machine: &Machine, id: &ContainerId, options: &CreateOptions, at_once: bool) -> Result<Created> {
    match create_in(machine, id, options, at_once, Way::Born) {
        Err(Error::NeverRan(_)) => create_in(machine, id, options, at_once, Way::Moved),
        other => other,
    }
}

fn create_in(machine: &Machine, id: &ContainerId, options: &CreateOptions, at_once: bool, way: Way) -> Result<Created> {
    let bundle = fs::real_path(&c_string(options.bundle.as_os_str().as_encoded_bytes()));
    let bundle = PathBuf::from(OsString::from_vec(bundle.step("open bundle", options.bundle.display())?.into_bytes()));
    let file = bundle.join(&options.config);
    let text = read_file(&file).step("read", file.display())?;
    let config = Config::parse(&text).map_err(|error| Error::Config { file: file.display().to_string(), error })?;
    // Its many small pieces go with the process.
    let config = ManuallyDrop::new(config);
    for remark in &config.remarks {
        machine.log.remark(&format!("{}: {remark}", file.display()));
    }
    machine.log.debug(&format!("create id={id} bundle={}", bundle.display()));
    let folder = machine.store.create(id)?;
    let mut state = State {
        id: id.to_string(),
        oci_version: config.oci_version.clone(),
        rootfs: rootfs_path(&config, &bundle).display().to_string(),
        bundle: bundle.display().to_string(),
        created: time::now(),
        annotations: config.annotations.clone(),
        hooks: config.hooks_text.clone(),
        process: config.process_text.clone(),
        linux: config.linux.for_exec.clone(),
        ..State::default()
    };
    let mut made = Made::default();
    let asked = Asked { config: &config, bundle: &bundle, options, at_once, way };
    let error = match build(machine, &folder, &asked, &mut state, &mut made) {
        Ok(channel) => match (made.pidfd, made.held) {
            (Some(pidfd), Some(held)) => {
                return Ok(Created { folder, state, cgroup: made.cgroup, pidfd, channel, held });
            }
            _ => return Err(Error::ChildGone("the container has no process".to_owned())),
        },
        Err(error) => error,
    };
    undo(machine, &folder, &config.hooks, &state, made);
    Err(error)
}

/// What is to be made.
struct Asked<'a> {
    config: &'a Config,
    bundle: &'a Path,
    options: &'a CreateOptions,
    at_once: bool,
    way: Way,
}

fn build(machine: &Machine, folder: &Folder, asked: &Asked<'_>, state: &mut State, made: &mut Made) -> Result<OwnedFd> {
    let Asked { config, bundle, options, at_once, way } = *asked;
    let wanted = config.linux.cgroups_path.as_deref();
    // Where there is no systemd, that is what is wrong, whatever form the path has.
    let parse = || Scope::parse(wanted, &state.id, machine.rootless);
    let scope = options.systemd.then(parse).transpose().map_err(|error| machine.systemd().err().unwrap_or(error))?;
    if scope.is_none() {
        state.cgroup = cgroup::path_for(wanted, &state.id, &machine.proc)?;
    }
    // Before anything else exists: should we be killed now, `delete` knows where to look. A scope would be gone by itself.
    state.save(folder)?;
    let none = Resources::default();
    let resources = config.linux.resources.as_ref().unwrap_or(&none);
    let helper = match &scope {
        Some(scope) => Some(start_scope(machine, state, scope, resources, made)?),
        None => limits(machine, state, resources, made).map(|()| None)?,
    };
    let cgroup = made.cgroup.as_ref();
    let given = Given {
        proc: &machine.proc,
        bundle,
        cgroup: &state.cgroup,
        console: ConsoleTo { socket: options.console_socket.as_deref(), caller: options.foreground },
        preserve_fds: options.preserve_fds,
        no_pivot: options.no_pivot,
        rootless: machine.rootless,
        entered: machine.entered,
        no_new_keyring: options.no_new_keyring,
        listen_fds: options.listen_fds,
        own_capabilities: process::permitted_capabilities().step("read", "own capabilities")?,
    };
    let plan = Plan::build(config, &given, &mut |warning| machine.log.warn(&warning))?;
    if let Some(cgroup) = cgroup {
        match cgroup.guard_devices(&resources.devices, false, &machine.store.file(LAST_PROGRAM)) {
            // In a user namespace nobody can make a device node, nor a program that guards them.
            Err(Error::System { errno: Errno(libc::EPERM), .. }) if machine.rootless => {}
            other => other?,
        }
    }
    state.namespaces = plan.namespaces.kinds();
    state.guest = plan.namespaces.pid.is_some();
    if plan.root.shared {
        // Should we be killed, `delete` knows what to take away.
        state.root_mount = fs::mount_of(plan.root.tree.as_fd()).step("find the mount of", "rootfs")?;
        state.save(folder)?;
    }
    if let Some(filter) = &plan.process.seccomp {
        folder.replace(FILTER_FILE, &filter.to_bytes())?;
        if let (true, Some(seccomp)) = (filter.notifies(), &config.linux.seccomp) {
            state.listener_path = seccomp.listener_path.clone().unwrap_or_default();
            state.listener_metadata = seccomp.listener_metadata.clone().unwrap_or_default();
        }
    }
    let listener = if at_once { None } else { Some(listen(folder, bundle)?) };
    let (ours, theirs) = socket::pair().step("create", "channel")?;
    let hooks = config.hooks.any_at_create();
    let ends = Ends { channel: ManuallyDrop::new(theirs), listener, hooks, moved: way == Way::Moved };
    let Held { plan, ends } = &**made.held.insert(Box::new(Held { plan, ends }));
    let outside = plan.process.made_outside;
    let between = plan.namespaces.go_between() && !outside;
    let at_birth = cgroup.filter(|_| way == Way::Born).map(Cgroup::fd);
    // Who enters a time namespace has to have its memory for itself (setns(2)).
    let (flags, into, memory) = match () {
        () if between => (0, None, Memory::Copied),
        () if outside => (0, at_birth, Memory::Copied),
        () if plan.namespaces.has(NamespaceKind::Time) => (plan.namespaces.create, at_birth, Memory::Copied),
        () => (plan.namespaces.create, at_birth, memory_for(machine, plan.process.oom_score_adj)),
    };
    let _hidden = outside.then(Hidden::new).transpose().step("hide", "the caller's environment")?;
    let started = process::start(flags, into, memory, || {
        // With our copy of the runtime's end closed, its death is seen as the end of the channel.
        fs::close_copy(ours.as_fd());
        // The copy of the locked folder would keep the lock until the exec.
        fs::close_copy(folder.fd());
        child::init(plan, machine.proc.fd(), ends, at_birth)
    });
    let (mut pid, pidfd) = started.step("clone", "the container's process")?;
    let pidfd = made.pidfd.insert(pidfd);
    fs::close_copy(ends.channel.as_fd());
    if between {
        (pid, *pidfd) = cloned(machine, &next(ours.as_fd(), pidfd.as_fd())?, pidfd.as_fd(), None)?;
    } else if outside {
        let message = socket::message(ours.as_fd()).step("listen to", "the container's process")?;
        if message != JOINED {
            return Err(failure(&message, pidfd.as_fd()));
        }
    }
    if let Some(cgroup) = cgroup.filter(|_| way == Way::Moved) {
        unless_ended(cgroup.take(pid), ours.as_fd(), pidfd.as_fd())?;
    }
    drop(helper);
    // Not before somebody is in it: who joined a user namespace first could not clone into what is another one's.
    if let (Some(cgroup), Some(uid)) = (cgroup, owner_of_cgroup(config, &plan.namespaces)) {
        cgroup.give_to(uid)?;
    }
    note(machine, state, pid)?;
    if between {
        // Others see it from now on: whoever wants to end it while we wait finds it.
        state.save(folder)?;
    }
    outside_steps(machine, plan, (pid, pidfd.as_fd()), ours.as_fd(), way)?;
    // The one outside is nobody's but ours. Behind it speaks one that others see, and may have taken hold of: it is ready, or it failed.
    let (mut is_seen, mut place_of_it) = (false, None);
    loop {
        let patience = if is_seen { SEEN_PATIENCE_MS } else { BETWEEN_PATIENCE_MS };
        if (is_seen || between)
            && !process::wait_readable(ours.as_fd(), patience).step("wait for", "the container's process")?
        {
            return Err(Error::ChildGone(
                "the container's process is held by somebody in its pid namespace".to_owned(),
            ));
        }
        let message =
            if outside && !is_seen { heard(ours.as_fd(), pidfd.as_fd()) } else { socket::message_and_fd(ours.as_fd()) };
        let (message, mount) = match message {
            // It ended before it read our answer: told once, and behind it comes what it said, if anything.
            Err(Errno(libc::ECONNRESET)) => continue,
            other => other.step("listen to", "the container's process")?,
        };
        let message = &*message;
        if message == READY && is_seen == outside {
            let placed = place(machine, config, state, &mut made.devices);
            unless_ended(placed.and_then(|()| set_limits(pid, &plan.process)), ours.as_fd(), pidfd.as_fd())?;
            break;
        } else if is_seen {
            return Err(failure(message, pidfd.as_fd()));
        } else if message == OFFSETS {
            unless_ended(set_offsets(machine, pid, plan), ours.as_fd(), pidfd.as_fd())?;
            answer(ours.as_fd(), pidfd.as_fd())?;
        } else if let (Some(index), Some(tree)) = (message.strip_prefix(IDMAP), mount) {
            map_ids(plan, index, tree.as_fd())?;
            answer(ours.as_fd(), pidfd.as_fd())?;
        } else if message == HOOKS {
            made.hooks_ran = true;
            // Whom a hook asks the runtime about.
            let own = i32::try_from(std::process::id()).unwrap_or_default();
            let stat = machine.proc.stat(own).step("look for", "this process")?;
            state.creator = stat.map(|stat| (own, stat.start_ticks));
            state.save(folder)?;
            state.creator = None;
            create_hooks(machine, config, state, (pidfd.as_fd(), ours.as_fd()))?;
            answer(ours.as_fd(), pidfd.as_fd())?;
        } else if message == FULL && outside && place_of_it.is_none() {
            place_of_it = Some(unless_ended(leaves(machine, pid), ours.as_fd(), pidfd.as_fd())?);
            answer(ours.as_fd(), pidfd.as_fd())?;
        } else if message.starts_with(CLONED) && outside {
            (pid, *pidfd) = cloned(machine, message, pidfd.as_fd(), place_of_it.as_deref())?;
            is_seen = true;
            note(machine, state, pid)?;
            // Whoever wants to end it while we wait finds it.
            state.save(folder)?;
            unless_ended(set_from_outside(pid, &plan.process), ours.as_fd(), pidfd.as_fd())?;
            answer(ours.as_fd(), pidfd.as_fd())?;
        } else {
            return Err(failure(message, pidfd.as_fd()));
        }
    }
    state.save(folder)?;
    if let Some(file) = &options.pid_file {
        replace_file(file, &pid.to_string())?;
    }
    if let Some(path) = &options.pidfd_socket {
        hand_over(path, b"standard", pidfd.as_fd())?;
    }
    if !at_once {
        answer(ours.as_fd(), pidfd.as_fd())?;
    }
    Ok(ours)
}

/// Of a mount that the container's process has made ready, and may not map.
fn map_ids(plan: &Plan, index: &[u8], tree: BorrowedFd<'_>) -> Result<()> {
    let index = index.first_chunk().map(|index| u32::from_le_bytes(*index) as usize);
    match index.and_then(|index| plan.mounts.get(index)) {
        Some(MountStep { source: Source::Inside { idmap: Some(idmap), .. }, label, .. }) => {
            idmap.set(tree).step("map the ids of", label.to_string_lossy())
        }
        _ => Err(Error::ChildGone("the container's process asked for a mount that is none of its own".to_owned())),
    }
}

/// How many sockets the caller passes on by LISTEN_FDS (spec, section "File descriptors"): none of those that were meant for another
/// process, whose variables this one has inherited (sd_listen_fds(3)). Where nobody is named, as with crun, they are for us.
pub(crate) fn listen_fds() -> u32 {
    let number = |name| Some(std::env::var(name).ok()?.parse().unwrap_or(0));
    let ours = number("LISTEN_PID").is_none_or(|pid: u32| pid == std::process::id());
    if ours { number("LISTEN_FDS").unwrap_or(0) } else { 0 }
}

/// What is done with the process from outside, when it is ready: its resctrl group, and the network devices that are to be its own.
fn place(
    machine: &Machine,
    config: &Config,
    state: &mut State,
    devices: &mut Option<net_devices::Taken>,
) -> Result<()> {
    let (linux, pid) = (&config.linux, state.pid);
    if let Some(rdt) = &linux.intel_rdt {
        rdt::apply(rdt, state, &machine.proc)?;
    }
    if linux.net_devices.is_empty() {
        return Ok(());
    }
    // The one it has joined, or its own.
    let target = fs::open_at(machine.proc.fd(), &c_string(format!("{pid}/ns/net")), libc::O_RDONLY, 0);
    let target = target.step("open", "the container's network namespace")?;
    devices.insert(net_devices::Taken::new(target, &machine.proc)?).take(&linux.net_devices)
}

/// The container's cgroup with its limits. An ordinary user to whom none was delegated goes without, if no limit is asked for.
fn limits(machine: &Machine, state: &mut State, resources: &Resources, made: &mut Made) -> Result<()> {
    match Cgroup::create(&state.cgroup) {
        Ok(cgroup) => made.cgroup.insert(cgroup).apply(resources),
        Err(Error::System { errno: Errno(libc::EACCES | libc::EPERM | libc::EROFS), .. }) if machine.rootless => {
            if !cgroup::limits(resources)?.is_empty() {
                let why = "limits are asked for, and no cgroup is delegated to this user".to_owned();
                return Err(Error::Cgroup { path: state.cgroup.clone(), why });
            }
            state.cgroup.clear();
            Ok(())
        }
        Err(error) => Err(error),
    }
}

/// The same as a scope of systemd, which is there as long as what comes back.
fn start_scope(
    machine: &Machine,
    state: &mut State,
    scope: &Scope,
    resources: &Resources,
    made: &mut Made,
) -> Result<Helper> {
    let limits = cgroup::limits(resources)?;
    let (path, helper) = machine.systemd()?.start(scope, &state.id, &limits, &machine.proc)?;
    state.scope.clone_from(&scope.unit);
    let gone = || Error::Cgroup { path: path.clone(), why: "it is gone again".to_owned() };
    made.cgroup.insert(Cgroup::open(&path)?.ok_or_else(gone)?).apply(resources)?;
    state.cgroup = path;
    Ok(helper)
}

/// Whose the cgroup is to be: the program's user, if it sees the cgroup as a root of its own that it may write to.
fn owner_of_cgroup(config: &Config, namespaces: &Namespaces) -> Option<u32> {
    let linux = &config.linux;
    let own = linux.namespaces.iter().any(|one| one.kind == NamespaceKind::Cgroup && one.path.is_none());
    let writable = config.mounts.iter().any(|one| {
        let cgroup = matches!(one.kind.as_deref(), Some("cgroup" | "cgroup2"));
        cgroup && one.destination == "/sys/fs/cgroup" && !one.options.iter().any(|option| option == "ro")
    });
    let uid = config.process.as_ref().filter(|_| own && writable)?.user.uid;
    let map = namespaces.uids.iter().find(|map| uid.checked_sub(map.container).is_some_and(|at| at < map.size))?;
    map.host.checked_add(uid - map.container)
}

fn note(machine: &Machine, state: &mut State, pid: i32) -> Result<()> {
    state.pid = pid;
    let stat = machine.proc.stat(pid).step("look for", "the container's process")?;
    state.start_ticks = stat.map_or(0, |stat| stat.start_ticks);
    Ok(())
}

/// The start socket, bound by its name alone: the path of the folder may be longer than a socket's address.
fn listen(folder: &Folder, bundle: &Path) -> Result<OwnedFd> {
    fs::chdir_fd(folder.fd()).step("enter", folder.path.display())?;
    let listener = socket::listen(START_SOCKET.to_bytes()).step("create start socket in", folder.path.display());
    let back = fs::open_host(&c_string(bundle.as_os_str().as_encoded_bytes()), libc::O_PATH | libc::O_DIRECTORY, 0);
    fs::chdir_fd(back.step("enter", bundle.display())?.as_fd()).step("enter", bundle.display())?;
    listener
}

fn create_hooks(
    machine: &Machine,
    config: &Config,
    state: &State,
    (pidfd, channel): (BorrowedFd<'_>, BorrowedFd<'_>),
) -> Result<()> {
    let hooks = &config.hooks;
    let (document, absent) = (state.document(Status::Creating), Process::default());
    run_all("prestart", &hooks.prestart, &document, Place::Runtime)?;
    run_all("createRuntime", &hooks.create_runtime, &document, Place::Runtime)?;
    let place = Place::Namespaces {
        pidfd,
        kinds: joinable(machine, state.namespaces),
        process: config.process.as_ref().unwrap_or(&absent),
    };
    // The namespaces go with their process.
    unless_ended(run_all("createContainer", &hooks.create_container, &document, place), channel, pidfd)
}

/// Takes everything back, in the opposite order; what cannot be taken back is told and does not stop the rest.
fn undo(machine: &Machine, folder: &Folder, hooks: &Hooks, state: &State, made: Made) {
    let tell = |result: Result<()>| {
        if let Err(error) = result {
            machine.log.warn(&format!("while undoing: {error}"));
        }
    };
    if let Some(pidfd) = made.pidfd {
        end(pidfd.as_fd());
    }
    if let Some(devices) = made.devices {
        tell(devices.give_back());
    }
    if let Some(cgroup) = made.cgroup {
        tell(cgroup.remove());
    }
    leave_scope(machine, state);
    tell(rootfs::take_away(state));
    if made.hooks_ran {
        run_every("poststop", &hooks.poststop, &state.document(Status::Stopped), &machine.log);
    }
    tell(rdt::leave(&state.resctrl_made));
    tell(folder.remove());
}
