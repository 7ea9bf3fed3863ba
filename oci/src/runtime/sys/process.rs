//! Processes: cloning, waiting, identity, privileges, and exec.

use std::convert::Infallible;
use std::ffi::{CStr, CString, c_char};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::ptr;

use super::call::Call;
use super::{Errno, Result, check, check_fd, check_long};

const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
/// CLONE_PARENT: the new process is a child of the caller's parent.
pub(crate) const BESIDE: u64 = 0x8000;

/// Which side of a clone this is.
pub(crate) enum Side {
    Parent { pid: i32, pidfd: OwnedFd },
    Child,
}

/// clone3(2) without sharing memory: the child goes on with a copy, as after fork, in the namespaces `flags` names and,
/// if given, in that cgroup from its first instruction.
pub(crate) fn clone(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Side> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is plain integers; all zero is valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = (&raw mut pidfd).addr() as u64;
    // A child of our parent signals as we would.
    args.exit_signal = if flags & BESIDE == 0 { libc::SIGCHLD as u64 } else { 0 };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    let size = size_of::<libc::clone_args>();
    // SAFETY: the program has one thread, no stack is given and memory is not shared, so the child may go on like after fork.
    let pid = check_long(unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size) })?;
    if pid == 0 {
        return Ok(Side::Child);
    }
    let pid = i32::try_from(pid).map_err(|_| Errno(libc::EOVERFLOW))?;
    // SAFETY: CLONE_PIDFD made this descriptor for us.
    Ok(Side::Parent { pid, pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) } })
}

/// clone(2): a copy of this process, also of its memory, and beside it: a child of its parent's. None is this copy. The older call,
/// and no descriptor: filters forbid clone3, whose arguments they cannot see.
pub(crate) fn copy_beside() -> Result<Option<i32>> {
    let none = ptr::null_mut::<libc::c_int>();
    // SAFETY: no stack is given and memory is not shared, so the copy goes on as after fork; there is one thread.
    let pid = check_long(unsafe { libc::syscall(libc::SYS_clone, BESIDE, none, none, none, none, none) })?;
    i32::try_from(pid).map(|pid| (pid != 0).then_some(pid)).map_err(|_| Errno(libc::EOVERFLOW))
}

/// Whether a new process works on this one's memory or on a copy of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Memory {
    /// No page is copied and no page table: a fifth of what a container costs. Everything the child is given has to stay where it is
    /// until it has executed its program or is dead; and the two take turns, as they share `errno`: while the child works, the
    /// other waits for its message.
    Shared,
    Copied,
}

/// Room for the deepest the child goes, which does not recurse; what is not touched costs nothing.
const STACK_BYTES: usize = 256 << 10;

/// clone3(2) into `child`, on a stack of its own. Its stack and what it captures are never given back: it may use them longer than
/// this process lives.
pub(crate) fn start<F: FnOnce() -> Infallible>(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    memory: Memory,
    child: F,
) -> Result<(i32, OwnedFd)> {
    extern "C" fn enter<F: FnOnce() -> Infallible>(child: *mut Option<F>) -> ! {
        // SAFETY: `start` leaks this for the one who enters here, and touches it no more.
        let child = unsafe { &mut *child };
        match child.take() {
            Some(child) => match child() {},
            None => exit_now(1),
        }
    }
    let mut pidfd: libc::c_int = -1;
    let stack = Box::leak(Box::<[u128]>::new_uninit_slice(STACK_BYTES / 16));
    let child: *mut Option<F> = Box::into_raw(Box::new(Some(child)));
    // SAFETY: clone_args is plain integers; all zero is valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    if memory == Memory::Shared {
        args.flags |= libc::CLONE_VM as u64;
    }
    args.pidfd = (&raw mut pidfd).addr() as u64;
    args.exit_signal = libc::SIGCHLD as u64;
    args.stack = stack.as_mut_ptr().addr() as u64;
    args.stack_size = STACK_BYTES as u64;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().unsigned_abs());
    }
    // SAFETY: the arguments are whole; the child gets a stack of its own and a function that does not come back, with what it was
    // made for.
    let result = unsafe { clone3(&args, enter::<F>, child) };
    let pid = i32::try_from(result).map_err(|_| Errno(libc::EOVERFLOW))?;
    if pid < 0 {
        return Err(Errno(-pid));
    }
    // SAFETY: CLONE_PIDFD made this descriptor for us.
    Ok((pid, unsafe { OwnedFd::from_raw_fd(pidfd) }))
}

