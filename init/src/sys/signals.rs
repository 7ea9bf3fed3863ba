//! Signals as PID 1 takes them: all blocked and read from a signalfd, real-time ones included (nix's types know
//! none above 31).

use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use nix::errno::Errno;

/// Blocks every signal but those of faults and returns the fd they are read from. A blocked signal is kept even for PID 1, whose
/// default dispositions the kernel otherwise ignores.
pub(crate) fn take_all() -> Result<OwnedFd, Errno> {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::zeroed();
    // SAFETY: writes a set into the memory given.
    unsafe { libc::sigfillset(set.as_mut_ptr()) };
    for fault in super::crash::FAULTS {
        // SAFETY: the set was filled above, the number is a signal's.
        unsafe { libc::sigdelset(set.as_mut_ptr(), fault) };
    }
    // SAFETY: filled by the calls above.
    let set = unsafe { set.assume_init() };
    // SAFETY: reads the set; the old one is not asked for.
    Errno::result(unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut()) })?;
    // A stopped or continued child is none of our business: only ends wake us.
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: all-zero is SIG_DFL with no flags.
    let action = unsafe { action.assume_init_mut() };
    action.sa_flags = libc::SA_NOCLDSTOP;
    // SAFETY: the action is complete; SIG_DFL for SIGCHLD keeps children for wait(2).
    Errno::result(unsafe { libc::sigaction(libc::SIGCHLD, action, std::ptr::null_mut()) })?;
    // SAFETY: reads the set and makes a new fd.
    let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    Errno::result(fd)?;
    // SAFETY: a new fd that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The next pending signal's number, and the sender's pid.
pub(crate) fn next(fd: BorrowedFd<'_>) -> Option<(i32, u32)> {
    let mut info = std::mem::MaybeUninit::<libc::signalfd_siginfo>::zeroed();
    let size = size_of::<libc::signalfd_siginfo>();
    // SAFETY: `info` has `size` writable bytes.
    let got = unsafe { libc::read(fd.as_raw_fd(), info.as_mut_ptr().cast(), size) };
    if usize::try_from(got) != Ok(size) {
        return None;
    }
    // SAFETY: filled whole by the read; every bit pattern is valid.
    let info = unsafe { info.assume_init() };
    Some((i32::try_from(info.ssi_signo).unwrap_or(0), info.ssi_pid))
}

/// The first real-time signal free for programs: musl and glibc keep the ones below for themselves.
pub(crate) fn rt_min() -> i32 {
    libc::SIGRTMIN()
}
