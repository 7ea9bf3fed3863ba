//! Signals as descriptors: blocked first, then read, so that none is lost between two steps; and how they end who waits.

use std::ffi::CStr;
use std::os::fd::{AsFd as _, AsRawFd, BorrowedFd, OwnedFd};

use super::{Errno, Result, check, check_fd, check_size, process};

/// The signals that ask a process to end are made to end this one: the first process of a pid namespace gets only those it has a
/// handler for. An exec takes the handlers away again.
pub(crate) fn end_when_asked() -> Result<()> {
    extern "C" fn end(signal: i32) {
        process::exit_now(128 + signal);
    }
    for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
        // SAFETY: the handler only ends the process, which may be done at any instant.
        if unsafe { libc::signal(signal, end as *const () as libc::sighandler_t) } == libc::SIG_ERR {
            return Err(Errno::last());
        }
    }
    Ok(())
}

/// What a signal is called: `bad system call`.
pub(crate) fn words(signal: i32) -> String {
    // SAFETY: strsignal accepts every number and returns a string that this single thread does not change while it is read.
    let text = unsafe { libc::strsignal(signal) };
    if text.is_null() {
        return "unknown signal".to_owned();
    }
    // SAFETY: not null; it ends in NUL.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().to_ascii_lowercase()
}

/// Every signal, blocked for this process and readable, but the one our own writes earn (to a hook that does not want its state):
/// that is ignored, which the kernel does only with what is not blocked.
pub(crate) struct Signals {
    fd: OwnedFd,
}

impl Signals {
    pub(crate) fn take_all() -> Result<Signals> {
        // SAFETY: sigset_t is plain data; sigfillset makes it whole.
        let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: the set is ours.
        check(unsafe { libc::sigfillset(&raw mut all) })?;
        // SAFETY: the set is whole.
        check(unsafe { libc::sigdelset(&raw mut all, libc::SIGPIPE) })?;
        // SAFETY: the set is whole; null means the old mask is not wanted.
        check(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut()) })?;
        // SAFETY: the set is whole; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const all, libc::SFD_CLOEXEC) };
        Ok(Signals { fd: check_fd(fd.into())? })
    }

    /// Of those that are blocked, only the ones that ask for an end; the others wait.
    pub(crate) fn that_end(&self) -> Result<Signals> {
        // SAFETY: sigset_t is plain data; sigemptyset makes it whole.
        let mut some: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: the set is ours.
        check(unsafe { libc::sigemptyset(&raw mut some) })?;
        for signal in [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM] {
            // SAFETY: the set is whole.
            check(unsafe { libc::sigaddset(&raw mut some, signal) })?;
        }
        // SAFETY: the set is whole; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const some, libc::SFD_CLOEXEC) };
        Ok(Signals { fd: check_fd(fd.into())? })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The next signal: one is there when the descriptor is readable.
    pub(crate) fn next(&self) -> Result<i32> {
        // SAFETY: signalfd_siginfo is plain data; all zero is valid.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer is a whole signalfd_siginfo.
        check_size(unsafe { libc::read(self.fd.as_raw_fd(), (&raw mut info).cast(), size) })?;
        Ok(i32::try_from(info.ssi_signo).unwrap_or(0))
    }
}