/// The system call itself: on the new stack there is no frame a C function could return to.
///
/// # Safety
/// `args` has to name a stack nobody else uses.
#[cfg(target_arch = "x86_64")]
unsafe fn clone3<T>(args: &libc::clone_args, enter: extern "C" fn(*mut T) -> !, with: *mut T) -> i64 {
    let result: i64;
    // SAFETY: the parent goes on behind the call as behind any other; the child calls the function on its own, aligned stack.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "2:",
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") &raw const *args,
            in("rsi") size_of::<libc::clone_args>(),
            in("r12") enter,
            in("r13") with,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    result
}

/// As above.
///
/// # Safety
/// `args` has to name a stack nobody else uses.
#[cfg(target_arch = "aarch64")]
unsafe fn clone3<T>(args: &libc::clone_args, enter: extern "C" fn(*mut T) -> !, with: *mut T) -> i64 {
    let result: i64;
    // SAFETY: as above.
    unsafe {
        std::arch::asm!(
            "svc 0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x21",
            "blr x20",
            "2:",
            in("x8") libc::SYS_clone3,
            inlateout("x0") &raw const *args => result,
            in("x1") size_of::<libc::clone_args>(),
            in("x20") enter,
            in("x21") with,
            lateout("x30") _,
        );
    }
    result
}

pub(crate) fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: plain numbers go in.
    check_fd(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

pub(crate) fn send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<()> {
    let none = ptr::null::<libc::siginfo_t>();
    // SAFETY: null means the kernel fills in the usual siginfo.
    check_long(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) }).map(drop)
}

pub(crate) fn kill(pid: i32, signal: i32) -> Result<()> {
    // SAFETY: plain numbers go in.
    check(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// How a child ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Ended {
    Exited(i32),
    Killed(i32),
}

/// Whether it is a child of ours, ended or not, that nobody has waited for.
pub(crate) fn is_child(pidfd: BorrowedFd<'_>) -> Result<bool> {
    let id = pidfd.as_raw_fd().unsigned_abs();
    let only_ask = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: no siginfo_t is wanted.
    match check(unsafe { libc::waitid(libc::P_PIDFD, id, ptr::null_mut(), only_ask) }) {
        Err(Errno(libc::ECHILD)) => Ok(false),
        other => other.map(|_| true),
    }
}

/// Waits for a child of ours by its pidfd: never by SIGCHLD, which can be lost.
pub(crate) fn wait(pidfd: BorrowedFd<'_>) -> Result<Ended> {
    loop {
        if let Some((ended, _)) = reap(pidfd, libc::WEXITED)? {
            return Ok(ended);
        }
    }
}

/// As `wait`, for one that others may hold: `None` where it has not ended in time, or has, and somebody traces it, whose it is to
/// take away first: a wait for it would be one for the tracer (kernel/exit.c, wait_consider_task).
pub(crate) fn wait_for(pidfd: BorrowedFd<'_>, milliseconds: i32) -> Result<Option<Ended>> {
    Ok(wait_to_tell(pidfd, milliseconds)?.map(|(ended, _)| ended))
}

/// As above, and whether it has run at all: whoever does touches a page that is not there yet.
pub(crate) fn wait_to_tell(pidfd: BorrowedFd<'_>, milliseconds: i32) -> Result<Option<(Ended, bool)>> {
    if wait_readable(pidfd, milliseconds)? { reap(pidfd, libc::WEXITED | libc::WNOHANG) } else { Ok(None) }
}

fn reap(pidfd: BorrowedFd<'_>, how: i32) -> Result<Option<(Ended, bool)>> {
    // SAFETY: siginfo_t is plain data; all zero is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: so is rusage.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let id = pidfd.as_raw_fd();
    // The system call itself: the C library's has no place for what was used.
    let wait = |info: &mut libc::siginfo_t, usage: &mut libc::rusage| {
        // SAFETY: the buffers are a whole siginfo_t and a whole rusage.
        check_long(unsafe { libc::syscall(libc::SYS_waitid, libc::P_PIDFD, id, info, how, usage) })
    };
    while let Err(e) = wait(&mut info, &mut usage) {
        if e.0 != libc::EINTR {
            return Err(e);
        }
    }
    // SAFETY: waitid with WEXITED fills the fields of a SIGCHLD, or leaves them zero.
    let pid = unsafe { info.si_pid() };
    // SAFETY: as above.
    let status = unsafe { info.si_status() };
    let ended = if info.si_code == libc::CLD_EXITED { Ended::Exited(status) } else { Ended::Killed(status) };
    Ok((pid != 0).then_some((ended, usage.ru_minflt != 0)))
}

fn poll(fd: BorrowedFd<'_>, events: libc::c_short, milliseconds: i32) -> Result<bool> {
    let mut poll = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    // SAFETY: one pollfd is given and counted.
    Ok(check(unsafe { libc::poll(&raw mut poll, 1, milliseconds) })? > 0)
}

/// Waits until a descriptor is readable or at its end; `false` after the time given (milliseconds; -1 is for ever).
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, milliseconds: i32) -> Result<bool> {
    poll(fd, libc::POLLIN, milliseconds)
}

