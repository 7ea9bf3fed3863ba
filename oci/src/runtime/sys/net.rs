//! Network interfaces: the loopback of a fresh network namespace, by ioctl (one socket and one call, where netlink would need a message
//! each way), and the way to netlink for those that move.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};

use super::{Errno, Result, check, check_fd};

/// A socket to the kernel's routing side of the network namespace this process is in now.
pub(crate) fn route_socket() -> Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: plain numbers go in.
    check_fd(unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) }.into())
}

/// The number of an interface of that namespace.
pub(crate) fn index_of(name: &CStr) -> Result<u32> {
    // SAFETY: name ends in NUL.
    match unsafe { libc::if_nametoindex(name.as_ptr()) } {
        0 => Err(Errno::last()),
        index => Ok(index),
    }
}

pub(crate) fn bring_up_loopback() -> Result<()> {
    // SAFETY: plain numbers go in.
    let socket = check_fd(unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) }.into())?;
    // SAFETY: ifreq is plain data, all zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(*b"lo\0") {
        *to = libc::c_char::from_ne_bytes([from]);
    }
    // SIOCSIFFLAGS replaces the flags; a fresh loopback has none but these to keep.
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).unwrap_or_default();
    // SAFETY: the request is a whole ifreq that lives through the call.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request) }).map(drop)
}
