//! Extended attributes, which nix does not have.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sets an attribute of an open file or folder.
pub(super) fn fsetxattr(fd: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: the fd is open for the borrow, the name ends in NUL, and the value is given with its length; nothing is
    // kept.
    let result = unsafe { libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets an attribute of what a name in a folder is itself, without following it. setxattrat(2) is younger than the
/// kernels we run on; the way through /proc ends in the folder the fd holds, and `file` has no slash.
pub(super) fn set_xattr_at(folder: BorrowedFd<'_>, file: &[u8], name: &CStr, value: &[u8]) -> io::Result<()> {
    let mut path = format!("/proc/self/fd/{}/", folder.as_raw_fd()).into_bytes();
    path.extend_from_slice(file);
    let path = CString::new(path)?;
    // SAFETY: both texts end in NUL, and the value is given with its length; nothing is kept.
    let result = unsafe { libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads an attribute without following a link; none if there is none.
#[cfg(test)]
pub(in super::super) fn get_xattr(path: &CStr, name: &CStr) -> Option<Vec<u8>> {
    let mut value = vec![0; 1 << 16];
    // SAFETY: both texts end in NUL, and the buffer is given with its length; nothing is kept.
    let n = unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(usize::try_from(n).ok()?);
    Some(value)
}
