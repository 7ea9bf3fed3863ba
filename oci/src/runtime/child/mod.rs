//! The process between clone and exec: it becomes the container's program.
//!
//! Invariants: it mostly works in the runtime's memory, and never frees or changes what it is given; so it allocates nothing, takes no lock and never panics on purpose;
//! all it does is in the plan. It never opens a path of the host but the rootfs's own. On failure it sends the step, its object and
//! the kernel's reason to whoever waits (first `create`, later `start`) and ends. When the runtime dies before the
//! container exists, its end of the channel closes, and this process ends too.
//!
//! ```text
//!   runtime                    child
//!     │ clone3 ────────────────► │
//!     │ ◄───────────────── CLONED│ (only where somebody has to go between, to join namespaces before the clone)
//!     │ uid_map … GO ──────────► │ (user namespace only)
//!     │ ◄──────────────── OFFSETS│ (time namespace with offsets only)
//!     │ ◄───────────────── JOINED│ (where a pid namespace is joined, and all is made ready outside of it)
//!     │                          │ namespaces, mounts, devices
//!     │ ◄────────────────── IDMAP│ (an idmapped mount of what an earlier one has put there)
//!     │ ◄──────────────── HOOKS  │ (if there are hooks)
//!     │ run hooks … GO ────────► │ masks, pivot_root, identity
//!     │ ◄────────────────── FULL │ (where its cgroup has room for one process alone: this one is moved out of it)
//!     │ GO ────────────────────► │
//!     │ ◄──────────────── CLONED │ (its last step there; from then on it is the one in the pid namespace that speaks)
//!     │ GO ────────────────────► │
//!     │ ◄──────────────── READY  │
//!     │ state.json … GO ───────► │ waits for `start` on the socket
//!   start ──── connects ───────► │ exec; the connection closes by itself, or carries the failure
//! ```

mod copy;
mod identity;
mod rootfs;
mod target;

use identity::Filtered;
use std::convert::Infallible;
use std::ffi::CStr;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::config::NamespaceKind;
use super::plan::{Namespaces, Plan, ProcessPlan};
use super::procfs::write_setting;
use super::sys::fs;
use super::sys::process::Side;
use super::sys::{Errno, mount, net, process, signal, socket, tty};

pub(crate) const GO: &[u8] = b"G";
pub(crate) const HOOKS: &[u8] = b"H";
pub(crate) const READY: &[u8] = b"R";
/// From the one that goes between: the number of the container's process.
pub(crate) const CLONED: &[u8] = b"C";
/// Behind that number: it holds CAP_SYS_ADMIN until it has loaded its filter.
pub(crate) const ADMIN: &[u8] = b"A";
/// From the one outside: in the container's cgroup there is room for one process, and that is this one.
pub(crate) const FULL: &[u8] = b"F";
/// It is in all its namespaces but the pid namespace.
pub(crate) const JOINED: &[u8] = b"J";
/// The time namespace is there and empty: the runtime writes its offsets.
pub(crate) const OFFSETS: &[u8] = b"T";
/// With a mount that is not attached yet, behind which of the plan's it is: the runtime maps its ids.
pub(crate) const IDMAP: &[u8] = b"I";
/// With the seccomp listener's descriptor.
pub(crate) const LISTENER: &[u8] = b"L";
/// In front of a failure's words.
pub(crate) const FAILED: &[u8] = b"E";

/// Nobody else sees it.
const BY_ITSELF: Filtered<'static> = Filtered::Last { admin: false };

/// A step that did not work: `mount`, `proc on /proc`, EPERM.
pub(crate) struct Failed<'a> {
    verb: &'static str,
    object: &'a [u8],
    errno: Errno,
    /// A file system context, where the kernel has left more words on it.
    context: Option<OwnedFd>,
}

pub(crate) type Done<'a, T = ()> = Result<T, Failed<'a>>;

/// Names the step and its object.
pub(crate) trait Doing<'a, T> {
    fn doing(self, verb: &'static str, object: &'a (impl Named + ?Sized)) -> Done<'a, T>;
}

impl<'a, T> Doing<'a, T> for Result<T, Errno> {
    fn doing(self, verb: &'static str, object: &'a (impl Named + ?Sized)) -> Done<'a, T> {
        self.map_err(|errno| Failed { verb, object: object.words(), errno, context: None })
    }
}

/// What an object is called.
pub(crate) trait Named {
    fn words(&self) -> &[u8];
}

impl Named for CStr {
    fn words(&self) -> &[u8] {
        self.to_bytes()
    }
}

