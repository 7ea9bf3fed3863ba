//! close(2) may wait for as long as somebody else likes: a TCP socket with SO_LINGER whose peer does not read, a queue that holds
//! such a socket, a file of a FUSE server. Containers choose what they send to be kept, and neither PID 1 nor the supervisor's loop
//! may stand still.

use std::os::fd::{AsRawFd as _, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, readlink};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Linger;
use nix::unistd::{getpid, pipe2};

/// Closes a descriptor without waiting, see [`close_all_aside`].
pub fn close_aside(fd: OwnedFd) {
    close_all_aside(vec![fd]);
}

/// Closes descriptors without waiting: what is no pipe is closed last by the end of a process of its own, which does not linger
/// (net/ipv4/af_inet.c, inet_release: PF_EXITING) and for which nobody waits. PID 1 reaps it. One for all: a message brings 253.
pub fn close_all_aside(mut fds: Vec<OwnedFd>) {
    // Not fstat(2): that asks a FUSE server, too.
    let is_pipe = |fd: &OwnedFd| {
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        readlink(path.as_str()).is_ok_and(|target| target.as_encoded_bytes().starts_with(b"pipe:"))
    };
    fds.retain(|fd| !is_pipe(fd));
    if fds.is_empty() {
        return;
    }
    if let Ok(held) = held_aside(&fds) {
        drop(fds);
        drop(held);
    } else {
        // For want of processes or descriptors. What is no socket refuses.
        for fd in fds {
            let _ = setsockopt(&fd, Linger, &libc::linger { l_onoff: 0, l_linger: 0 });
        }
    }
}

/// Somebody else has them, too, until what is returned is closed.
fn held_aside(fds: &[OwnedFd]) -> Result<OwnedFd, Errno> {
    let (ended, held) = pipe2(OFlag::O_CLOEXEC)?;
    let mut kept: Vec<RawFd> = fds.iter().chain([&ended]).map(|fd| fd.as_raw_fd()).collect();
    kept.sort_unstable();
    // PID 1 cannot have siblings (clone(2), CLONE_PARENT).
    let parent = if getpid().as_raw() == 1 { 0 } else { libc::CLONE_PARENT };
    // SAFETY: no memory is shared and no stack given, so this is fork(2); the copy makes system calls only, whatever other threads
    // held when it was made.
    let pid = unsafe { libc::syscall(libc::SYS_clone, parent | libc::SIGCHLD, 0, 0, 0, 0) };
    if Errno::result(pid)? == 0 {
        wait_and_end(&kept, ended.as_raw_fd());
    }
    Ok(held)
}

/// Keeps these descriptors, in their order, until that of a pipe among them has nobody left to write to it.
fn wait_and_end(kept: &[RawFd], ended: RawFd) -> ! {
    let mut first: libc::c_uint = 0;
    for kept in kept {
        let kept = kept.cast_unsigned();
        if first < kept {
            // SAFETY: numbers only.
            unsafe { libc::syscall(libc::SYS_close_range, first, kept - 1, 0) };
        }
        first = kept + 1;
    }
    // SAFETY: numbers only.
    unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, 0) };
    let mut byte = 0_u8;
    // SAFETY: one writable byte; nothing is ever written, so it returns at the end.
    unsafe { libc::read(ended, (&raw mut byte).cast(), 1) };
    // SAFETY: ends the copy; nothing of the original's is run or flushed.
    unsafe { libc::_exit(0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn many_are_kept_by_one_process_until_all_are_closed() {
        let pairs: Vec<_> = (0..50).map(|_| std::os::unix::net::UnixStream::pair().unwrap()).collect();
        let (ours, theirs): (Vec<OwnedFd>, Vec<_>) = pairs.into_iter().map(|(a, b)| (a.into(), b)).unzip();
        let held = held_aside(&ours).unwrap();
        drop(ours);
        for stream in &theirs {
            stream.set_nonblocking(true).unwrap();
            assert_eq!((&*stream).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
        }
        drop(held);
        for mut stream in theirs {
            stream.set_nonblocking(false).unwrap();
            assert_eq!(stream.read(&mut [0]).unwrap(), 0, "closed by the end of who kept it");
        }
    }

    #[test]
    fn a_socket_that_lingers_for_ever_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_deaf, _) = listener.accept().unwrap();
        client.set_nonblocking(true).unwrap();
        let full = std::iter::repeat_with(|| client.write(&[0; 65536])).find_map(Result::err).unwrap();
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        setsockopt(&client, Linger, &libc::linger { l_onoff: 1, l_linger: 1 << 20 }).unwrap();
        let (sender, closed) = mpsc::channel();
        std::thread::spawn(move || {
            close_aside(client.into());
            sender.send(())
        });
        closed.recv_timeout(Duration::from_secs(20)).unwrap();
    }
}
