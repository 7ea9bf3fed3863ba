//! Links as rtnetlink makes them: bridges, pairs of virtual cards, their addresses and routes, in the namespace of whoever opened
//! the socket.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsRawFd, BorrowedFd},
};

use super::{
    super::netlink::{Attributes, Message, Nest, Netlink},
    Mac,
    subnet::{Subnet, octets},
};

const IFINFO_BYTES: usize = 16;
/// linux/veth.h, linux/if_link.h, linux/if_addr.h
const VETH_INFO_PEER: u16 = 1;
const IFLA_BRPORT_MODE: u16 = 4;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const IFA_F_NODAD: u32 = 2;
const INET: u8 = 2;
const INET6: u8 = 10;

/// One pair of cards: its end at a bridge here, and the other in a container's namespace.
pub(super) struct Pair<'a> {
    pub(super) name: &'a str,
    pub(super) bridge: u32,
    pub(super) inside: &'a str,
    pub(super) namespace: BorrowedFd<'a>,
    pub(super) mac: Mac,
    pub(super) mtu: Option<u32>,
}

/// A route of the host: where to, and by which link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HostRoute {
    pub(crate) to: Subnet,
    pub(crate) link: u32,
}

/// A link as the kernel shows it.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    /// Says whose it is.
    pub(super) alias: String,
    pub(super) is_bridge: bool,
    /// The one that it is joined to.
    pub(super) bridge: Option<u32>,
    pub(super) is_up: bool,
}

pub(super) struct Links(Netlink);

impl Links {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self(Netlink::requests()?))
    }

    pub(super) fn find(&mut self, name: &str) -> io::Result<Option<Link>> {
        let message = Message::new(libc::RTM_GETLINK, 0, &[0; IFINFO_BYTES]).attr(libc::IFLA_IFNAME, &c(name));
        match self.0.get(message) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(None),
            result => Ok(result?.as_ref().and_then(link)),
        }
    }

    pub(super) fn all(&mut self) -> io::Result<Vec<Link>> {
        let links = self.0.dump(Message::new(libc::RTM_GETLINK, 0, &[0; IFINFO_BYTES]))?;
        Ok(links.iter().filter_map(link).collect())
    }

    pub(super) fn add_bridge(&mut self, name: &str, mac: Mac, mtu: Option<u32>) -> io::Result<()> {
        self.0.change(new_bridge(name, mac, mtu))
    }

    pub(super) fn add_pair(&mut self, pair: &Pair<'_>) -> io::Result<()> {
        let namespace = pair.namespace.as_raw_fd().to_ne_bytes();
        self.0.change(new_pair(pair, namespace))
    }

    /// Brings a link up under an alias. `port`, of a bridge: it has no IPv6 address of its own, and gives back to where it comes from what
    /// is sent there by way of a published port. (That is the host's routing, unless br_netfilter is loaded: then it is the bridge's.)
    pub(super) fn up(&mut self, index: u32, alias: &str, port: bool) -> io::Result<()> {
        let up = libc::IFF_UP.cast_unsigned();
        let mut message = Message::new(libc::RTM_NEWLINK, 0, &ifinfo(index, up));
        if !alias.is_empty() {
            message = message.attr(libc::IFLA_IFALIAS, &c(alias));
        }
        if port {
            let slave = Nest::default().attr(IFLA_BRPORT_MODE, &[1]);
            let info = Nest::default().attr(libc::IFLA_INFO_SLAVE_KIND, b"bridge");
            message = message.nest(libc::IFLA_LINKINFO, &info.nest(libc::IFLA_INFO_SLAVE_DATA, &slave));
            let mode = Nest::default().attr(IFLA_INET6_ADDR_GEN_MODE, &[IN6_ADDR_GEN_MODE_NONE]);
            message = message.nest(libc::IFLA_AF_SPEC, &Nest::default().nest(INET6.into(), &mode));
        }
        self.0.change(message)
    }

    /// What is gone already is no error.
    pub(super) fn remove(&mut self, name: &str) -> io::Result<()> {
        let message = Message::new(libc::RTM_DELLINK, 0, &[0; IFINFO_BYTES]).attr(libc::IFLA_IFNAME, &c(name));
        match self.0.change(message) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => Ok(()),
            result => result,
        }
    }

    /// Gives a link an address; one that it has is no error.
    pub(super) fn add_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> io::Result<()> {
        self.0.change(new_address(index, address, prefix))
    }

    pub(super) fn add_default_route(&mut self, index: u32, gateway: IpAddr) -> io::Result<()> {
        self.0.change(default_route(index, gateway))
    }

    /// Where the host sends packets, but those of no route of their own: its routes and addresses.
    pub(super) fn routes(&mut self) -> io::Result<Vec<HostRoute>> {
        let mut all = Vec::new();
        for (family, any) in [(INET, IpAddr::from([0; 4])), (INET6, IpAddr::from([0; 16]))] {
            let mut head = [0; 12];
            head[0] = family;
            for message in self.0.dump(Message::new(libc::RTM_GETROUTE, 0, &head))? {
                let Some((head, attributes)) = message.parts::<12>() else { continue };
                let to = attributes.get(libc::RTA_DST).and_then(|bytes| address(bytes, any.is_ipv4())).unwrap_or(any);
                let link = attributes.u32(libc::RTA_OIF).unwrap_or(0);
                // Unicast only: what is broadcast or local lies in one of those.
                if head[1] > 0 && head[7] == libc::RTN_UNICAST && !to.is_loopback() && !is_link_local(to) {
                    all.push(HostRoute { to: Subnet::around(to, head[1]), link });
                }
            }
            for message in self.0.dump(Message::new(libc::RTM_GETADDR, 0, &[family, 0, 0, 0, 0, 0, 0, 0]))? {
                let Some((head, attributes)) = message.parts::<8>() else { continue };
                let bytes = attributes.get(libc::IFA_LOCAL).or_else(|| attributes.get(libc::IFA_ADDRESS));
                let Some(address) = bytes.and_then(|bytes| address(bytes, any.is_ipv4())) else { continue };
                let link = u32::from_ne_bytes([head[4], head[5], head[6], head[7]]);
                if !address.is_loopback() && !is_link_local(address) {
                    all.push(HostRoute { to: Subnet::around(address, head[1]), link });
                }
            }
        }
        Ok(all)
    }
}

