//! DHCP messages: what we say and what we understand.
//!
//! dhcproto writes messages and decodes single options. Its decoder of whole messages is not used, for three reasons:
//! it ends at the first option it does not like, without a word (a host name in Latin-1 would hide the lease time
//! behind it); it joins the parts of a long option (RFC 3396) only when they stand side by side; and it does not look
//! into the fields that option 52 overloads. Options that are not asked for are not decoded at all.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable};

use super::super::cmdline::{class_prefix, is_domain, is_hostname, prefix_of};
use super::super::lease::{FOREVER, Lease, Route};

/// What the client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Question {
    Discover {
        hint: Option<Ipv4Addr>,
    },
    /// An offer is taken.
    Select {
        address: Ipv4Addr,
        server: Ipv4Addr,
    },
    /// INIT-REBOOT: is this address still mine?
    Reboot {
        address: Ipv4Addr,
    },
    /// RENEWING at its server, REBINDING at any.
    Extend {
        address: Ipv4Addr,
        server: Option<Ipv4Addr>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outgoing {
    pub(crate) xid: u32,
    pub(crate) secs: u16,
    pub(crate) question: Question,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    Offer(Lease),
    Ack(Lease),
    Nak { server: Option<Ipv4Addr>, reason: Option<String> },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) xid: u32,
    pub(crate) verdict: Verdict,
}

/// What we want to be told. RFC 3442: classless routes stand before the router.
const WANTED: [OptionCode; 11] = [
    OptionCode::SubnetMask,
    OptionCode::ClasslessStaticRoute,
    OptionCode::Router,
    OptionCode::DomainNameServer,
    OptionCode::Hostname,
    OptionCode::DomainName,
    OptionCode::DomainSearch,
    OptionCode::InterfaceMtu,
    OptionCode::AddressLeaseTime,
    OptionCode::Renewal,
    OptionCode::Rebinding,
];

/// Longest message we take: an Ethernet frame without its IP and UDP headers.
const MESSAGE_MAX_BYTES: u16 = 1472;
const ETHERNET: u8 = 1;
const OPTION_OVERLOAD: u8 = 52;
const MAGIC: [u8; 4] = [99, 130, 83, 99];
/// The fixed part, the magic included.
const HEAD_BYTES: usize = 240;
/// BOOTP's message had this size, and some relays drop smaller ones.
const BOOTP_BYTES: usize = 300;
/// Addresses, routes and domains of which more are of no use.
const LIST_MAX: usize = 32;
/// Every host must take a packet of this size (RFC 791): less is a mistake or an attack.
const MTU_MIN: u16 = 576;

/// The bytes of a message.
pub(crate) fn encode(outgoing: &Outgoing, mac: [u8; 6], hostname: Option<&str>) -> Result<Vec<u8>, String> {
    let mut message = Message::default();
    message.set_opcode(Opcode::BootRequest).set_xid(outgoing.xid).set_secs(outgoing.secs).set_chaddr(&mac);
    let mut options = vec![
        DhcpOption::MaxMessageSize(MESSAGE_MAX_BYTES),
        // The card's address, as type 1: leases and reservations are the same whichever of the two a server goes by.
        DhcpOption::ClientIdentifier([&[ETHERNET][..], &mac].concat()),
        DhcpOption::ClassIdentifier(b"orlop".to_vec()),
        DhcpOption::ParameterRequestList(WANTED.to_vec()),
    ];
    options.extend(hostname.map(|name| DhcpOption::Hostname(name.into())));
    let mut kind = MessageType::Request;
    // While the card has no address, servers are asked to answer to all: a unicast answer needs an ARP entry that some
    // servers and virtual switches do not make.
    let mut flags = Flags::default().set_broadcast();
    match outgoing.question {
        Question::Discover { hint } => {
            kind = MessageType::Discover;
            options.extend(hint.map(DhcpOption::RequestedIpAddress));
        }
        Question::Select { address, server } => {
            options.extend([DhcpOption::RequestedIpAddress(address), DhcpOption::ServerIdentifier(server)]);
        }
        Question::Reboot { address } => options.push(DhcpOption::RequestedIpAddress(address)),
        Question::Extend { address, .. } => {
            message.set_ciaddr(address);
            flags = Flags::default();
        }
    }
    message.set_flags(flags);
    options.push(DhcpOption::MessageType(kind));
    for option in options {
        message.opts_mut().insert(option);
    }
    let mut bytes = message.to_vec().map_err(|error| error.to_string())?;
    bytes.resize(bytes.len().max(BOOTP_BYTES), 0);
    Ok(bytes)
}