/// Waits until a descriptor takes more, or fails.
pub(crate) fn wait_writable(fd: BorrowedFd<'_>) -> Result<()> {
    match poll(fd, libc::POLLOUT, -1) {
        Err(Errno(libc::EINTR)) => Ok(()),
        other => other.map(drop),
    }
}

/// Waits until one of some is; which is the first that is.
pub(crate) fn wait_readable_any<const N: usize>(fds: [BorrowedFd<'_>; N]) -> Result<usize> {
    let mut all = fds.map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
    loop {
        // SAFETY: the pollfds are given and counted.
        match check(unsafe { libc::poll(all.as_mut_ptr(), N as libc::nfds_t, -1) }) {
            Err(Errno(libc::EINTR)) => {}
            other => return other.map(|_| all.iter().position(|one| one.revents != 0).unwrap_or(N)),
        }
    }
}

/// Waits until the kernel reports a change of one of two files.
pub(crate) fn wait_changed_either(
    one: BorrowedFd<'_>,
    other: Option<BorrowedFd<'_>>,
    milliseconds: i32,
) -> Result<bool> {
    let poll = |fd: i32| libc::pollfd { fd, events: libc::POLLPRI, revents: 0 };
    // A negative descriptor is passed over.
    let mut both = [poll(one.as_raw_fd()), poll(other.map_or(-1, |fd| fd.as_raw_fd()))];
    // SAFETY: two pollfds are given and counted.
    Ok(check(unsafe { libc::poll(both.as_mut_ptr(), 2, milliseconds) })? > 0)
}

/// Waits until the kernel reports a change of a file such as cgroup.events (POLLPRI); `false` after the time given.
pub(crate) fn wait_changed(fd: BorrowedFd<'_>, milliseconds: i32) -> Result<bool> {
    poll(fd, libc::POLLPRI, milliseconds)
}

pub(crate) fn join_namespace(fd: BorrowedFd<'_>, kinds: i32) -> Result<()> {
    // SAFETY: plain numbers go in.
    check(unsafe { libc::setns(fd.as_raw_fd(), kinds) }).map(drop)
}

/// The CLONE_NEW… of a namespace; an error where the file is none.
pub(crate) fn namespace_kind(fd: BorrowedFd<'_>) -> Result<i32> {
    const NS_GET_NSTYPE: u32 = 0xb703;
    // SAFETY: this request takes no argument.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE as _) })
}

pub(crate) fn unshare(kinds: i32) -> Result<()> {
    // SAFETY: plain numbers go in; the program has one thread.
    check(unsafe { libc::unshare(kinds) }).map(drop)
}

pub(crate) fn new_session() -> Result<()> {
    // SAFETY: no arguments.
    check(unsafe { libc::setsid() }).map(drop)
}

pub(crate) fn set_hostname(name: &CStr) -> Result<()> {
    // SAFETY: pointer and length are of one string.
    check(unsafe { libc::sethostname(name.as_ptr(), name.count_bytes()) }).map(drop)
}

pub(crate) fn set_domainname(name: &CStr) -> Result<()> {
    // SAFETY: pointer and length are of one string.
    check(unsafe { libc::setdomainname(name.as_ptr(), name.count_bytes() as _) }).map(drop)
}

/// Of a process; 0 is this one.
pub(crate) fn set_limit(pid: i32, resource: u32, limit: libc::rlimit) -> Result<()> {
    // SAFETY: the limit lives through the call; the old one is not asked for.
    check(unsafe { libc::prlimit(pid, resource as _, &raw const limit, ptr::null_mut()) }).map(drop)
}

/// This process's own, above which a limit takes a right.
pub(crate) fn hard_limit(resource: u32) -> Option<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the limit lives through the call; nothing is set.
    check(unsafe { libc::prlimit(0, resource as _, ptr::null(), &raw mut limit) }).ok().map(|_| limit.rlim_max)
}

