//! A terminal of a container, seen from outside.

use std::{
    io::IoSliceMut,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    libc::winsize,
    sys::socket::{ControlMessageOwned, MsgFlags, recvmsg},
};

nix::ioctl_write_ptr_bad!(set_window, libc::TIOCSWINSZ, winsize);

/// What the runtime sends on `--console-socket`, as runc's terminals.md has it: one descriptor with a message.
pub(in crate::daemon) fn receive(from: BorrowedFd<'_>) -> nix::Result<OwnedFd> {
    let mut bytes = [0; 256];
    let mut control = nix::cmsg_space!([libc::c_int; 1]);
    let mut iov = [IoSliceMut::new(&mut bytes)];
    let message = recvmsg::<()>(from.as_raw_fd(), &mut iov, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut fds = message.cmsgs()?.filter_map(|one| match one {
        ControlMessageOwned::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let number = fds.next().and_then(|fds| fds.first().copied()).ok_or(Errno::EBADMSG)?;
    super::adopt_fd(number).map_err(|_| Errno::EBADF)
}

pub(in crate::daemon) fn set_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> nix::Result<()> {
    let size = winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `size` has the layout that the request's number names, and outlives the call.
    unsafe { set_window(terminal.as_raw_fd(), &raw const size) }.map(drop)
}
