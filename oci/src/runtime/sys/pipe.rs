//! Pipes.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::{Result, check};

/// A reading and a writing end, close-on-exec.
pub(crate) fn new() -> Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: the array has room for two descriptors.
    check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    let read = unsafe { OwnedFd::from_raw_fd(fds[0]) };
    // SAFETY: as above.
    let write = unsafe { OwnedFd::from_raw_fd(fds[1]) };
    Ok((read, write))
}

/// Reading and writing this end answers EAGAIN instead of waiting; the other end is not concerned.
pub(crate) fn never_wait(end: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: plain numbers go in; a pipe has no other flag of its file that could be lost.
    check(unsafe { libc::fcntl(end.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) }).map(drop)
}
