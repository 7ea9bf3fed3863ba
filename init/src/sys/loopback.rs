//! The loopback interface's flags, by the oldest interface there is: no netlink in PID 1.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

/// `struct ifreq` as far as SIOC[GS]IFFLAGS uses it: name, flags, padding up to its 40 bytes.
#[repr(C)]
struct FlagsRequest {
    name: [u8; 16],
    flags: libc::c_short,
    rest: [u8; 22],
}

/// Sets `lo` up; the kernel gives it 127.0.0.1 and ::1 by itself. Any socket of an IP family serves.
pub(crate) fn up(socket: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut request = FlagsRequest { name: *b"lo\0\0\0\0\0\0\0\0\0\0\0\0\0\0", flags: 0, rest: [0; 22] };
    // SAFETY: SIOCGIFFLAGS reads the name and writes the flags of a struct ifreq, whose size FlagsRequest has.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as libc::Ioctl, &raw mut request) };
    Errno::result(result)?;
    request.flags |= libc::c_short::try_from(libc::IFF_UP).unwrap_or(1);
    // SAFETY: SIOCSIFFLAGS reads a struct ifreq, whose size FlagsRequest has.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as libc::Ioctl, &raw const request) };
    Errno::result(result).map(drop)
}
