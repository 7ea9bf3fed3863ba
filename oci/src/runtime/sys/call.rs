//! System calls as a filter sees them, before they are made.

use std::ffi::CStr;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use super::process::{BESIDE, StringList};

/// A system call as a filter sees it.
pub(crate) struct Call {
    pub(crate) number: u32,
    pub(crate) arguments: [u64; 6],
}

impl Call {
    /// The other arguments are zero.
    pub(super) fn new(number: libc::c_long, [a, b, c]: [usize; 3]) -> Call {
        let arguments = [a as u64, b as u64, c as u64, 0, 0, 0];
        Call { number: u32::try_from(number).unwrap_or(u32::MAX), arguments }
    }

    /// That of `exec`.
    pub(crate) fn exec(path: &CStr, args: &StringList, env: &StringList) -> Call {
        Call::new(libc::SYS_execve, [path.as_ptr().addr(), args.pointers.as_ptr().addr(), env.pointers.as_ptr().addr()])
    }
}

/// What is left to one that makes `copy_beside` and to that copy, until it executes a program: word by the channel, and a session. Only
/// for some: its terminal; a connection from whoever starts it; limits. Pointers and lengths are taken for zero, for no profile speaks
/// of them; one that does ends the process, and with it the operation.
pub(crate) fn calls_of_a_copy(
    channel: BorrowedFd<'_>,
    listener: Option<BorrowedFd<'_>>,
    terminal: bool,
    limits: bool,
) -> impl Iterator<Item = Call> {
    /// ioctl_tty(2); libc's constant has another type for each C library.
    const TIOCSCTTY: usize = 0x540e;
    let of = |fd: BorrowedFd<'_>| usize::try_from(fd.as_raw_fd()).unwrap_or_default();
    let fd = of(channel);
    let number = |number: i32| usize::try_from(number).unwrap_or_default();
    let all = [
        Call::new(libc::SYS_clone, [usize::try_from(BESIDE).unwrap_or_default(), 0, 0]),
        Call::new(libc::SYS_sendmsg, [fd, 0, number(libc::MSG_NOSIGNAL)]),
        Call::new(libc::SYS_exit_group, [0; 3]),
        Call::new(libc::SYS_setsid, [0; 3]),
        Call::new(libc::SYS_recvfrom, [fd, 0, 0]),
    ];
    let more = [
        terminal.then(|| Call::new(libc::SYS_ioctl, [0, TIOCSCTTY, 0])),
        listener.map(|listener| Call::new(libc::SYS_accept4, [of(listener), 0, 0])),
        limits.then(|| Call::new(libc::SYS_prlimit64, [0; 3])),
    ];
    all.into_iter().chain(more.into_iter().flatten())
}
