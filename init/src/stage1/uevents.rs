//! Waiting for devices: the kernel says on a netlink socket that something came or went, and the caller looks.
//!
//! The messages themselves are not read as truth (a full socket loses them): each is only a reason to scan again.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, socket};

/// The kernel's own multicast group; group 2 is udev's.
const KERNEL_GROUP: u32 = 1;

pub(crate) struct Uevents {
    socket: OwnedFd,
}

impl Uevents {
    /// Open it before the first look, so that nothing falls between the look and the wait.
    pub(crate) fn open() -> Result<Self, Errno> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Datagram, flags, SockProtocol::NetlinkKObjectUEvent)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, KERNEL_GROUP))?;
        Ok(Self { socket })
    }

    /// Returns when something happened since the last call, or at the deadline: then false.
    pub(crate) fn wait(&self, deadline: Instant) -> bool {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up: a wait of 0.4 ms must not become a busy loop.
            let timeout = PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(0) if Instant::now() >= deadline => return false,
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return self.drain(),
                Err(_) => return false,
            }
        }
    }

    /// Takes what is there; many messages are one reason to look.
    fn drain(&self) -> bool {
        let mut message = [0; 4096];
        while matches!(recv(self.socket.as_raw_fd(), &mut message, MsgFlags::empty()), Ok(_) | Err(Errno::ENOBUFS)) {}
        true
    }
}
