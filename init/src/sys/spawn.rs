//! The supervisor's start: from clone to exec, in one file.
//!
//! Everything is prepared before the clone. The child makes raw system calls, allocates nothing, and on failure
//! writes `{step, errno}` into a pipe and ends with 127. It joins its cgroup itself: CLONE_INTO_CGROUP, which would put it
//! there at birth, is not to be relied upon where anything may have been killed by `cgroup.kill`. Since "cgroup: fix race
//! between fork and cgroup.kill" (6.14, 6.12.14) `cgroup_css_set_fork` notes the count of kills of the *parent's* cgroup
//! (`kargs->cgrp` is not set yet when it looks) and `cgroup_post_fork` compares it with the new cgroup's: where the two
//! differ, the child is killed. Hence also `setup::renew_supervisors_cgroup`, for what the runtime clones out of there.

use std::ffi::CStr;
use std::os::fd::{AsRawFd as _, BorrowedFd, RawFd};
use std::ptr;

use nix::errno::Errno;

/// Above every fd that the child puts into place.
const SAFE_FD: RawFd = 10;

/// What the child needs, all of it alive until the clone returned.
pub(crate) struct Plan<'a> {
    pub(crate) program: &'a CStr,
    /// argv and envp, each ended by a null pointer.
    pub(crate) argv: &'a [*const libc::c_char],
    pub(crate) envp: &'a [*const libc::c_char],
    pub(crate) handoff: BorrowedFd<'a>,
    /// The write end of the pipe for a failure; close-on-exec.
    pub(crate) failure: BorrowedFd<'a>,
    /// Of the supervisor's cgroup, writable. Without it the child stays in PID 1's.
    pub(crate) procs: Option<BorrowedFd<'a>>,
}

/// What the child was doing when it failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Step {
    Descriptors = 1,
    SignalMask,
    Exec,
}

impl Step {
    pub(crate) fn name(code: u8) -> &'static str {
        match code {
            1 => "place the file descriptors of",
            2 => "clear the signal mask of",
            _ => "exec",
        }
    }
}

/// Starts the child; returns its pid.
pub(crate) fn spawn(plan: &Plan<'_>) -> Result<u32, Errno> {
    let none = ptr::null::<libc::c_void>();
    // SAFETY: without CLONE_VM the child gets a copy of this process; there are no other threads whose locks it
    // could miss. Stack, tids and tls are left as they are.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::SIGCHLD, none, none, none, none) };
    match Errno::result(pid)? {
        0 => child(plan),
        pid => u32::try_from(pid).map_err(|_| Errno::ESRCH),
    }
}

fn child(plan: &Plan<'_>) -> ! {
    let (step, errno) = prepare_and_exec(plan);
    let report = [step as u8, u8::try_from(errno).unwrap_or(0)];
    // SAFETY: two readable bytes. The pipe may have been moved above SAFE_FD, this number stays valid too.
    unsafe { libc::write(plan.failure.as_raw_fd(), report.as_ptr().cast(), report.len()) };
    // SAFETY: ends the child without running anything of the parent's.
    unsafe { libc::_exit(127) }
}

/// Returns only when something failed.
fn prepare_and_exec(plan: &Plan<'_>) -> (Step, i32) {
    if let Some(procs) = plan.procs {
        // 0 means the writer. Where it fails the supervisor runs in PID 1's cgroup: better there than not at all.
        // SAFETY: one readable byte.
        unsafe { libc::write(procs.as_raw_fd(), b"0".as_ptr().cast(), 1) };
    }
    // SAFETY: no arguments. A session of its own: terminal signals cannot reach it.
    unsafe { libc::setsid() };
    // What a former program set to "ignore" is inherited over exec; the supervisor starts with the defaults.
    for signal in 1..=64 {
        // SAFETY: SIG_DFL is a valid disposition; KILL, STOP and reserved numbers fail without effect.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
    super::fds::allow_many();
    protect_from_oom();

    let from = plan.handoff.as_raw_fd();
    debug_assert!(from >= SAFE_FD && plan.failure.as_raw_fd() >= SAFE_FD);
    // SAFETY: numbers only. dup2 clears close-on-exec on the copy.
    if unsafe { libc::dup2(from, handoff::SUPERVISOR_FD) } < 0 {
        return (Step::Descriptors, Errno::last_raw());
    }
    // Everything above the handoff closes at exec, whatever its flags say; one call, kernel 5.11.
    // SAFETY: numbers only.
    unsafe { libc::syscall(libc::SYS_close_range, 4u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };

    let mut none = std::mem::MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: writes an empty set into the memory given.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    // SAFETY: reads the set made above.
    if unsafe { libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), ptr::null_mut()) } < 0 {
        return (Step::SignalMask, Errno::last_raw());
    }
    // SAFETY: program, argv and envp are NUL-terminated and null-terminated, and outlive the call.
    unsafe { libc::execve(plan.program.as_ptr(), plan.argv.as_ptr(), plan.envp.as_ptr()) };
    (Step::Exec, Errno::last_raw())
}

/// The out-of-memory killer takes containers before the one who restarts them. Best effort: needs CAP_SYS_RESOURCE.
fn protect_from_oom() {
    // SAFETY: a constant, NUL-terminated path.
    let fd = unsafe { libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
    if fd >= 0 {
        // SAFETY: five readable bytes.
        unsafe { libc::write(fd, b"-1000".as_ptr().cast(), 5) };
        // SAFETY: the fd opened above.
        unsafe { libc::close(fd) };
    }
}