/// prctl(2) with plain numbers.
pub(crate) fn control(option: i32, a: u64, b: u64) -> Result<i32> {
    // SAFETY: the options used here take numbers only; unused arguments are zero as the kernel demands.
    check(unsafe { libc::prctl(option, a, b, 0_u64, 0_u64) })
}

pub(crate) fn set_personality(domain: u64) -> Result<()> {
    // SAFETY: plain numbers go in.
    check_long(unsafe { libc::syscall(libc::SYS_personality, domain) }).map(drop)
}

/// The three sets of a thread, as bits.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(crate) struct CapabilitySets {
    pub(crate) effective: u64,
    pub(crate) permitted: u64,
    pub(crate) inheritable: u64,
}

/// The sets as capset(2) takes them.
pub(crate) struct CapabilityWords {
    header: [u32; 2],
    data: [[u32; 3]; 2],
}

impl CapabilityWords {
    pub(crate) fn new(sets: CapabilitySets) -> CapabilityWords {
        let word = |bits: u64, shift: u32| u32::try_from((bits >> shift) & 0xffff_ffff).unwrap_or(0);
        let part = |shift| [word(sets.effective, shift), word(sets.permitted, shift), word(sets.inheritable, shift)];
        // Version 3: two blocks of effective, permitted, inheritable.
        CapabilityWords { header: [0x2008_0522, 0], data: [part(0), part(32)] }
    }

    pub(crate) fn call(&self) -> Call {
        Call::new(libc::SYS_capset, [self.header.as_ptr().addr(), self.data.as_ptr().addr(), 0])
    }

    pub(crate) fn set(&self) -> Result<()> {
        // SAFETY: version 3 wants this header and two data blocks of three words.
        check_long(unsafe { libc::syscall(libc::SYS_capset, self.header.as_ptr(), self.data.as_ptr(), 0, 0, 0, 0) })
            .map(drop)
    }
}

/// What this process may use.
pub(crate) fn permitted_capabilities() -> Result<u64> {
    let mut header = [0x2008_0522_u32, 0];
    let mut data = [[0_u32; 3]; 2];
    // SAFETY: version 3 wants this header and fills two data blocks of three words.
    check_long(unsafe { libc::syscall(libc::SYS_capget, header.as_mut_ptr(), data.as_mut_ptr()) })?;
    Ok(u64::from(data[0][1]) | u64::from(data[1][1]) << 32)
}

pub(crate) fn effective_user() -> u32 {
    // SAFETY: no arguments, and it cannot fail.
    unsafe { libc::geteuid() }
}

pub(crate) fn effective_group() -> u32 {
    // SAFETY: no arguments, and it cannot fail.
    unsafe { libc::getegid() }
}

pub(crate) fn set_groups(groups: &[u32]) -> Result<()> {
    // The system call itself: C libraries signal their other threads, of which there are none.
    // SAFETY: pointer and count are of one slice.
    check_long(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }).map(drop)
}

