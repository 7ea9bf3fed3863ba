//! The last steps: limits, working directory, user, capabilities, and the program itself.

use std::convert::Infallible;
use std::ffi::CStr;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd};

use super::{Doing, Done, Errno, Failed, LISTENER, fs, process, socket};
use crate::runtime::plan::ProcessPlan;
use crate::runtime::seccomp::Filter;
use crate::runtime::sys::call::{Call, calls_of_a_copy};
use crate::runtime::sys::process::CapabilityWords;
use crate::runtime::sys::schedule;

/// All that can be done before `start`: afterwards this process has the container's identity and no way back.
pub(super) fn assume<'a>(plan: &'a ProcessPlan, proc: BorrowedFd<'_>, preserve_fds: u32) -> Done<'a> {
    labels(plan, proc)?;
    match if plan.new_keyring { process::new_session_keyring() } else { Ok(()) } {
        // A kernel without keys, or a user with no quota left for one: there is nothing of the caller's to be protected then.
        Ok(()) | Err(Errno(libc::ENOSYS | libc::EDQUOT | libc::EPERM)) => {}
        Err(errno) => return Err(errno).doing("create", c"a session keyring"),
    }
    if !plan.limits_from_outside {
        for limit in plan.early_limits() {
            process::set_limit(0, limit.resource, limit.value).doing("set", limit.what)?;
        }
    }
    placement(plan)?;
    // Every descriptor of ours is close-on-exec already; this is for what the caller left open (CVE-2016-9962).
    fs::close_on_exec_from(preserve_fds.saturating_add(3)).doing("mark descriptors", c"close-on-exec")?;
    stdio_owner(plan.uid)?;
    drop_bounding(plan.bounding)?;
    // As root first, because folders on the way may be closed to the user; then as the user, because root may be nobody on a
    // network file system.
    let as_root = working_directory(plan);
    process::control(libc::PR_SET_KEEPCAPS, 1, 0).doing("keep", c"capabilities")?;
    if !plan.keep_groups {
        match process::set_groups(&plan.groups) {
            // A user namespace whose gid_map was written by an ordinary user.
            Err(Errno(libc::EPERM)) if plan.groups.is_empty() => {}
            other => other.doing("set", c"process.user.additionalGids")?,
        }
    }
    process::set_group(plan.gid).doing("set", c"process.user.gid")?;
    process::set_user(plan.uid).doing("set", c"process.user.uid")?;
    capabilities(plan)?;
    if as_root.is_err() {
        working_directory(plan)?;
    }
    fs::umask(plan.umask);
    if plan.no_new_privileges {
        process::control(libc::PR_SET_NO_NEW_PRIVS, 1, 0).doing("set", c"process.noNewPrivileges")?;
    }
    program(plan).map(drop)
}

/// Before the capabilities go: most of this takes CAP_SYS_NICE.
fn placement<'a>(plan: &ProcessPlan) -> Done<'a> {
    if let Some(personality) = plan.personality {
        process::set_personality(personality).doing("set", "linux.personality")?;
    }
    if let Some(policy) = &plan.memory_policy {
        schedule::set_memory_policy(policy.mode, &policy.nodes).doing("set", "linux.memoryPolicy")?;
    }
    match &plan.affinity {
        Some(cpus) => schedule::set_affinity(cpus).doing("set", "process.execCPUAffinity.final")?,
        // Where this is forbidden to the runtime, nobody has asked for it.
        None => drop(schedule::set_affinity(&[u64::MAX; 16])),
    }
    if let Some(priority) = plan.io_priority {
        schedule::set_io_priority(priority).doing("set", "process.ioPriority")?;
    }
    match &plan.scheduler {
        // A copy need not inherit it (SCHED_FLAG_RESET_ON_FORK), or cannot be made (SCHED_DEADLINE).
        Some(_) if plan.made_outside => Ok(()),
        Some(scheduler) => schedule::set_scheduler(0, scheduler).doing("set", "process.scheduler"),
        None => Ok(()),
    }
}

/// Only noted by the kernel now; they hold from the exec on, and for the keyring that is made for it.
fn labels<'a>(plan: &'a ProcessPlan, proc: BorrowedFd<'_>) -> Done<'a> {
    for label in &plan.labels {
        // `self` is a link of our own procfs; what it leads to is checked to be of one.
        let file = fs::open_at(proc, label.path, libc::O_WRONLY, 0).doing("set", label.field)?;
        if fs::file_system(file.as_fd()).doing("set", label.field)? != fs::PROC_MAGIC {
            return Err(Errno(libc::EXDEV)).doing("set", label.field);
        }
        fs::write(file.as_fd(), &label.value).doing("set", label.field)?;
    }
    Ok(())
}

