//! The kernel's calls that no safe wrapper has, one a function.

pub(super) mod idmap;
pub(super) mod sender;
pub(super) mod terminal;

use std::{
    ffi::CStr,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::Command,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
};

/// Takes a descriptor that was handed to this process by number.
pub(super) fn adopt_fd(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD takes no pointer and changes nothing; it tells whether the number is open.
    Errno::result(unsafe { libc::fcntl(number, libc::F_GETFD) })?;
    // SAFETY: the number is open, was made for us by whoever passed it, and is adopted by one caller once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// A child that has ended and is not reaped yet. nix's `waitid` cannot be used: it fails on an end by a real-time signal.
pub(super) fn ended_child() -> io::Result<Option<u32>> {
    // SAFETY: a siginfo_t of zeros is a valid value.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: `info` is a valid siginfo_t for the kernel to fill, alive through the call.
    let result = Errno::result(unsafe { libc::waitid(libc::P_ALL, 0, &raw mut info, flags) });
    match result {
        Ok(_) => {}
        Err(Errno::ECHILD) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    }
    // SAFETY: waitid succeeded, so si_pid is set, to 0 where no child has ended.
    let pid = unsafe { info.si_pid() };
    Ok(u32::try_from(pid).ok().filter(|pid| *pid != 0))
}

/// Reaps one child that has ended; its status as `wait(2)` encodes it.
pub(super) fn reap(pid: u32) -> io::Result<i32> {
    let mut status = 0;
    let pid = libc::pid_t::try_from(pid).map_err(|_| Errno::ESRCH)?;
    // SAFETY: `status` is a valid int for the kernel to fill, alive through the call.
    Errno::result(unsafe { libc::waitpid(pid, &raw mut status, libc::WNOHANG) })?;
    Ok(status)
}

/// A descriptor that stands for the process that has this pid now.
pub(super) fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: takes two integers, no pointer.
    let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just made it for us, close-on-exec.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(super) fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    let none = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo means "as kill(2) would"; nothing else is a pointer.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) };
    Errno::result(result)?;
    Ok(())
}

/// Both numbers are of one open file, as kcmp(2) tells; a kernel without it knows of none.
pub(super) fn is_same_file(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> bool {
    /// Of `enum kcmp_type`.
    const KCMP_FILE: libc::c_int = 0;
    let pid = std::process::id();
    // SAFETY: takes five integers, no pointer.
    unsafe { libc::syscall(libc::SYS_kcmp, pid, pid, KCMP_FILE, one.as_raw_fd(), other.as_raw_fd()) == 0 }
}

/// Where a file keeps a number beside its content.
const NUMBER: &CStr = c"trusted.orlop.number";

/// Keeps a number beside a file's content, as a whole or not at all.
pub(super) fn set_number(file: BorrowedFd<'_>, number: u64) -> io::Result<()> {
    let value = number.to_ne_bytes();
    // SAFETY: a name that ends with a zero, and a value of the length that is told; both outlive the call.
    let result = unsafe { libc::fsetxattr(file.as_raw_fd(), NUMBER.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Errno::result(result)?;
    Ok(())
}

pub(super) fn number(file: BorrowedFd<'_>) -> io::Result<u64> {
    let mut value = [0; 8];
    // SAFETY: a name that ends with a zero, and room of the length that is told; both outlive the call.
    let length = unsafe { libc::fgetxattr(file.as_raw_fd(), NUMBER.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    Errno::result(length)?;
    Ok(u64::from_ne_bytes(value))
}

/// The program gets these descriptors from number 3 on.
pub(super) fn pass_fds(command: &mut Command, fds: &[OwnedFd]) -> io::Result<()> {
    let first = 3;
    let end = first + RawFd::try_from(fds.len()).map_err(|_| Errno::EMFILE)?;
    let from = |fd: BorrowedFd<'_>, at: RawFd| -> io::Result<OwnedFd> {
        let number = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(at))?;
        // SAFETY: the kernel has just made it for us.
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    };
    // Out of the way of the numbers they will have, and no number there is free for what std opens for itself.
    let fds: Vec<OwnedFd> = fds.iter().map(|fd| from(fd.as_fd(), end)).collect::<io::Result<_>>()?;
    let mut fillers = Vec::new();
    while let Some(fd) = fds.first() {
        let filler = from(fd.as_fd(), first)?;
        if filler.as_raw_fd() >= end {
            break;
        }
        fillers.push(filler);
    }
    let hand_over = move || {
        let _ = &fillers;
        for (fd, number) in fds.iter().zip(first..end) {
            // SAFETY: two integers; the target is a descriptor of this process alone or free, and no longer used here.
            Errno::result(unsafe { libc::dup2(fd.as_raw_fd(), number) })?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec it only calls dup2, which is async-signal-safe, and allocates nothing.
    unsafe { command.pre_exec(hand_over) };
    Ok(())
}
