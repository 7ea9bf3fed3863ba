//! The two sockets of a DHCP client: below IP while the card has no address, UDP while it has one.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, bind, recv, setsockopt, socket, sockopt,
};

use super::dhcp::frame::{self, CLIENT_PORT, SERVER_PORT};
use super::sys;

/// Larger than any Ethernet frame; what is longer is cut, and then refused as malformed.
const BUFFER_BYTES: usize = 4096;
/// Messages taken at one wake-up: a flood must not keep the thread from its timers.
const BURST: usize = 64;

/// Sends to and hears everybody on one wire, with no address at all.
pub(super) struct PacketSocket {
    fd: OwnedFd,
    index: u32,
}

impl PacketSocket {
    pub(super) fn open(index: u32) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // Without a protocol it hears nothing before the filter is in place and it is bound.
        let fd = socket(AddressFamily::Packet, SockType::Datagram, flags, None)?;
        sys::filter_udp_port(fd.as_fd(), CLIENT_PORT)?;
        sys::bind_packet(fd.as_fd(), index)?;
        Ok(Self { fd, index })
    }

    pub(super) fn send(&self, message: &[u8]) -> io::Result<()> {
        sys::send_to_all(self.fd.as_fd(), self.index, &frame::broadcast(message))
    }

    pub(super) fn receive(&self) -> io::Result<Vec<Vec<u8>>> {
        let packets = burst(&self.fd)?;
        Ok(packets.iter().filter_map(|packet| frame::message(packet)).map(<[u8]>::to_vec).collect())
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Port 68 on one card.
pub(super) struct BoundSocket(UdpSocket);

impl BoundSocket {
    pub(super) fn open(device: &str) -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Inet, SockType::Datagram, flags, None)?;
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        setsockopt(&fd, sockopt::Broadcast, &true)?;
        setsockopt(&fd, sockopt::BindToDevice, &device.into())?;
        bind(fd.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, CLIENT_PORT)))?;
        Ok(Self(fd.into()))
    }

    /// To a server, or to all of them.
    pub(super) fn send(&self, message: &[u8], server: Option<Ipv4Addr>) -> io::Result<()> {
        let to = SocketAddrV4::new(server.unwrap_or(Ipv4Addr::BROADCAST), SERVER_PORT);
        self.0.send_to(message, to).map(drop)
    }

    pub(super) fn receive(&self) -> io::Result<Vec<Vec<u8>>> {
        burst(&self.0)
    }
}

impl AsFd for BoundSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn burst(fd: &impl AsFd) -> io::Result<Vec<Vec<u8>>> {
    let mut packets = Vec::new();
    let mut buffer = [0; BUFFER_BYTES];
    while packets.len() < BURST {
        match recv(fd.as_fd().as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(n) => packets.push(buffer[..n].to_vec()),
            Err(Errno::EAGAIN) => break,
            Err(Errno::EINTR) => {}
            // The card went down, or an answer to what was sent: nobody is there. The timers know what to do.
            Err(Errno::ENETDOWN | Errno::ECONNREFUSED | Errno::EHOSTUNREACH | Errno::ENETUNREACH) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(packets)
}
