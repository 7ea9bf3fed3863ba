//! Signals as descriptors: blocked first, then read, so that none is lost between two steps.

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::{Errno, Result, check, check_fd, check_size};

/// Every signal, blocked for this process and readable.
pub(crate) struct Signals {
    fd: OwnedFd,
}

impl Signals {
    pub(crate) fn take_all() -> Result<Signals> {
        // SAFETY: sigset_t is plain data; sigfillset makes it whole.
        let mut all: libc::sigset_t = unsafe { std::mem::zeroed() };
        // SAFETY: the set is ours.
        check(unsafe { libc::sigfillset(&raw mut all) })?;
        // SAFETY: the set is whole; null means the old mask is not wanted.
        check(unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut()) })?;
        // SAFETY: the set is whole; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const all, libc::SFD_CLOEXEC) };
        Ok(Signals { fd: check_fd(fd.into())? })
    }

    /// The next signal, or none when `other` became readable first.
    pub(crate) fn next_before(&self, other: BorrowedFd<'_>) -> Result<Option<i32>> {
        let poll = |fd: i32| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut both = [poll(other.as_raw_fd()), poll(self.fd.as_raw_fd())];
        loop {
            // SAFETY: two pollfds are given and counted.
            match check(unsafe { libc::poll(both.as_mut_ptr(), 2, -1) }) {
                Err(Errno(libc::EINTR)) => {}
                other => break other.map(drop)?,
            }
        }
        if both[0].revents != 0 {
            return Ok(None);
        }
        // SAFETY: signalfd_siginfo is plain data; all zero is valid.
        let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: the buffer is a whole signalfd_siginfo.
        check_size(unsafe { libc::read(self.fd.as_raw_fd(), (&raw mut info).cast(), size) })?;
        Ok(i32::try_from(info.ssi_signo).ok())
    }
}
