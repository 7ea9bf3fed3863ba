//! The kernel, one function a call. Every function here allocates nothing and takes no lock (but those that say so), so the
//! child between clone and exec may use them; what it gets back on failure is an `Errno`, and the caller says which step that was.

pub(crate) mod bpf;
mod bump;
pub(crate) mod call;
pub(crate) mod entry;
pub(crate) mod fs;
pub(crate) mod memory;
pub(crate) mod mount;
pub(crate) mod net;
pub(crate) mod pipe;
pub(crate) mod process;
pub(crate) mod schedule;
pub(crate) mod signal;
pub(crate) mod socket;
pub(crate) mod tty;

pub use bump::Bump;
pub use entry::start;

use std::ffi::CStr;
use std::fmt;
use std::os::fd::{FromRawFd, OwnedFd};

/// The kernel's own number for a failure; shown in the words of strerror(3), in the lower case of Go's: that is how engines
/// tell "no such file or directory" (exit status 127) and "permission denied" (126) from other failures.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Errno(pub(crate) i32);

impl Errno {
    pub(crate) fn last() -> Errno {
        Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // SAFETY: strerror accepts every number; for the kernel's it returns a constant string of the C library.
        let text = unsafe { libc::strerror(self.0) };
        // SAFETY: the pointer is never null, ends in NUL, and is not freed or changed while this single thread formats it.
        let text = unsafe { CStr::from_ptr(text) };
        let text = text.to_str().unwrap_or("unknown error");
        match text.as_bytes() {
            // Not the "I" of "I/O error".
            [first, second, ..] if second.is_ascii_lowercase() => {
                write!(out, "{}{}", char::from(first.to_ascii_lowercase()), text.get(1..).unwrap_or_default())
            }
            _ => out.write_str(text),
        }
    }
}

impl From<std::io::Error> for Errno {
    fn from(error: std::io::Error) -> Errno {
        Errno(error.raw_os_error().unwrap_or(libc::EIO))
    }
}

pub(crate) type Result<T> = std::result::Result<T, Errno>;

/// Seconds since 1970, and nanoseconds. The system call itself: to find the way around it (the vDSO) costs as much as forty calls.
pub(crate) fn time_of_day() -> (u64, u32) {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the buffer is a whole timespec.
    let _ = unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_REALTIME, &raw mut time) };
    (u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// A C function's int: -1 means errno.
fn check(returned: libc::c_int) -> Result<libc::c_int> {
    if returned == -1 { Err(Errno::last()) } else { Ok(returned) }
}

/// A raw system call's long: -1 means errno.
fn check_long(returned: libc::c_long) -> Result<libc::c_long> {
    if returned == -1 { Err(Errno::last()) } else { Ok(returned) }
}

/// A byte count.
fn check_size(returned: libc::ssize_t) -> Result<usize> {
    usize::try_from(returned).map_err(|_| Errno::last())
}

/// A new descriptor.
fn check_fd(returned: libc::c_long) -> Result<OwnedFd> {
    let fd = i32::try_from(check_long(returned)?).map_err(|_| Errno(libc::EBADF))?;
    // SAFETY: the kernel has just made this descriptor for us, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
