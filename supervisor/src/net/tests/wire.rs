//! Two network namespaces and a virtual wire between them.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sched::{CloneFlags, unshare};

use super::super::netlink::{Message, Nest, Netlink};

/// linux/veth.h
const VETH_INFO_PEER: u16 = 1;
pub(super) const MAC: [u8; 6] = [2, 0, 0, 0x99, 0, 0x50];

/// The client's end: the namespace of the thread that made it.
pub(super) struct Wire {
    namespace: OwnedFd,
}

impl Wire {
    /// Moves the calling thread into a new namespace.
    pub(super) fn new() -> Self {
        Self { namespace: enter_new_namespace() }
    }

    pub(super) fn namespace(&self) -> OwnedFd {
        self.namespace.try_clone().unwrap()
    }
}

pub(super) fn enter_new_namespace() -> OwnedFd {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    File::open("/proc/thread-self/ns/net").unwrap().into()
}

/// A pair of cards: `srv` here, `eth0` in the other namespace.
pub(super) fn join(other: &OwnedFd) {
    let namespace = u32::try_from(other.as_raw_fd()).unwrap().to_ne_bytes();
    let peer = Nest::behind(&[0; 16])
        .attr(libc::IFLA_IFNAME, b"eth0\0")
        .attr(libc::IFLA_ADDRESS, &MAC)
        .attr(libc::IFLA_NET_NS_FD, &namespace);
    let data = Nest::default().nest(VETH_INFO_PEER, &peer);
    let info = Nest::default().attr(libc::IFLA_INFO_KIND, b"veth").nest(libc::IFLA_INFO_DATA, &data);
    let message = Message::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &[0; 16])
        .attr(libc::IFLA_IFNAME, b"srv\0")
        .nest(libc::IFLA_LINKINFO, &info);
    Netlink::requests().unwrap().change(message).unwrap();
}

/// Makes a bridge with `srv` as its port.
pub(super) fn bridge() {
    let mut netlink = Netlink::requests().unwrap();
    let message = Message::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &[0; 16])
        .attr(libc::IFLA_IFNAME, b"br\0")
        .nest(libc::IFLA_LINKINFO, &Nest::default().attr(libc::IFLA_INFO_KIND, b"bridge"));
    netlink.change(message).unwrap();
    let bridge = nix::net::if_::if_nametoindex("br").unwrap();
    let message = Message::new(libc::RTM_NEWLINK, 0, &[0; 16])
        .attr(libc::IFLA_IFNAME, b"srv\0")
        .attr(libc::IFLA_MASTER, &bridge.to_ne_bytes());
    netlink.change(message).unwrap();
}

/// Takes a card out of its bridge.
pub(super) fn unbridge(name: &str) {
    let message = Message::new(libc::RTM_NEWLINK, 0, &[0; 16])
        .attr(libc::IFLA_IFNAME, format!("{name}\0").as_bytes())
        .attr(libc::IFLA_MASTER, &[0; 4]);
    Netlink::requests().unwrap().change(message).unwrap();
}

/// Takes a card down.
pub(super) fn down(index: u32) {
    let mut head = [0; 16];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    head[12..16].copy_from_slice(&libc::IFF_UP.cast_unsigned().to_ne_bytes());
    Netlink::requests().unwrap().change(Message::new(libc::RTM_NEWLINK, 0, &head)).unwrap();
}

/// Removes a card, and with it the other end of its wire.
pub(super) fn delete(index: u32) {
    let mut head = [0; 16];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    Netlink::requests().unwrap().change(Message::new(libc::RTM_DELLINK, 0, &head)).unwrap();
}

pub(super) fn mtu(name: &str) -> u32 {
    let links = Netlink::requests().unwrap().dump(Message::new(libc::RTM_GETLINK, 0, &[0; 16])).unwrap();
    let found = links.iter().find_map(|link| {
        let (_, attributes) = link.parts::<16>()?;
        let is_it = attributes.get(libc::IFLA_IFNAME)?.strip_suffix(b"\0")? == name.as_bytes();
        is_it.then(|| attributes.u32(libc::IFLA_MTU))?
    });
    found.unwrap()
}
