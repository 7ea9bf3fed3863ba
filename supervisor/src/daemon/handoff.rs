//! The client of the handoff socket: messages of PID 1 in, ours out, in order, without ever blocking.

use std::{
    collections::VecDeque,
    io::{IoSlice, IoSliceMut},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use ::handoff::{MAX_PACKET_BYTES, ToInit, ToSupervisor};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg},
};

use super::{clock, sys};

/// Lines for the console are dropped first when PID 1 does not read.
const MAX_QUEUED_LINES: usize = 256;

#[derive(Debug)]
pub(crate) struct Handoff {
    socket: OwnedFd,
    queue: VecDeque<(Vec<u8>, Option<OwnedFd>)>,
    /// PID 1 closed its end.
    closed: bool,
}

impl Handoff {
    pub(crate) fn new(socket: OwnedFd) -> nix::Result<Self> {
        fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        fcntl(&socket, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(Self { socket, queue: VecDeque::new(), closed: false })
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Something waits for the socket to become writable.
    pub(crate) fn is_full(&self) -> bool {
        !self.queue.is_empty() && !self.closed
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }

    pub(crate) fn send(&mut self, message: &ToInit, fd: Option<OwnedFd>) {
        if matches!(message, ToInit::Say { .. }) && self.queue.len() >= MAX_QUEUED_LINES {
            return;
        }
        self.queue.push_back((message.encode(), fd));
        self.flush();
    }

    pub(crate) fn flush(&mut self) {
        while let Some((packet, fd)) = self.queue.front() {
            let fds = fd.as_ref().map(|fd| [fd.as_raw_fd()]);
            let rights = fds.as_ref().map(|fds| [ControlMessage::ScmRights(fds)]);
            let rights = rights.as_ref().map_or(&[][..], |rights| &rights[..]);
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match sendmsg::<()>(self.socket.as_raw_fd(), &[IoSlice::new(packet)], rights, flags, None) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                // What is short passes.
                Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM | Errno::ETOOMANYREFS) => return,
                Err(errno) => {
                    if !self.closed {
                        log::error!("handoff: send: {errno}");
                    }
                    self.closed |= matches!(errno, Errno::EPIPE | Errno::ECONNRESET);
                }
            }
            self.queue.pop_front();
        }
    }

    /// Until there is something to receive. False: the deadline is past, or PID 1 has closed its end.
    pub(crate) fn wait(&mut self, deadline: Duration) -> bool {
        self.flush();
        let left = deadline.saturating_sub(clock::monotonic());
        if left.is_zero() || self.closed {
            return false;
        }
        let mut fds = [PollFd::new(self.fd(), PollFlags::POLLIN)];
        let _ = poll(&mut fds, PollTimeout::from(u16::try_from(left.as_millis()).unwrap_or(u16::MAX)));
        true
    }

    /// The next message, with the descriptor beside it. `None`: no more for now.
    pub(crate) fn receive(&mut self) -> Option<(ToSupervisor, Option<OwnedFd>)> {
        loop {
            let mut bytes = [0u8; MAX_PACKET_BYTES];
            let mut control = nix::cmsg_space!([std::os::fd::RawFd; 1]);
            let mut parts = [IoSliceMut::new(&mut bytes)];
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
            let (length, fd) = match recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut control), flags) {
                Ok(message) => {
                    let mut fd = None;
                    for control in message.cmsgs().into_iter().flatten() {
                        if let ControlMessageOwned::ScmRights(numbers) = control {
                            // All but the first are closed again.
                            fd = numbers.into_iter().filter_map(|number| sys::adopt_fd(number).ok()).next();
                        }
                    }
                    (message.bytes, fd)
                }
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => return None,
                Err(errno) => {
                    log::error!("handoff: receive: {errno}");
                    self.closed = true;
                    return None;
                }
            };
            if length == 0 {
                self.closed = true;
                return None;
            }
            match ToSupervisor::decode(&bytes[..length]) {
                Ok(message) => return Some((message, fd)),
                Err(error) => log::warn!("handoff: {error}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ::handoff::ShutdownKind;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, recv, socketpair};

    use super::*;

    fn pair() -> (Handoff, OwnedFd) {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        (Handoff::new(ours).unwrap(), theirs)
    }

    #[test]
    fn descriptors_travel_beside_their_message() {
        let (mut client, init) = pair();
        let stored: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
        client.send(&ToInit::PutFd { name: "log:web:out".into() }, Some(stored));
        let mut bytes = [0; 512];
        let mut control = nix::cmsg_space!([std::os::fd::RawFd; 1]);
        let mut parts = [IoSliceMut::new(&mut bytes)];
        let message = recvmsg::<()>(init.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty()).unwrap();
        let fds = message.cmsgs().unwrap().count();
        let length = message.bytes;
        assert_eq!((fds, ToInit::decode(&bytes[..length])), (1, Ok(ToInit::PutFd { name: "log:web:out".into() })));
    }

    #[test]
    fn a_pid_1_that_does_not_read_costs_lines_and_nothing_else() {
        let (mut client, init) = pair();
        for i in 0..10_000 {
            client.send(&ToInit::Say { text: format!("line {i} {}", "x".repeat(300)) }, None);
        }
        assert!(client.queue.len() <= MAX_QUEUED_LINES && client.is_full());
        let last_word = ToInit::Shutdown { kind: ShutdownKind::Reboot };
        client.send(&last_word, None);
        let mut last = None;
        let mut bytes = [0; 512];
        while last.as_ref() != Some(&last_word) {
            client.flush();
            let n = recv(init.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT).expect("nothing more, and no last word");
            last = ToInit::decode(&bytes[..n]).ok();
        }
    }

    #[test]
    fn garbage_is_passed_over_and_the_end_is_noticed() {
        let (mut client, init) = pair();
        nix::unistd::write(&init, b"garbage").unwrap();
        nix::unistd::write(&init, &ToSupervisor::Ping { nonce: 4 }.encode()).unwrap();
        assert!(matches!(client.receive(), Some((ToSupervisor::Ping { nonce: 4 }, None))));
        assert!(client.receive().is_none() && !client.is_closed());
        drop(init);
        assert!(client.receive().is_none() && client.is_closed());
    }
}