/// Those belong to their wire and collide with nothing.
fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_multicast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_multicast(),
    }
}

fn address(bytes: &[u8], v4: bool) -> Option<IpAddr> {
    if v4 { Some(IpAddr::from(*bytes.first_chunk::<4>()?)) } else { Some(IpAddr::from(*bytes.first_chunk::<16>()?)) }
}

fn link(message: &Message) -> Option<Link> {
    let (head, attributes) = message.parts::<IFINFO_BYTES>()?;
    let text = |attributes: Attributes<'_>, kind| {
        let bytes: &[u8] = attributes.get(kind).unwrap_or_default();
        String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
    };
    let info = attributes.get(libc::IFLA_LINKINFO).map(Attributes);
    Some(Link {
        index: u32::from_ne_bytes([head[4], head[5], head[6], head[7]]),
        name: text(attributes, libc::IFLA_IFNAME),
        alias: text(attributes, libc::IFLA_IFALIAS),
        is_bridge: info.is_some_and(|info| text(info, libc::IFLA_INFO_KIND) == "bridge"),
        bridge: attributes.u32(libc::IFLA_MASTER),
        is_up: u32::from_ne_bytes([head[8], head[9], head[10], head[11]]) & libc::IFF_UP.cast_unsigned() != 0,
    })
}

/// Ended by a zero, as the kernel wants names.
fn c(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

fn ifinfo(index: u32, flags: u32) -> [u8; IFINFO_BYTES] {
    let mut head = [0; IFINFO_BYTES];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    head[8..12].copy_from_slice(&flags.to_ne_bytes());
    head[12..16].copy_from_slice(&flags.to_ne_bytes());
    head
}

/// Its MAC stays: without one of its own it would be that of the port with the lowest, another one with every container.
fn new_bridge(name: &str, mac: Mac, mtu: Option<u32>) -> Message {
    let info = Nest::default().attr(libc::IFLA_INFO_KIND, b"bridge");
    let message = Message::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &[0; IFINFO_BYTES])
        .attr(libc::IFLA_IFNAME, &c(name))
        .attr(libc::IFLA_ADDRESS, &mac.0)
        .nest(libc::IFLA_LINKINFO, &info);
    match mtu {
        Some(mtu) => message.attr(libc::IFLA_MTU, &mtu.to_ne_bytes()),
        None => message,
    }
}

