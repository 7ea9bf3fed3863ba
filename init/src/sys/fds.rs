//! Descriptors by number: fds 0–2 that may be missing, fds that arrive in messages.

use std::os::fd::{FromRawFd as _, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

/// Puts `/dev/null` on fds 0–2, whatever was there: so nothing opened later is taken for stdio, and what the
/// supervisor inherits is harmless. Without a `/dev` an empty memory file that nobody can write to does it.
pub(crate) fn stdio_to_null() {
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_NOCTTY, Mode::empty()).or_else(|_| sealed_nothing());
    let Ok(null) = null else { return };
    // The copies may only fail for want of fds, and these three replace what is there.
    let _ = dup2_stdin(&null);
    let _ = dup2_stdout(&null);
    let _ = dup2_stderr(&null);
    if std::os::fd::AsRawFd::as_raw_fd(&null) <= 2 {
        std::mem::forget(null);
    }
}

fn sealed_nothing() -> Result<OwnedFd, Errno> {
    let file = memfd_create(c"null", MFdFlags::MFD_ALLOW_SEALING)?;
    fcntl(&file, FcntlArg::F_ADD_SEALS(SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL))?;
    Ok(file)
}

/// Owns a descriptor that a message brought.
pub(crate) fn own(number: RawFd) -> OwnedFd {
    // SAFETY: the callers pass numbers that the kernel just gave this process and nothing else knows.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// The descriptors a former self left open over its exec; they become close-on-exec again.
pub(crate) fn adopt(number: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: takes no memory; a number that is not open is EBADF.
    Errno::result(unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) })?;
    Ok(own(number))
}