impl Named for str {
    fn words(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl Named for std::ffi::CString {
    fn words(&self) -> &[u8] {
        self.to_bytes()
    }
}

/// What the container's first process is given besides the plan.
pub(crate) struct Ends {
    /// To the runtime, which has closed its own copy.
    pub(crate) channel: ManuallyDrop<OwnedFd>,
    /// Where `start` will connect; none if the runtime starts it itself.
    pub(crate) listener: Option<OwnedFd>,
    /// Whether the runtime has hooks to run before the root changes.
    pub(crate) hooks: bool,
    /// It is not born in its cgroup: the runtime puts it there, and says when.
    pub(crate) moved: bool,
}

/// The container's first process, or the one that goes between, for which the cgroup is.
pub(crate) fn init(plan: &Plan, proc: BorrowedFd<'_>, ends: &Ends, cgroup: Option<BorrowedFd<'_>>) -> ! {
    let prepared = match go_between(plan, ends, cgroup) {
        Ok(()) => prepare(plan, proc, ends),
        Err(failed) => Err(failed),
    };
    let filtered = match prepared {
        Ok(filtered) => filtered,
        Err(failed) => fail(ends.channel.as_fd(), &failed),
    };
    // From here on the failure goes to whoever starts the container.
    let starter = match ends.listener.as_ref().map(|listener| socket::accept(listener.as_fd())) {
        None => None,
        Some(Ok(starter)) => Some(starter),
        Some(Err(_)) => process::exit_now(1),
    };
    let starter = starter.as_ref().map_or(ends.channel.as_fd(), AsFd::as_fd);
    match identity::run(&plan.process, starter, filtered) {
        Ok(never) => match never {},
        Err(failed) => fail(starter, &failed),
    }
}

/// Joins what has to be joined before the clone, and clones the container's process, which then alone comes back from here: a child of
/// the runtime, to which this one says its number, and ends. Where all is made ready outside the pid namespace that clone comes last
/// (see `go_inside`): here the caller itself comes back, in the new namespaces, which it makes for itself.
fn go_between<'a>(plan: &'a Plan, ends: &Ends, cgroup: Option<BorrowedFd<'_>>) -> Done<'a> {
    let all = &plan.namespaces;
    if !all.go_between() {
        return Ok(());
    }
    // What the joined user namespace owns can only be joined with its rights, anything else only with those of before.
    let mut later = 0_u64;
    for (index, (kind, fd)) in all.join.iter().enumerate().filter(|(_, (kind, _))| joined_before_clone(all, *kind)) {
        match process::join_namespace(fd.as_fd(), kind.flag()) {
            Err(Errno(libc::EPERM)) if all.user.is_some() => later |= 1 << index,
            other => other.doing("join namespace", kind.name())?,
        }
    }
    let mut pid_later = false;
    if let Some(pid) = &all.pid {
        match process::join_namespace(pid.as_fd(), libc::CLONE_NEWPID) {
            Err(Errno(libc::EPERM)) if all.user.is_some() => pid_later = true,
            other => other.doing("join namespace", "pid")?,
        }
    }
    if let Some(user) = &all.user {
        process::join_namespace(user.as_fd(), libc::CLONE_NEWUSER).doing("join namespace", "user")?;
    }
    for (_, (kind, fd)) in all.join.iter().enumerate().filter(|(index, _)| later & 1 << index != 0) {
        process::join_namespace(fd.as_fd(), kind.flag()).doing("join namespace", kind.name())?;
    }
    if let Some(pid) = all.pid.as_ref().filter(|_| pid_later) {
        process::join_namespace(pid.as_fd(), libc::CLONE_NEWPID).doing("join namespace", "pid")?;
    }
    if plan.process.made_outside {
        process::unshare(i32::try_from(all.create).unwrap_or(-1)).doing("create", c"the container's namespaces")?;
        return socket::send(ends.channel.as_fd(), &[JOINED]).doing("report to", c"the runtime");
    }
    match process::clone(all.create | process::BESIDE, cgroup).doing("clone", "the container's process")? {
        Side::Child => Ok(()),
        Side::Parent { pid, .. } => {
            // Should the runtime be gone, the container's process will find out by itself.
            socket::send(ends.channel.as_fd(), &[CLONED, &pid.to_le_bytes()]).doing("report to", c"the runtime")?;
            process::exit_now(0)
        }
    }
}

/// From within a cgroup namespace nothing could be cloned into a cgroup that does not lie in it, where the hierarchy is mounted with
/// `nsdelegate` (as systemd has it).
fn joined_before_clone(all: &Namespaces, kind: NamespaceKind) -> bool {
    all.go_between() && kind != NamespaceKind::Cgroup
}

/// What a further process in a container is given besides its plan.
pub(crate) struct Guest<'a> {
    /// The CLONE_NEW… bits to join, and the pidfd of the container's first process.
    pub(crate) kinds: i32,
    pub(crate) container: BorrowedFd<'a>,
    /// Where that one is in the host's mount namespace: its root.
    pub(crate) root: Option<BorrowedFd<'a>>,
    pub(crate) proc: BorrowedFd<'a>,
    pub(crate) console: Option<BorrowedFd<'a>>,
    pub(crate) channel: BorrowedFd<'a>,
    pub(crate) preserve_fds: u32,
}

/// A further process in a container that exists: namespaces are joined, the rest is as above.
pub(crate) fn guest(plan: &ProcessPlan, given: &Guest<'_>) -> ! {
    match guest_steps(plan, given) {
        Ok(never) => match never {},
        Err(failed) => fail(given.channel, &failed),
    }
}

fn guest_steps<'a>(plan: &'a ProcessPlan, given: &Guest<'_>) -> Done<'a, Infallible> {
    // First: a failure's words would be lost behind an answer that nobody has read.
    wait_go(given.channel)?;
    common()?;
    // By pidfd: all at once, and no path in /proc to be swapped.
    if given.kinds != 0 {
        process::join_namespace(given.container, given.kinds).doing("join the namespaces of", c"the container")?;
    }
    if let Some(root) = given.root {
        fs::chdir_fd(root).and_then(|()| fs::chroot_to_cwd()).doing("change root to", c"the container's")?;
    }
    if given.kinds & libc::CLONE_NEWUSER != 0 {
        become_root(plan)?;
    }
    if let Some(console) = given.console {
        let root = fs::open_host(c"/", libc::O_PATH | libc::O_DIRECTORY, 0).doing("open", c"/")?;
        rootfs::terminal(root.as_fd(), plan, console, false)?;
    }
    identity::assume(plan, given.proc, given.preserve_fds)?;
    let_go([given.channel; 2], given.preserve_fds)?;
    socket::send(given.channel, &[READY]).doing("report to", c"the runtime")?;
    wait_go(given.channel)?;
    let filtered = if plan.made_outside { go_inside(plan, given.channel, None)? } else { BY_ITSELF };
    identity::run(plan, given.channel, filtered)
}

/// Only the program's process comes back from here, and it alone is in the pid namespace that has been joined for children: what is
/// seen there may be traced by who has CAP_SYS_PTRACE, so it never had more than the container's root, descriptors and rights (but for one
/// right, where `load_outside` says so).
/// Its memory is a copy of the runtime's, without what that one was called with (see `entry::Hidden`): the container's plan, and paths.
/// `listener`: where it will be started.
fn go_inside<'a>(
    plan: &'a ProcessPlan,
    channel: BorrowedFd<'_>,
    listener: Option<BorrowedFd<'_>>,
) -> Done<'a, Filtered<'a>> {
    let filtered = identity::load_outside(plan, channel, listener)?;
    let copied = match process::copy_beside() {
        Err(Errno(libc::EAGAIN)) => {
            socket::send(channel, &[FULL]).doing("report to", c"the runtime")?;
            wait_go(channel)?;
            process::copy_beside()
        }
        other => other,
    };
    if let Some(pid) = copied.doing("clone", "the container's process")? {
        // Should the runtime be gone, that one will find out by itself.
        let more = if let Filtered::Last { admin: true } = filtered { ADMIN } else { b"" };
        socket::send(channel, &[CLONED, &pid.to_le_bytes(), more]).doing("report to", c"the runtime")?;
        process::exit_now(0);
    }
    // The session of the one outside ends with it.
    process::new_session().doing("start", c"a session")?;
    if plan.terminal {
        tty::set_controlling(fs::stdio(0)).doing("take control of", c"terminal")?;
    }
    wait_go(channel).map(|()| filtered)
}

