//! The machine's card in the kernel: finding it, and giving it addresses and routes.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::lease::Route;
use super::netlink::{Attributes, Message, Netlink};

const IFINFO_BYTES: usize = 16;
const IFADDR_BYTES: usize = 8;
const RTMSG_BYTES: usize = 12;
/// linux/if_addr.h, linux/if.h, linux/rtnetlink.h
const IFA_F_TENTATIVE: u32 = 0x40;
const IFF_LOWER_UP: u32 = 0x1_0000;
const INFINITY: u32 = u32::MAX;
/// Who made a route. Those of the command line get the same: they are ours, too.
const RTPROT_DHCP: u8 = 16;
const RTNH_F_ONLINK: u32 = 4;
const INET: u8 = 2;
const INET6: u8 = 10;

/// A network card as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Card {
    pub(super) index: u32,
    pub(super) name: String,
    pub(super) mac: [u8; 6],
    pub(super) carrier: bool,
    /// Made by software (a bridge, one end of a pair), not by a driver.
    pub(super) is_virtual: bool,
}

/// What happened to links and addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum News {
    Link(Card),
    Gone { index: u32 },
    Address { index: u32, address: Ipv6Addr, prefix: u8 },
    AddressGone { index: u32, address: Ipv6Addr },
}

/// Understands one message of the groups [`groups`]; none for what does not matter: other kinds of links, addresses
/// that are good for the wire only or not ready yet, IPv4.
pub(super) fn news(message: &Message) -> Option<News> {
    match message.kind() {
        libc::RTM_NEWLINK => card(message).map(News::Link),
        libc::RTM_DELLINK => {
            let (head, _) = link(message)?;
            Some(News::Gone { index: number(&head[4..8]) })
        }
        kind @ (libc::RTM_NEWADDR | libc::RTM_DELADDR) => {
            let (head, attributes) = message.parts::<IFADDR_BYTES>()?;
            if head[0] != INET6 || head[3] >= libc::RT_SCOPE_LINK {
                return None;
            }
            let index = number(&head[4..8]);
            let address = Ipv6Addr::from(*attributes.get(libc::IFA_ADDRESS)?.first_chunk::<16>()?);
            if kind == libc::RTM_DELADDR {
                return Some(News::AddressGone { index, address });
            }
            let flags = attributes.u32(libc::IFA_FLAGS).unwrap_or(u32::from(head[2]));
            (flags & IFA_F_TENTATIVE == 0).then_some(News::Address { index, address, prefix: head[1] })
        }
        _ => None,
    }
}

/// The multicast groups that carry [`News`].
pub(super) fn groups() -> u32 {
    (libc::RTMGRP_LINK | libc::RTMGRP_IPV6_IFADDR).cast_unsigned()
}

/// What is told of a link itself. What a bridge tells of its ports comes by the same group (rtnetlink(7), family AF_BRIDGE): such a
/// message names no driver, and one that says "gone" means that the link has left the bridge.
fn link(message: &Message) -> Option<(&[u8; IFINFO_BYTES], Attributes<'_>)> {
    message.parts::<IFINFO_BYTES>().filter(|(head, _)| i32::from(head[0]) == libc::AF_UNSPEC)
}

fn card(message: &Message) -> Option<Card> {
    let (head, attributes) = link(message)?;
    if u16::from_ne_bytes([head[2], head[3]]) != libc::ARPHRD_ETHER {
        return None;
    }
    let name = attributes.get(libc::IFLA_IFNAME)?;
    let info = attributes.get(libc::IFLA_LINKINFO).map(Attributes);
    Some(Card {
        index: number(&head[4..8]),
        name: std::str::from_utf8(name).ok()?.trim_end_matches('\0').to_string(),
        mac: *attributes.get(libc::IFLA_ADDRESS)?.first_chunk()?,
        carrier: number(&head[8..12]) & IFF_LOWER_UP != 0,
        is_virtual: info.is_some_and(|info| info.get(libc::IFLA_INFO_KIND).is_some()),
    })
}

