//! Who sent a message, known by a descriptor of the process that comes with it: SO_PASSPIDFD, since Linux 6.5. Since 6.16 it comes of
//! senders that have ended and are reaped as well, and tells in which cgroup they ended.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{errno::Errno, sys::socket::ControlMessageOwned};

/// Of include/uapi/asm-generic/socket.h and include/linux/socket.h; the C library has no names for them.
const SO_PASSPIDFD: libc::c_int = 76;
const SCM_PIDFD: libc::c_int = 4;

/// `struct pidfd_info` of include/uapi/linux/pidfd.h, in its first size.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    /// pid, tgid, ppid, eight ids, and the exit status.
    rest: [u32; 12],
}

const CGROUP: u64 = 1 << 2;
const EXIT: u64 = 1 << 3;

nix::ioctl_readwrite!(pidfd_get_info, 0xff, 11, Info);

/// From now on each message of this socket comes with its sender.
pub(in crate::daemon) fn ask_for(socket: impl AsFd) -> io::Result<()> {
    let on = 1_i32.to_ne_bytes();
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: `on` has the four bytes that are told, and outlives the call.
    let result = unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, SO_PASSPIDFD, on.as_ptr().cast(), 4) };
    Errno::result(result)?;
    Ok(())
}

/// The sender, where this is the control message that has it. Of one that is gone an older kernel has an error there.
pub(in crate::daemon) fn of(control: &ControlMessageOwned) -> Option<OwnedFd> {
    let ControlMessageOwned::Unknown(message) = control else { return None };
    if (message.cmsg_header.cmsg_level, message.cmsg_header.cmsg_type) != (libc::SOL_SOCKET, SCM_PIDFD) {
        return None;
    }
    let number = i32::from_ne_bytes(message.data_bytes.get(..4)?.try_into().ok()?);
    super::adopt_fd(number).ok()
}

/// The id of the cgroup in which a process ended that is reaped by now, which is its folder's inode number. `None`: it lives, or the
/// kernel does not tell.
pub(in crate::daemon) fn last_cgroup(pidfd: BorrowedFd<'_>) -> Option<u64> {
    let mut info = Info { mask: CGROUP | EXIT, ..Info::default() };
    // SAFETY: `info` has the layout and the size that the request's number names, and outlives the call.
    unsafe { pidfd_get_info(pidfd.as_raw_fd(), &raw mut info) }.ok()?;
    (info.mask & (CGROUP | EXIT) == CGROUP | EXIT).then_some(info.cgroup)
}