/// A server's answer to this card; none if it is anything else, or of no use.
pub(crate) fn decode(bytes: &[u8], mac: [u8; 6]) -> Option<Reply> {
    let head = bytes.get(..HEAD_BYTES)?;
    if head[..3] != [2, ETHERNET, 6] || head[28..34] != mac || head[236..] != MAGIC {
        return None;
    }
    let word = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let options = Options::read(bytes);
    let server = options.address(OptionCode::ServerIdentifier);
    let lease = || options.lease(Ipv4Addr::from_bits(word(16)), server?);
    let verdict = match options.get(OptionCode::MessageType)? {
        DhcpOption::MessageType(MessageType::Offer) => Verdict::Offer(lease()?),
        DhcpOption::MessageType(MessageType::Ack) => Verdict::Ack(lease()?),
        DhcpOption::MessageType(MessageType::Nak) => {
            let reason = match options.get(OptionCode::Message) {
                Some(DhcpOption::Message(text)) => Some(clean(&text)),
                _ => None,
            };
            Verdict::Nak { server, reason }
        }
        _ => return None,
    };
    Some(Reply { xid: word(4), verdict })
}

/// The options by their number, long ones joined, as bytes.
struct Options(BTreeMap<u8, Vec<u8>>);

impl Options {
    fn read(message: &[u8]) -> Self {
        let mut options = Self(BTreeMap::new());
        options.walk(&message[HEAD_BYTES..]);
        // Bit 1 of the overload: options go on in `file`, bit 2: in `sname`.
        let overload = options.0.get(&OPTION_OVERLOAD).and_then(|value| value.first().copied()).unwrap_or(0);
        if overload & 1 != 0 {
            options.walk(&message[108..236]);
        }
        if overload & 2 != 0 {
            options.walk(&message[44..108]);
        }
        options
    }

    fn walk(&mut self, mut bytes: &[u8]) {
        while let [code, rest @ ..] = bytes {
            bytes = rest;
            match code {
                0 => continue,
                255 => return,
                _ => {}
            }
            let Some((length, rest)) = rest.split_first() else { return };
            let Some((value, rest)) = rest.split_at_checked(usize::from(*length)) else { return };
            self.0.entry(*code).or_default().extend_from_slice(value);
            bytes = rest;
        }
    }

    /// One option, decoded by the library from the form it expects: parts of at most 255 bytes, side by side.
    fn get(&self, code: OptionCode) -> Option<DhcpOption> {
        let number = u8::from(code);
        let value = self.0.get(&number)?;
        let mut bytes = Vec::with_capacity(value.len() + 8);
        for part in value.chunks(255) {
            bytes.extend([number, u8::try_from(part.len()).ok()?]);
            bytes.extend_from_slice(part);
        }
        DhcpOption::decode(&mut Decoder::new(&bytes)).ok()
    }

    fn address(&self, code: OptionCode) -> Option<Ipv4Addr> {
        match self.get(code)? {
            DhcpOption::ServerIdentifier(address) | DhcpOption::SubnetMask(address) => Some(address),
            _ => None,
        }
    }

    fn seconds(&self, code: OptionCode) -> Option<u32> {
        match self.get(code)? {
            DhcpOption::AddressLeaseTime(seconds) | DhcpOption::Renewal(seconds) | DhcpOption::Rebinding(seconds) => {
                Some(seconds)
            }
            _ => None,
        }
    }