/// The program's standard streams belong to its user, so that it can open /dev/stdout again. By descriptor, and only what is no
/// device or file that others share (CVE-2026-88265).
fn stdio_owner<'a>(uid: u32) -> Done<'a> {
    if uid == 0 {
        return Ok(());
    }
    for stream in 0..3 {
        let fd = fs::stdio(stream);
        let Ok(stat) = fs::stat(fd) else { continue };
        let kind = stat.st_mode & libc::S_IFMT;
        if stat.st_uid == uid || !matches!(kind, libc::S_IFIFO | libc::S_IFSOCK) {
            continue;
        }
        match fs::chown_fd(fd, uid, u32::MAX) {
            // Not ours to give away, or nowhere to keep it.
            Ok(()) | Err(Errno(libc::EPERM | libc::EINVAL | libc::EROFS)) => {}
            Err(errno) => return Err(errno).doing("set owner of", c"stdio"),
        }
    }
    Ok(())
}

fn drop_bounding<'a>(keep: u64) -> Done<'a> {
    for number in (0..64).filter(|number| keep & 1 << number == 0) {
        match process::control(libc::PR_CAPBSET_DROP, number, 0) {
            Ok(_) => {}
            // Behind the last one this kernel knows.
            Err(Errno(libc::EINVAL)) => break,
            Err(errno) => return Err(errno).doing("drop from the bounding set", c"capabilities"),
        }
    }
    Ok(())
}

/// Loading a filter without no_new_privs takes CAP_SYS_ADMIN, which is then kept until the filter is there.
fn keeps_admin(plan: &ProcessPlan) -> bool {
    plan.seccomp.is_some() && !plan.no_new_privileges
}

fn capabilities(plan: &ProcessPlan) -> Done<'_> {
    const ADMIN: u64 = 1 << 21;
    let what = c"process.capabilities";
    let mut sets = plan.sets;
    if keeps_admin(plan) {
        sets.permitted |= ADMIN;
        sets.effective |= ADMIN;
    }
    CapabilityWords::new(sets).set().doing("set", what)?;
    process::control(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL as u64, 0).doing("clear ambient", what)?;
    for number in (0..64).filter(|number| plan.ambient & 1 << number != 0) {
        process::control(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE as u64, number)
            .doing("raise ambient", what)?;
    }
    Ok(())
}

/// Links are followed, magic links are not: `/proc/self/fd/N` would lead to a folder of the host that somebody left open
/// (CVE-2024-21626). Whatever way it went, the result has to lie inside the root.
fn working_directory(plan: &ProcessPlan) -> Done<'_> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let folder =
        fs::open(fs::cwd(), &plan.cwd, flags, 0, fs::Walk::NoMagic).doing("enter working directory", &plan.cwd)?;
    fs::chdir_fd(folder.as_fd()).doing("enter working directory", &plan.cwd)?;
    if fs::cwd_is_inside_root().doing("check working directory", &plan.cwd)? {
        return Ok(());
    }
    Err(Errno(libc::EXDEV)).doing("check working directory", &plan.cwd)
}

/// The first candidate that can be executed.
fn program(plan: &ProcessPlan) -> Done<'_, &CStr> {
    if plan.name.is_empty() {
        // There is no process in config.json: `start` will say so.
        return Ok(c"");
    }
    let mut denied = None;
    for path in &plan.candidates {
        match fs::executable(path) {
            Ok(()) => return Ok(path),
            Err(Errno(libc::ENOENT | libc::ENOTDIR)) => {}
            Err(errno) => denied = denied.or(Some(errno)),
        }
    }
    let errno = denied.unwrap_or(Errno(libc::ENOENT));
    let by_name = !plan.name.to_bytes().contains(&b'/');
    // The words engines look for to tell "not found" (127) from "cannot be executed" (126).
    let verb = if by_name && denied.is_none() { "exec: executable file not found in $PATH:" } else { "exec" };
    Err(Failed { verb, object: plan.name.to_bytes(), errno, context: None })
}

fn late_limits(plan: &ProcessPlan) -> Done<'_> {
    plan.late_limits().try_for_each(|limit| process::set_limit(0, limit.resource, limit.value).doing("set", limit.what))
}

