//! Descriptors by number: fds 0–2 that may be missing, fds that arrive in messages.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl, open};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::Mode;
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout};

const NOFILE: libc::rlim_t = 524_288;
/// linux/bpf_common.h: BPF_RET | BPF_K.
const BPF_RET: u16 = 6;

/// Puts `/dev/null` on fds 0–2, whatever was there: so nothing opened later is taken for stdio, and what the
/// supervisor inherits is harmless. Without a `/dev` a socket does it that takes everything and keeps nothing.
pub(crate) fn stdio_to_null() {
    let null = open("/dev/null", OFlag::O_RDWR | OFlag::O_NOCTTY, Mode::empty()).or_else(|_| bottomless());
    let Ok(null) = null else { return };
    // The copies may only fail for want of fds, and these three replace what is there.
    let _ = dup2_stdin(&null);
    let _ = dup2_stdout(&null);
    let _ = dup2_stderr(&null);
    if null.as_raw_fd() <= 2 {
        std::mem::forget(null);
    }
}

/// A datagram socket whose peer filters everything away: a write succeeds and is gone (net/unix/af_unix.c: "toss the
/// packet but do not return any error to the sender"), a read finds the end.
fn bottomless() -> Result<OwnedFd, Errno> {
    // Not close-on-exec: the near end may itself be one of fds 0–2 already.
    let (near, far) = socketpair(AddressFamily::Unix, SockType::Datagram, None, SockFlag::empty())?;
    let mut drop_all = [libc::sock_filter { code: BPF_RET, jt: 0, jf: 0, k: 0 }];
    let program = libc::sock_fprog { len: 1, filter: drop_all.as_mut_ptr() };
    let size = u32::try_from(size_of::<libc::sock_fprog>()).unwrap_or(0);
    let (level, option) = (libc::SOL_SOCKET, libc::SO_ATTACH_FILTER);
    // SAFETY: a sock_fprog of the size given, its one instruction alive; the kernel copies both.
    Errno::result(unsafe { libc::setsockopt(far.as_raw_fd(), level, option, (&raw const program).cast(), size) })?;
    nix::sys::socket::shutdown(near.as_raw_fd(), nix::sys::socket::Shutdown::Read)?;
    // It has to exist for as long as anyone writes, and above the numbers that are about to be replaced.
    std::mem::forget(own(fcntl(&far, FcntlArg::F_DUPFD_CLOEXEC(3))?));
    Ok(near)
}

/// Closes all but stdio and these, whoever owns them: for a copy of this process, which drops none of what it inherited.
pub(crate) fn close_all_but(mut kept: [Option<RawFd>; 2]) {
    kept.sort_unstable();
    let mut first = 3;
    for fd in kept.into_iter().flatten().filter_map(|fd| u32::try_from(fd).ok()).chain([u32::MAX]) {
        if first < fd {
            // SAFETY: takes no memory.
            unsafe { libc::syscall(libc::SYS_close_range, first, fd - 1, 0) };
        }
        first = fd.saturating_add(1);
    }
}

/// The kernel starts PID 1 with 1024, fewer than the store has places; and the supervisor, which gets as many. Without the right to
/// raise the limit it stays as it is.
pub(crate) fn allow_many() {
    let limit = libc::rlimit { rlim_cur: NOFILE, rlim_max: NOFILE };
    // SAFETY: reads the struct.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bottomless_socket_takes_everything_and_gives_nothing() {
        let sink = bottomless().unwrap();
        for _ in 0..10_000 {
            assert_eq!(nix::unistd::write(&sink, &[b'x'; 4096]), Ok(4096));
        }
        assert_eq!(nix::unistd::read(&sink, &mut [0; 8]), Ok(0));
    }
}