fn number(bytes: &[u8]) -> u32 {
    u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

/// Changes to cards.
pub(super) struct Control {
    netlink: Netlink,
}

impl Control {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { netlink: Netlink::requests()? })
    }

    /// All Ethernet cards, in the order the kernel found them.
    pub(super) fn cards(&mut self) -> io::Result<Vec<Card>> {
        let links = self.netlink.dump(Message::new(libc::RTM_GETLINK, 0, &[0; IFINFO_BYTES]))?;
        let mut cards: Vec<_> = links.iter().filter_map(card).collect();
        cards.sort_by_key(|card| card.index);
        Ok(cards)
    }

    /// IPv6 addresses beyond the wire that are ready, of every card.
    pub(super) fn ipv6(&mut self) -> io::Result<Vec<News>> {
        let head = ifaddr(INET6, 0, 0);
        Ok(self.netlink.dump(Message::new(libc::RTM_GETADDR, 0, &head))?.iter().filter_map(news).collect())
    }

    pub(super) fn up(&mut self, index: u32) -> io::Result<()> {
        let up = libc::IFF_UP.cast_unsigned();
        self.netlink.change(Message::new(libc::RTM_NEWLINK, 0, &ifinfo(index, up, up)))
    }

    pub(super) fn set_mtu(&mut self, index: u32, mtu: u16) -> io::Result<()> {
        let message = Message::new(libc::RTM_NEWLINK, 0, &ifinfo(index, 0, 0));
        self.netlink.change(message.attr(libc::IFLA_MTU, &u32::from(mtu).to_ne_bytes()))
    }

    /// Gives the card an address, or the one it has a new lifetime. When its time is over the kernel takes it away by
    /// itself, also when nobody is there to do it.
    pub(super) fn set_address(
        &mut self,
        index: u32,
        address: Ipv4Addr,
        prefix: u8,
        valid: Option<Duration>,
    ) -> io::Result<()> {
        let seconds = valid.map_or(INFINITY, |valid| u32::try_from(valid.as_secs().max(1)).unwrap_or(INFINITY));
        // struct ifa_cacheinfo: preferred, valid, and two times the kernel fills in.
        let lifetime = [seconds.to_ne_bytes(), seconds.to_ne_bytes(), [0; 4], [0; 4]].concat();
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        let mut message = Message::new(libc::RTM_NEWADDR, flags, &ifaddr(INET, index, prefix))
            .attr(libc::IFA_LOCAL, &address.octets())
            .attr(libc::IFA_ADDRESS, &address.octets())
            .attr(libc::IFA_CACHEINFO, &lifetime);
        if let Some(broadcast) = broadcast_of(address, prefix) {
            message = message.attr(libc::IFA_BROADCAST, &broadcast.octets());
        }
        self.netlink.change(message)
    }

    /// Takes every IPv4 address from the card but one: the machine's card has what its server says, and nothing else.
    /// Their routes go with them.
    pub(super) fn remove_addresses(&mut self, index: u32, but: Option<(Ipv4Addr, u8)>) -> io::Result<()> {
        for (address, prefix) in self.addresses(index)? {
            if but == Some((address, prefix)) {
                continue;
            }
            let message = Message::new(libc::RTM_DELADDR, 0, &ifaddr(INET, index, prefix));
            ignore(self.netlink.change(message.attr(libc::IFA_LOCAL, &address.octets())), libc::EADDRNOTAVAIL)?;
        }
        Ok(())
    }

    /// The card's IPv4 addresses.
    pub(super) fn addresses(&mut self, index: u32) -> io::Result<Vec<(Ipv4Addr, u8)>> {
        let listed = self.netlink.dump(Message::new(libc::RTM_GETADDR, 0, &ifaddr(INET, 0, 0)))?;
        let of_card = listed.iter().filter_map(|message| {
            let (head, attributes) = message.parts::<IFADDR_BYTES>()?;
            let local = attributes.get(libc::IFA_LOCAL)?.first_chunk::<4>()?;
            (head[0] == INET && number(&head[4..8]) == index).then(|| (Ipv4Addr::from(*local), head[1]))
        });
        Ok(of_card.collect())
    }

    /// Makes the card's routes these. They prefer the source address given, so the kernel removes them with it.
    pub(super) fn set_routes(&mut self, index: u32, source: (Ipv4Addr, u8), routes: &[Route]) -> io::Result<()> {
        for old in self.routes(index)? {
            if !routes.contains(&old) {
                ignore(self.netlink.change(route(libc::RTM_DELROUTE, 0, index, source, &old)), libc::ESRCH)?;
            }
        }
        // What is on the wire first: gateways may lie there.
        let mut ordered: Vec<_> = routes.iter().collect();
        ordered.sort_by_key(|route| (route.gateway.is_some(), std::cmp::Reverse(route.prefix)));
        let flags = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
        ordered
            .into_iter()
            .try_for_each(|new| self.netlink.change(route(libc::RTM_NEWROUTE, flags, index, source, new)))
    }

    /// Our routes over the card: those of DHCP's protocol number in the main table.
    pub(super) fn routes(&mut self, index: u32) -> io::Result<Vec<Route>> {
        let mut head = [0; RTMSG_BYTES];
        head[0] = INET;
        let listed = self.netlink.dump(Message::new(libc::RTM_GETROUTE, 0, &head))?;
        let ours = listed.iter().filter_map(|message| {
            let (head, attributes) = message.parts::<RTMSG_BYTES>()?;
            let is_ours = head[4] == libc::RT_TABLE_MAIN && head[5] == RTPROT_DHCP;
            let address = |kind| Some(Ipv4Addr::from(*attributes.get(kind)?.first_chunk::<4>()?));
            (is_ours && attributes.u32(libc::RTA_OIF)? == index).then(|| Route {
                destination: address(libc::RTA_DST).unwrap_or(Ipv4Addr::UNSPECIFIED),
                prefix: head[1],
                gateway: address(libc::RTA_GATEWAY),
            })
        });
        Ok(ours.collect())
    }
}