/// What one outside has done already of a process's last steps.
#[derive(Clone, Copy)]
pub(super) enum Filtered<'a> {
    /// The filter is loaded; and this is the program that was found before.
    Outside(&'a CStr),
    /// The process loads it itself, if there is one. `admin`: it holds CAP_SYS_ADMIN until then.
    Last { admin: bool },
}

/// Loads the filter before the program's process is seen in a pid namespace that exists, where that takes a right the container has not
/// (see `keeps_admin`; no filter is loaded without that or no_new_privs, seccomp(2)). What is left to be done then has to pass the filter;
/// where it would not, that process loads it as its last step, and until then it may be seen with CAP_SYS_ADMIN beside the container's own
/// capabilities, and no more. So does one with a listener (SCMP_ACT_NOTIFY): nobody answers for it before the program is started.
pub(super) fn load_outside<'a>(
    plan: &'a ProcessPlan,
    channel: BorrowedFd<'_>,
    listener: Option<BorrowedFd<'_>>,
) -> Done<'a, Filtered<'a>> {
    let Some(filter) = plan.seccomp.as_ref().filter(|_| keeps_admin(plan)) else {
        return Ok(Filtered::Last { admin: false });
    };
    let last = CapabilityWords::new(plan.sets);
    if plan.name.is_empty() {
        // There will be no program that it could be for.
        return last.set().doing("set", c"process.capabilities").map(|()| Filtered::Outside(c""));
    }
    let path = program(plan)?;
    let limits = plan.late_limits().next().is_some();
    let own = [last.call(), Call::exec(path, &plan.args, &plan.env)].into_iter();
    let mut left = own.chain(calls_of_a_copy(channel, listener, plan.terminal, limits));
    if filter.notifies() || left.any(|call| filter.refusal(&call).is_some()) {
        return Ok(Filtered::Last { admin: true });
    }
    process::load_filter(&filter.program, filter.flags).doing("load", c"linux.seccomp")?;
    last.set().doing("set", c"process.capabilities").map(|()| Filtered::Outside(path))
}

/// Becomes the program. The filter, if it is not loaded yet, comes as late as it can: it need not allow anything of ours but capset,
/// where capabilities are still to be given up, and execve.
pub(super) fn run<'a>(plan: &'a ProcessPlan, to: BorrowedFd<'_>, filtered: Filtered<'a>) -> Done<'a, Infallible> {
    if plan.name.is_empty() {
        return Err(Errno(libc::EINVAL)).doing("start:", "process is required and missing in config.json");
    }
    let path = match filtered {
        Filtered::Outside(path) => path,
        Filtered::Last { .. } => program(plan)?,
    };
    let filter = plan.seccomp.as_ref().filter(|_| matches!(filtered, Filtered::Last { .. }));
    // The listener takes the first free number, which the limit may leave no room for: then the filter has to let the limit pass.
    let no_room = filter.is_some_and(Filter::notifies) && plan.late_limits().any(|one| one.value.rlim_cur <= 3);
    if !no_room {
        late_limits(plan)?;
    }
    let last = CapabilityWords::new(plan.sets);
    if let Some(filter) = filter {
        // What refuses this most often refuses to say so, too: it would look like a program that has ended at once.
        if keeps_admin(plan) {
            allowed(filter, &last.call(), "linux.seccomp forbids capset:", c"set process.capabilities")?;
        }
        allowed(filter, &Call::exec(path, &plan.args, &plan.env), "linux.seccomp forbids execve: exec", &plan.name)?;
        let listener = process::load_filter(&filter.program, filter.flags).doing("load", c"linux.seccomp")?;
        if let Some(listener) = listener {
            // At once, and no call more than that: from now on any may wait for an answer, or be forbidden. The exec closes it.
            let listener = ManuallyDrop::new(listener);
            socket::send_fd(to, LISTENER, listener.as_fd()).doing("hand over", "the seccomp listener")?;
        }
        if no_room {
            late_limits(plan)?;
        }
        if keeps_admin(plan) {
            last.set().doing("set", c"process.capabilities")?;
        }
    }
    Err(process::exec(path, &plan.args, &plan.env)).doing("exec", &plan.name)
}

fn allowed<'a>(filter: &Filter, call: &Call, verb: &'static str, object: &'a CStr) -> Done<'a> {
    filter.refusal(call).map_or(Ok(()), Err).doing(verb, object)
}