pub(crate) fn set_user(uid: u32) -> Result<()> {
    // SAFETY: plain numbers go in.
    check_long(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

pub(crate) fn set_group(gid: u32) -> Result<()> {
    // SAFETY: plain numbers go in.
    check_long(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) }).map(drop)
}

/// Default disposition for every signal, and none blocked: both are inherited through exec, and are not the caller's to choose.
pub(crate) fn reset_signals() -> Result<()> {
    /// The kernel's own sigaction (not the C library's): handler, flags, restorer, 64-bit mask; all zero is SIG_DFL.
    #[repr(C)]
    struct KernelAction([u64; 4]);
    let default = KernelAction([0; 4]);
    for signal in 1..=64 {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP {
            continue;
        }
        let (new, old) = (&raw const default, ptr::null_mut::<KernelAction>());
        // SAFETY: the structure is at least as large as the kernel's, and the mask's size is 8.
        check_long(unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, new, old, 8) })?;
    }
    let (empty, old) = (0_u64, ptr::null_mut::<u64>());
    // SAFETY: the mask is 8 bytes and lives through the call.
    check_long(unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const empty, old, 8) })
        .map(drop)
}

/// A session keyring of its own, so that the caller's keys stay the caller's.
pub(crate) fn new_session_keyring() -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: i32 = 1;
    // SAFETY: null asks for an anonymous keyring.
    check_long(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, ptr::null::<c_char>()) }).map(drop)
}

/// seccomp(2): from now on every call of this process is asked of the program (one u64 an instruction, `struct sock_filter`).
/// With SECCOMP_FILTER_FLAG_NEW_LISTENER it gives the descriptor on which a listener answers.
pub(crate) fn load_filter(program: &[u64], flags: u32) -> Result<Option<OwnedFd>> {
    const SECCOMP_SET_MODE_FILTER: u32 = 1;
    const NEW_LISTENER: u32 = 8;
    let length = u16::try_from(program.len()).map_err(|_| Errno(libc::E2BIG))?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut().cast() };
    // SAFETY: the header gives the program's length; the kernel copies it and writes nothing.
    let done = unsafe { libc::syscall(libc::SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    if flags & NEW_LISTENER == 0 { check_long(done).map(|_| None) } else { check_fd(done).map(Some) }
}

/// Strings as execve wants them: pointers with a null behind.
pub(crate) struct StringList {
    /// What the pointers point to.
    _strings: Vec<CString>,
    pub(super) pointers: Vec<*const c_char>,
}

impl StringList {
    pub(crate) fn new(strings: Vec<CString>) -> StringList {
        let pointers = strings.iter().map(|s| s.as_ptr()).chain(std::iter::once(ptr::null())).collect();
        StringList { _strings: strings, pointers }
    }
}

/// execve(2): comes back only with an error.
pub(crate) fn exec(path: &CStr, args: &StringList, env: &StringList) -> Errno {
    let (path, args, env) = (path.as_ptr(), args.pointers.as_ptr(), env.pointers.as_ptr());
    // SAFETY: path ends in NUL; both lists end in null and their strings live as long as they.
    unsafe { libc::syscall(libc::SYS_execve, path, args, env, 0, 0, 0) };
    Errno::last()
}

/// execveat(2) of an open file.
pub(crate) fn exec_fd(file: BorrowedFd<'_>, args: &StringList, env: &StringList) -> Errno {
    let (args, env) = (args.pointers.as_ptr(), env.pointers.as_ptr());
    // SAFETY: the path is the empty string constant; both lists end in null and their strings live as long as they.
    unsafe { libc::syscall(libc::SYS_execveat, file.as_raw_fd(), c"".as_ptr(), args, env, libc::AT_EMPTY_PATH) };
    Errno::last()
}

/// Ends this process without running anything. The C library's own way would try for ever where a filter refuses it.
pub(crate) fn exit_now(status: i32) -> ! {
    // SAFETY: plain numbers go in; it comes back only where a filter refuses it.
    unsafe { libc::syscall(libc::SYS_exit_group, status) };
    // SAFETY: at its end is an instruction that no filter is asked about.
    unsafe { libc::abort() }
}