fn fail(to: BorrowedFd<'_>, failed: &Failed<'_>) -> ! {
    let errno = failed.errno.0.to_le_bytes();
    let space: &[u8] = if failed.object.is_empty() || failed.verb.ends_with('/') { b"" } else { b" " };
    let mut log = [0; 256];
    let more = failed.context.as_ref().and_then(|context| mount::fs_words(context.as_fd(), &mut log));
    let more: [&[u8]; 3] = more.map_or([b"", b"", b""], |more| [b" (", more, b")"]);
    // When this cannot be sent nobody waits for it.
    let _ =
        socket::send(to, &[FAILED, &errno, failed.verb.as_bytes(), space, failed.object, more[0], more[1], more[2]]);
    process::exit_now(1)
}

fn wait_go<'a>(channel: BorrowedFd<'_>) -> Done<'a> {
    let mut answer = [0; 1];
    match socket::receive(channel, &mut answer).doing("listen to", c"the runtime")? {
        1 if answer == GO => Ok(()),
        // The runtime is gone or has given up.
        _ => process::exit_now(1),
    }
}

/// All of the host's that is open, before anything looks for the program: close-on-exec would be too late, as the kernel walks to the program
/// and to a script's interpreter first, and an image may name `/proc/self/fd/N/../…` for both (CVE-2024-21626).
fn let_go<'a>(but: [BorrowedFd<'_>; 2], preserved: u32) -> Done<'a> {
    fs::close_all_but(but, preserved.saturating_add(3)).doing("close", c"the host's descriptors")
}

