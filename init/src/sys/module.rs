//! finit_module(2): nix knows neither the flag for compressed files nor musl a wrapper.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// include/uapi/linux/module.h
const MODULE_INIT_COMPRESSED_FILE: libc::c_int = 4;

/// Inserts the module in the open file; the kernel unpacks it when `compressed`.
pub(crate) fn insert(file: BorrowedFd<'_>, parameters: &CStr, compressed: bool) -> Result<(), Errno> {
    let flags = if compressed { MODULE_INIT_COMPRESSED_FILE } else { 0 };
    // SAFETY: the fd is open and the parameters are a NUL-terminated string for the time of the call.
    let result = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), parameters.as_ptr(), flags) };
    Errno::result(result).map(drop)
}