/// Both ends at once, each at its place and under its name: nobody ever sees the other one on the host.
fn new_pair(pair: &Pair<'_>, namespace: [u8; 4]) -> Message {
    let mtu = pair.mtu.map(u32::to_ne_bytes);
    let mut peer = Nest::behind(&[0; IFINFO_BYTES])
        .attr(libc::IFLA_IFNAME, &c(pair.inside))
        .attr(libc::IFLA_ADDRESS, &pair.mac.0)
        .attr(libc::IFLA_NET_NS_FD, &namespace);
    if let Some(mtu) = mtu {
        peer = peer.attr(libc::IFLA_MTU, &mtu);
    }
    let data = Nest::default().nest(VETH_INFO_PEER, &peer);
    let info = Nest::default().attr(libc::IFLA_INFO_KIND, b"veth").nest(libc::IFLA_INFO_DATA, &data);
    let message = Message::new(libc::RTM_NEWLINK, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &[0; IFINFO_BYTES])
        .attr(libc::IFLA_IFNAME, &c(pair.name))
        .attr(libc::IFLA_MASTER, &pair.bridge.to_ne_bytes())
        .nest(libc::IFLA_LINKINFO, &info);
    match mtu {
        Some(mtu) => message.attr(libc::IFLA_MTU, &mtu),
        None => message,
    }
}

/// IPv6 without detection of duplicates: we give the addresses, and a program binds to one as soon as it runs.
fn new_address(index: u32, address: IpAddr, prefix: u8) -> Message {
    let mut head = [0; 8];
    head[0] = family(address);
    head[1] = prefix;
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    let bytes = octets(address);
    let message = Message::new(libc::RTM_NEWADDR, libc::NLM_F_CREATE | libc::NLM_F_REPLACE, &head)
        .attr(libc::IFA_LOCAL, &bytes)
        .attr(libc::IFA_ADDRESS, &bytes);
    if address.is_ipv4() {
        message.attr(libc::IFA_BROADCAST, &octets(Subnet::around(address, prefix).last()))
    } else {
        message.attr(libc::IFA_FLAGS, &IFA_F_NODAD.to_ne_bytes())
    }
}

fn default_route(index: u32, gateway: IpAddr) -> Message {
    let mut head = [0; 12];
    head[0] = family(gateway);
    head[4] = libc::RT_TABLE_MAIN;
    head[5] = libc::RTPROT_STATIC;
    head[7] = libc::RTN_UNICAST;
    Message::new(libc::RTM_NEWROUTE, libc::NLM_F_CREATE | libc::NLM_F_EXCL, &head)
        .attr(libc::RTA_OIF, &index.to_ne_bytes())
        .attr(libc::RTA_GATEWAY, &octets(gateway))
}

fn family(address: IpAddr) -> u8 {
    if address.is_ipv4() { INET } else { INET6 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand, from rtnetlink(7) and linux/if_link.h.
    #[test]
    fn golden_bridge() {
        let expected = [
            &[0; 16][..],
            &[8, 0, 3, 0, b'b', b'r', b'0', 0],
            &[10, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 0],
            &[16, 0, 18, 128, 10, 0, 1, 0, b'b', b'r', b'i', b'd', b'g', b'e', 0, 0],
        ]
        .concat();
        assert_eq!(new_bridge("br0", Mac([2, 0, 0, 0, 0, 1]), None).body(), expected);
    }

    #[test]
    fn golden_address_and_route() {
        let expected = [
            &[2, 24, 0, 0, 7, 0, 0, 0][..],
            &[8, 0, 2, 0, 10, 89, 0, 2],
            &[8, 0, 1, 0, 10, 89, 0, 2],
            &[8, 0, 4, 0, 10, 89, 0, 255],
        ]
        .concat();
        assert_eq!(new_address(7, [10, 89, 0, 2].into(), 24).body(), expected);
        let expected =
            [&[2, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0][..], &[8, 0, 4, 0, 7, 0, 0, 0], &[8, 0, 5, 0, 10, 89, 0, 1]]
                .concat();
        assert_eq!(default_route(7, [10, 89, 0, 1].into()).body(), expected);
    }
}