/// Nothing of the caller's but what the container is meant to have.
fn common<'a>() -> Done<'a> {
    process::reset_signals().doing("reset", c"signals")?;
    // Modes of nodes and folders are meant exactly; the program's own umask comes later.
    fs::umask(0);
    process::new_session().doing("start", c"a session")
}

/// Or whom the program is for, where the mapping has no root: all rights in a user namespace are its first process's, whoever it is
/// (user_namespaces(7)), but it makes nothing in a file system as somebody who has no id there.
fn become_root<'a>(plan: &ProcessPlan) -> Done<'a> {
    root_or(process::set_group, plan.gid).doing("set group to", c"one of the user namespace")?;
    process::set_groups(&[]).doing("clear groups in", c"the user namespace")?;
    root_or(process::set_user, plan.uid).doing("set user to", c"one of the user namespace")
}

/// The id 0 if there is one, else this one.
pub(crate) fn root_or(set: fn(u32) -> Result<(), Errno>, id: u32) -> Result<(), Errno> {
    match set(0) {
        Err(Errno(libc::EINVAL)) => set(id),
        other => other,
    }
}

fn prepare<'a>(plan: &'a Plan, proc: BorrowedFd<'_>, ends: &Ends) -> Done<'a, Filtered<'a>> {
    let channel = ends.channel.as_fd();
    common()?;
    let all = &plan.namespaces;
    if all.maps.is_some() || all.go_between() || ends.moved {
        // For the mapping, the cgroup, or until the one that went between has said all it had to say.
        wait_go(channel)?;
    }
    if all.maps.is_some() || all.user.is_some() {
        become_root(&plan.process)?;
    }
    enter_namespaces(plan, proc, channel)?;
    if let Some(name) = &plan.hostname {
        process::set_hostname(name).doing("set hostname to", name)?;
    }
    if let Some(name) = &plan.domainname {
        process::set_domainname(name).doing("set domainname to", name)?;
    }
    for (path, value) in &plan.sysctl {
        write_setting(proc, path, value).doing("set /proc/", path)?;
    }
    let empty = rootfs::build(plan, channel)?;
    if ends.hooks {
        socket::send(channel, &[HOOKS]).doing("report to", c"the runtime")?;
        wait_go(channel)?;
    }
    rootfs::seal(plan, empty)?;
    rootfs::enter(plan)?;
    identity::assume(&plan.process, proc, plan.preserve_fds)?;
    let_go([channel, ends.listener.as_ref().map_or(channel, AsFd::as_fd)], plan.preserve_fds)?;
    if ends.listener.is_some() {
        // It will wait for as long as nobody starts it, and not longer than it is let.
        signal::end_when_asked().doing("handle", c"signals")?;
    }
    let starter = ends.listener.as_ref().map(AsFd::as_fd);
    let filtered = if plan.process.made_outside { go_inside(&plan.process, channel, starter)? } else { BY_ITSELF };
    socket::send(channel, &[READY]).doing("report to", c"the runtime")?;
    wait_go(channel)?;
    Ok(filtered)
}

fn enter_namespaces<'a>(plan: &'a Plan, proc: BorrowedFd<'_>, channel: BorrowedFd<'_>) -> Done<'a> {
    let all = &plan.namespaces;
    for (kind, fd) in all.join.iter().filter(|(kind, _)| !joined_before_clone(all, *kind)) {
        process::join_namespace(fd.as_fd(), kind.flag()).doing("join namespace", kind.name())?;
    }
    if all.unshare != 0 {
        process::unshare(all.unshare).doing("create", c"cgroup or time namespace")?;
    }
    if all.unshare & libc::CLONE_NEWTIME != 0 {
        if !all.time_offsets.is_empty() {
            // The file belongs to the machine's root, which in a user namespace this process is not.
            socket::send(channel, &[OFFSETS]).doing("report to", "the runtime")?;
            wait_go(channel)?;
        }
        let time = fs::open_at(proc, c"self/ns/time_for_children", libc::O_RDONLY, 0);
        let time = time.doing("open", c"/proc/self/ns/time_for_children")?;
        process::join_namespace(time.as_fd(), libc::CLONE_NEWTIME).doing("join namespace", c"time")?;
    }
    if all.creates(NamespaceKind::Network) {
        net::bring_up_loopback().doing("bring up", c"the loopback interface")?;
    }
    Ok(())
}