fn route(kind: u16, flags: i32, index: u32, source: (Ipv4Addr, u8), route: &Route) -> Message {
    let scope = if route.gateway.is_some() { libc::RT_SCOPE_UNIVERSE } else { libc::RT_SCOPE_LINK };
    // struct rtmsg: family, both prefixes, tos, table, protocol, scope, type; flags.
    let mut head = [0; RTMSG_BYTES];
    head[..8].copy_from_slice(&[INET, route.prefix, 0, 0, libc::RT_TABLE_MAIN, RTPROT_DHCP, scope, libc::RTN_UNICAST]);
    if route.gateway.is_some_and(|gateway| !same_net(gateway, source)) {
        // Clouds give a /32 and a gateway outside of it, on the same wire all the same.
        head[8..].copy_from_slice(&RTNH_F_ONLINK.to_ne_bytes());
    }
    let mut message = Message::new(kind, flags, &head)
        .attr(libc::RTA_OIF, &index.to_ne_bytes())
        .attr(libc::RTA_PREFSRC, &source.0.octets());
    if route.prefix > 0 {
        message = message.attr(libc::RTA_DST, &route.destination.octets());
    }
    match route.gateway {
        Some(gateway) => message.attr(libc::RTA_GATEWAY, &gateway.octets()),
        None => message,
    }
}

fn same_net(address: Ipv4Addr, (own, prefix): (Ipv4Addr, u8)) -> bool {
    address.to_bits() & mask(prefix) == own.to_bits() & mask(prefix)
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0)
}

/// None for nets too small to have one (RFC 3021).
fn broadcast_of(address: Ipv4Addr, prefix: u8) -> Option<Ipv4Addr> {
    (prefix < 31).then(|| Ipv4Addr::from_bits(address.to_bits() | !mask(prefix)))
}

fn ifinfo(index: u32, flags: u32, change: u32) -> [u8; IFINFO_BYTES] {
    let mut head = [0; IFINFO_BYTES];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    head[8..12].copy_from_slice(&flags.to_ne_bytes());
    head[12..16].copy_from_slice(&change.to_ne_bytes());
    head
}

fn ifaddr(family: u8, index: u32, prefix: u8) -> [u8; IFADDR_BYTES] {
    let mut head = [family, prefix, 0, libc::RT_SCOPE_UNIVERSE, 0, 0, 0, 0];
    head[4..8].copy_from_slice(&index.to_ne_bytes());
    head
}

fn ignore(result: io::Result<()>, errno: i32) -> io::Result<()> {
    match result {
        Err(error) if error.raw_os_error() == Some(errno) => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_matter() {
        let message = |family, scope, flags: u32| {
            let mut head = [family, 64, 0, scope, 0, 0, 0, 0];
            head[4] = 3;
            Message::new(libc::RTM_NEWADDR, 0, &head)
                .attr(libc::IFA_ADDRESS, &[0xfe; 16])
                .attr(libc::IFA_FLAGS, &flags.to_ne_bytes())
        };
        // QEMU's user network advertises a site's prefix.
        for scope in [libc::RT_SCOPE_UNIVERSE, libc::RT_SCOPE_SITE] {
            assert!(matches!(news(&message(INET6, scope, 0)), Some(News::Address { index: 3, prefix: 64, .. })));
        }
        assert_eq!(news(&message(INET6, libc::RT_SCOPE_LINK, 0)), None);
        assert_eq!(news(&message(INET6, libc::RT_SCOPE_UNIVERSE, IFA_F_TENTATIVE)), None);
        assert_eq!(news(&message(INET, libc::RT_SCOPE_UNIVERSE, 0)), None);
    }

    #[test]
    fn nets() {
        let own = Ipv4Addr::new(10, 0, 2, 15);
        assert!(same_net(Ipv4Addr::new(10, 0, 2, 2), (own, 24)));
        assert!(!same_net(Ipv4Addr::new(10, 0, 3, 2), (own, 24)));
        assert!(!same_net(Ipv4Addr::new(10, 0, 2, 2), (own, 32)));
        assert!(same_net(Ipv4Addr::new(1, 2, 3, 4), (own, 0)));
        assert_eq!(broadcast_of(own, 24), Some(Ipv4Addr::new(10, 0, 2, 255)));
        assert_eq!(broadcast_of(own, 31), None);
    }
}