    fn lease(&self, address: Ipv4Addr, server: Ipv4Addr) -> Option<Lease> {
        if !is_host(address) || !is_host(server) {
            return None;
        }
        let lease_seconds = self.seconds(OptionCode::AddressLeaseTime).filter(|seconds| *seconds > 0)?;
        let (renew_seconds, rebind_seconds) = self.times(lease_seconds);
        let prefix = self.address(OptionCode::SubnetMask).and_then(prefix_of).filter(|prefix| *prefix > 0);
        Some(Lease {
            address,
            prefix: prefix.unwrap_or_else(|| class_prefix(address)),
            server,
            renew_seconds,
            rebind_seconds,
            lease_seconds,
            routes: self.routes(),
            dns: self.dns(),
            search: self.search(),
            mtu: match self.get(OptionCode::InterfaceMtu) {
                Some(DhcpOption::InterfaceMtu(mtu)) if mtu >= MTU_MIN => Some(mtu),
                _ => None,
            },
            hostname: match self.get(OptionCode::Hostname) {
                Some(DhcpOption::Hostname(name)) => Some(clean(&name)).filter(|name| is_hostname(name)),
                _ => None,
            },
        })
    }

    /// T1 and T2: the server's if they are in order, else a half and seven eighths.
    fn times(&self, lease: u32) -> (u32, u32) {
        if lease == FOREVER {
            return (FOREVER, FOREVER);
        }
        let renew = self.seconds(OptionCode::Renewal).filter(|renew| (1..lease).contains(renew)).unwrap_or(lease / 2);
        let rebind = self.seconds(OptionCode::Rebinding).filter(|rebind| *rebind > renew && *rebind < lease);
        (renew, rebind.unwrap_or_else(|| (lease - lease / 8).max(renew)))
    }

    /// RFC 3442: where classless routes are given, the router option does not count.
    fn routes(&self) -> Vec<Route> {
        if let Some(DhcpOption::ClasslessStaticRoute(routes)) = self.get(OptionCode::ClasslessStaticRoute)
            && !routes.is_empty()
        {
            let usable = routes.into_iter().filter(|(_, gateway)| gateway.is_unspecified() || is_host(*gateway));
            let routes = usable.map(|(to, gateway)| Route {
                destination: to.network(),
                prefix: to.prefix_len(),
                gateway: (!gateway.is_unspecified()).then_some(gateway),
            });
            return routes.take(LIST_MAX).collect();
        }
        match self.get(OptionCode::Router) {
            Some(DhcpOption::Router(routers)) => {
                routers.into_iter().find(|router| is_host(*router)).map(Route::default_by).into_iter().collect()
            }
            _ => Vec::new(),
        }
    }

    fn dns(&self) -> Vec<Ipv4Addr> {
        match self.get(OptionCode::DomainNameServer) {
            Some(DhcpOption::DomainNameServer(servers)) => {
                servers.into_iter().filter(|server| is_host(*server)).take(LIST_MAX).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The search list, else the domain. What is no name of letters, digits, dots and dashes could be a line of its own
    /// in resolv.conf.
    fn search(&self) -> Vec<String> {
        let names: Vec<String> = match self.get(OptionCode::DomainSearch) {
            Some(DhcpOption::DomainSearch(names)) => names.iter().map(ToString::to_string).collect(),
            _ => Vec::new(),
        };
        let names = match (names.is_empty(), self.get(OptionCode::DomainName)) {
            // Some servers put several domains here, which RFC 2132 does not say and everybody takes.
            (true, Some(DhcpOption::DomainName(text))) => clean(&text).split(' ').map(Into::into).collect(),
            _ => names,
        };
        let names: Vec<_> = names.iter().map(|name| name.trim_end_matches('.').to_string()).take(LIST_MAX).collect();
        if names.iter().all(|name| is_domain(name)) { names } else { Vec::new() }
    }
}

/// Some servers end their texts with a NUL.
fn clean(text: &str) -> String {
    text.trim_end_matches('\0').to_string()
}

/// An address one machine can have.
fn is_host(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_loopback() || address.is_multicast() || address.octets()[0] >= 240)
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
