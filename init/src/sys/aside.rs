//! close(2) may wait for as long as somebody else likes: a TCP socket with SO_LINGER whose peer does not read, a queue that holds
//! such a socket, a file of a FUSE server. Containers choose what they send to be kept.

use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, readlink};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::Linger;
use nix::unistd::pipe2;

use crate::text::Text;

/// Closes it without waiting: what is no pipe is closed last by the end of a child, who does not linger (net/ipv4/af_inet.c,
/// inet_release: PF_EXITING) and for whom nobody waits.
pub(crate) fn close(fd: OwnedFd) {
    let path = Text::<32>::of(format_args!("/proc/self/fd/{}", fd.as_raw_fd()));
    // Not fstat(2): that asks a FUSE server, too.
    if readlink(path.as_str()).is_ok_and(|target| target.as_encoded_bytes().starts_with(b"pipe:")) {
        return;
    }
    if let Ok(held) = held_by_child(&fd) {
        drop(fd);
        drop(held);
    } else {
        // For want of processes or descriptors. What is no socket refuses.
        let _ = setsockopt(&fd, Linger, &libc::linger { l_onoff: 0, l_linger: 0 });
    }
}

/// The child has it, too, until what is returned is closed.
fn held_by_child(fd: &OwnedFd) -> Result<OwnedFd, Errno> {
    let (ended, held) = pipe2(OFlag::O_CLOEXEC)?;
    super::fork::hold(fd.as_raw_fd(), ended.as_raw_fd())?;
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{ErrorKind, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::sync::mpsc;
    use std::time::Duration;

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
            close(client.into());
            sender.send(())
        });
        closed.recv_timeout(Duration::from_secs(20)).unwrap();
    }
}
